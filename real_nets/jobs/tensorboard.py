"""Measures during training as TensorBoard shows them (extra `tensorboard`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from real_nets.jobs.records import Row


@contextmanager
def row_writer(folder: Path, wanted: bool) -> Iterator[Callable[[Row], None]]:
    """A function that writes the numbers of each row to FOLDER/tensorboard, if wanted.

    Nothing is written before the first row; what an earlier process wrote from its step on is then void.
    """
    if not wanted:
        yield lambda row: None
        return
    writer: Any = None

    def write(row: Row) -> None:
        nonlocal writer
        if writer is None:
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(folder / "tensorboard"), purge_step=row["step"])
        for name, value in row.items():
            if isinstance(value, int | float) and name not in ("step", "epoch"):
                writer.add_scalar(name, value, row["step"])
        writer.flush()

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
