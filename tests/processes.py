"""Processes of one group, forked by the server that starts commands, for what several processes share."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import distributed, multiprocessing

from tests.commands import preload

Work = Callable[..., object]


def run_together(work: Work, folder: Path, *arguments: Any, count: int = 2) -> None:
    """Call work(rank, count, *arguments) in each of `count` processes of a gloo group.

    work: a function of a module. folder: where the processes find each other. A failure of one of them is
    raised here.
    """
    preload()
    multiprocessing.start_processes(
        _in_group,
        (count, str(folder / f"group-of-{count}"), work, arguments),
        count,
        start_method="forkserver",
    )


def _in_group(rank: int, count: int, file: str, work: Work, arguments: tuple[Any, ...]) -> None:
    gc.freeze()  # a collection would read, and so copy, all that the server has imported
    distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=count
    )
    try:
        work(rank, count, *arguments)
    finally:
        distributed.destroy_process_group()
