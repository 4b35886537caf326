"""Rows of measures for TensorBoard."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def row_writer(folder: Path, wanted: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that writes the numbers of each row, at its `step`, to the folder, if wanted.

    Nothing is written before the first row, which voids what an earlier process wrote from that step on.
    """
    if not wanted:
        yield lambda row: None
        return
    writer: Any = None

    def write(row: Mapping[str, Any]) -> None:
        nonlocal writer
        if writer is None:
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(folder), purge_step=row["step"])
        for name, value in row.items():
            if isinstance(value, int | float) and name not in ("step", "epoch"):
                writer.add_scalar(name, value, row["step"])
        writer.flush()

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
