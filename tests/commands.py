"""Commands in processes that start at once: a server that has imported everything forks them."""

import gc
import itertools
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from rankdeficit.experiments.experiment import Experiment
from rankdeficit.experiments.runs import RunFolder
from tests.undrawn import save_digest

MODULES = [
    "real_nets.train", "real_nets.reproduce", "tests.commands", "simulations.ufm",
    "rankdeficit.experiments.experiment", "real_nets.diagnose", "torch.distributed", "hypothesis",
    "typeguard", "pytorch_ood.detector",
]  # fmt: skip


def preload() -> None:
    """Let the server of processes import what all of them need, before its first one."""
    multiprocessing.set_forkserver_preload(MODULES)


@dataclass
class Ended:
    """How a command ended and what it said."""

    status: int | None
    out: str
    err: str

    def error(self) -> str:
        """The one line that it says of an error, after whatever it told before."""
        assert self.status == 2, self.err
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        assert [": error: " in line for line in lines] == [False] * (len(lines) - 1) + [True]
        return lines[-1]


class Command:
    """`python -m MODULE ARGUMENTS` or `python FILE.py ARGUMENTS` beside the test, until `end`."""

    def __init__(
        self,
        said: Path,
        module: str,
        *arguments: object,
        largest_file: int | None = None,
        stop: tuple[signal.Signals, int] | None = None,
        output: Path | None = None,
        drawing: bool = True,
        rendering: bool = True,
        background: bool = False,
    ) -> None:
        """said: a new folder for what it prints. largest_file: bytes beyond which no file may grow.

        stop: a signal that the command gets just before its n-th checkpoint. output: a file, as
        /dev/full, to print to instead. drawing: whether an experiment makes figures.
        rendering: whether figures are rendered, which takes most of a short run. background: whether
        it is as a script starts it there, which ignores Ctrl-C.
        """
        said.mkdir()
        self.said = said
        preload()
        self.process: BaseProcess = multiprocessing.get_context("forkserver").Process(
            target=_carry_out,
            args=(
                module, [str(word) for word in arguments], said, largest_file, stop, output, drawing,
                drawing and rendering, background,
            ),
        )  # fmt: skip
        self.process.start()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Until that holds or the command has ended."""
        while self.process.is_alive() and not condition():
            self.process.join(0.002)

    def end(self, seconds: float = 120.0) -> Ended:
        """Wait for its end; one that does not come is a failure, and leaves no process behind."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise AssertionError(f"no end within {seconds:g} s")
        out, err = (
            path.read_text() if (path := self.said / name).exists() else ""
            for name in ("out", "err")
        )
        return Ended(self.process.exitcode, out, err)


def _carry_out(
    module: str,
    arguments: list[str],
    said: Path,
    largest_file: int | None,
    stop: tuple[signal.Signals, int] | None,
    output: Path | None,
    drawing: bool,
    rendering: bool,
    background: bool,
) -> None:
    gc.freeze()  # a collection would read, and so copy, all that the server has imported
    for number, path in ((1, output or said / "out"), (2, said / "err")):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout.reconfigure(line_buffering=False)  # type: ignore[union-attr]
    if stop is not None:
        _stop_before_checkpoint(*stop)
    if not drawing:
        Experiment.draw = lambda self, path: None  # type: ignore[method-assign]
    if not rendering:
        Figure.savefig = save_digest  # type: ignore[method-assign]
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    # As from a terminal, even where the tests were started in the background.
    signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.default_int_handler)
    torch.set_num_threads(1)
    sys.argv = [module, *arguments]
    warnings.simplefilter("ignore", RuntimeWarning)  # of modules that the server has imported
    os.environ["COLUMNS"] = "200"
    if module.endswith(".py"):
        sys.path.insert(0, str(Path(module).parent))
        runpy.run_path(module, run_name="__main__")
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _stop_before_checkpoint(number: signal.Signals, count: int) -> None:
    save, calls = RunFolder.save_checkpoint, itertools.count(1)

    def stopping(folder: RunFolder, state: dict[str, Any]) -> None:
        if next(calls) == count:
            os.kill(os.getpid(), number)
        save(folder, state)

    RunFolder.save_checkpoint = stopping  # type: ignore[method-assign]
