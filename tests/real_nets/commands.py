"""Commands in processes that start at once: a server that has imported everything forks them."""

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from rankdeficit.experiments import cli

MODULES = ["real_nets.train", "real_nets.reproduce", "tests.real_nets.commands"]


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
    """`python -m MODULE ARGUMENTS`, which runs beside the test until `end`."""

    def __init__(
        self, said: Path, module: str, *arguments: object, largest_file: int | None = None
    ) -> None:
        """said: a new folder for what it prints. largest_file: bytes beyond which no file may grow."""
        said.mkdir()
        self.said = said
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(MODULES)
        self.process: BaseProcess = context.Process(
            target=_carry_out, args=(module, [str(word) for word in arguments], said, largest_file)
        )
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
        out, err = ((self.said / name).read_text() for name in ("out", "err"))
        return Ended(self.process.exitcode, out, err)


def _carry_out(module: str, arguments: list[str], said: Path, largest_file: int | None) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), number)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    # As from a terminal, even where the tests were started in the background, which ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    sys.argv = [module, *arguments]
    program = import_module(module)
    cli.main(program.Settings, program.run, program.PROGRAM)
