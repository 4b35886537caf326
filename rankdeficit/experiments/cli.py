"""Shared by all commands: start and end, run folder, device, progress, processes."""

import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import MISSING, fields
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as distributed
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rankdeficit.distributed import is_first
from rankdeficit.experiments.options import fail, option, parse, refuse_unused
from rankdeficit.experiments.recorded_settings import restore_settings, settings_record
from rankdeficit.experiments.runs import RunFolder
from rankdeficit.experiments.signals import Terminated, termination_raised

PLAIN_PROGRESS_SECONDS = 10.0
NOT_RECORDED = ("out", "resume")
T = TypeVar("T")


def main(
    settings_type: type[T],
    run: Callable[[T], object],
    program: str,
    interrupted: str | None = None,
    details: str = "",
) -> None:
    """Read settings from the command line and run.

    Bad input of any kind, a full disk and a closed standard output are one line on stderr and exit
    status 2; Ctrl-C is exit status 130, SIGTERM 143, with a line on how to resume.
    interrupted: that line's advice, for programs without an option `resume`.
    details: follows the description of the settings in the help.
    """
    if sys.stderr is None:  # closed by the caller
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if sys.stdout is None:
        fail(program, "standard output is closed; send it to a file, or to /dev/null")
    try:
        try:
            run_once(settings_type, run, program, details)
        finally:
            sys.stdout.flush()
    except (ValueError, OSError) as error:
        fail(program, _explain(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and (
            "allocate memory" not in str(error)
        ):
            raise
        fail(program, "out of memory; make the problem smaller, or use a larger machine or device")
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        advice = [*getattr(stop, "__notes__", ()), *((interrupted,) if interrupted else ())]
        told = "; ".join(["terminated" if terminated else "interrupted", *advice])
        print(f"{program}: {told}", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if terminated else signal.SIGINT))


def run_once(
    settings_type: type[T], run: Callable[[T], object], program: str, details: str = ""
) -> None:
    """Read settings from the command line and run; SIGTERM raises Terminated meanwhile."""
    arguments = sys.argv[1:]
    settings = parse(settings_type, arguments, program, details)
    given = {argument.partition("=")[0] for argument in arguments if argument[:2] == "--"}
    if "--resume" in given and len(given) > 1:
        refuse_beside_resume(min(given - {"--resume"}))
    if "--resume" not in given:
        refuse_unused(settings, arguments)
    with termination_raised():
        run(settings)


def _explain(error: Exception) -> str:
    """The error as one line. An OSError that names no file comes from standard output."""
    if not isinstance(error, OSError) or error.filename is not None or error.errno is None:
        return str(error)
    with suppress(OSError):  # what is left in its buffer shall not fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return (
        f"standard output cannot be written ({error.strerror}); send it elsewhere; "
        "files that were written are kept"
    )


def open_run(settings: T, program: str, default_name: str) -> tuple[RunFolder, T, bool]:
    """The run folder that settings with `out` and `resume` fields name, and the run's settings.

    The last value is whether the run is resumed; every setting then comes from the folder.
    """
    out, resume = getattr(settings, "out", None), getattr(settings, "resume", None)
    if resume is None:
        path = out or _unused(Path("runs") / f"{default_name}-{datetime.now():%Y%m%d-%H%M%S}")
        record = settings_record(settings, NOT_RECORDED)
        return RunFolder.create(path, program, record), settings, False
    changed = [
        field.name
        for field in fields(settings)  # type: ignore[arg-type]
        if field.name != "resume"
        and field.default is not MISSING
        and getattr(settings, field.name) != field.default
    ]
    if changed:
        refuse_beside_resume(option(changed[0]))
    folder, record = RunFolder.reopen(resume, program)
    return folder, restore_settings(type(settings), record, NOT_RECORDED), True


@contextmanager
def resumable(folder: RunFolder | None, program: str) -> Iterator[None]:
    """The work of a run: if it is interrupted, `main` prints the command that resumes the folder.

    folder: None in processes that have none.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if folder is not None:
            resume = f"python -m {program} --resume {shlex.quote(str(folder.path))}"
            stop.add_note(f"{resume} goes on where it stopped")
        raise


@contextmanager
def new_run(settings: Any, program: str, default_name: str) -> Iterator[RunFolder | None]:
    """A new run folder in the first process, None in the others; deleted if the block fails."""
    if not is_first():
        yield None
        return
    folder, _, _ = open_run(settings, program, default_name)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder.path)
        raise
    finally:
        folder.close()


def refuse_beside_resume(option: str) -> NoReturn:
    """Raise: a resumed run takes no other option."""
    raise ValueError(f"--resume takes every setting from its folder; leave out {option}")


def _unused(path: Path) -> Path:
    """The path, with a number if another run was started in the same second."""
    numbered = (path.with_name(f"{path.name}-{i}") for i in count(2))
    return path if not path.exists() else next(p for p in numbered if not p.exists())


def resolve_device(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one. Raises ValueError otherwise."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"device is {name!r}; it must be auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    available = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= available:
        raise ValueError(
            f"device is {name!r}, but torch finds {available or 'no'} CUDA device(s); "
            "use --device auto"
        )
    return device


@contextmanager
def progress(
    description: str, total: int, unit: str, done: int = 0
) -> Iterator[Callable[[int], Any]]:
    """A live bar on a terminal, and a plain line every ten seconds elsewhere; yields set_done.

    unit: what is counted, for example "steps". Only the first of several processes prints.
    """
    if not is_first():
        yield lambda completed: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_progress(description, total, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed}}/{{task.total}} {unit}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total, completed=done)
        yield lambda completed: bar.update(task, completed=completed)


@contextmanager
def progress_in_parts(
    totals: Mapping[str, int], unit: str, other_total: int, other_unit: str
) -> Iterator[Callable[[str, int], None]]:
    """Progress of one named part after the other; yields set_done(name, completed).

    totals: by name of the part, how many `unit` it has. Parts that it does not name have
    `other_total` of `other_unit`.
    """
    shown: dict[str, Callable[[int], Any]] = {}
    with ExitStack() as current:

        def set_done(name: str, completed: int) -> None:
            if name not in shown:
                current.close()
                counted = (totals[name], unit) if name in totals else (other_total, other_unit)
                shown[name] = current.enter_context(progress(name, *counted))
            shown[name](completed)

        yield set_done


def say(message: object) -> None:
    """Print a line on stderr, from the first of several processes."""
    if is_first():
        print(message, file=sys.stderr, flush=True)


def _plain_progress(description: str, total: int, unit: str) -> Callable[[int], None]:
    started = shown = time.monotonic()
    first: int | None = None

    def set_done(completed: int) -> None:
        nonlocal shown, first, started
        now = time.monotonic()
        if first is None:
            first, started = completed, now
        if now - shown >= PLAIN_PROGRESS_SECONDS:
            shown = now
            told = f"{description}: {completed}/{total} {unit}"
            if first < completed < total:
                left = (now - started) * (total - completed) / (completed - first)
                told += f", about {left:.0f} s left"
            print(told, file=sys.stderr, flush=True)

    return set_done


@contextmanager
def joined(device_name: str) -> Iterator[torch.device]:
    """The device of this process; under torchrun, within a process group of all processes.

    GPUs talk by nccl, CPUs by gloo. Raises ValueError for more processes than GPUs.
    """
    device = resolve_device(device_name)
    if not distributed.is_torchelastic_launched():
        yield device
        return
    if device.type == "cuda":
        number, processes = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        gpus = torch.cuda.device_count()
        if device.index is not None or processes > gpus:
            raise ValueError(
                f"device is {device_name!r} for {processes} processes, which need a GPU each; "
                f"use --device cuda and --nproc-per-node {gpus}"
            )
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", device_id=device)
    else:
        distributed.init_process_group("gloo")
    # torchrun ends its processes with this signal and reports it: they only clean up
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield device
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise ValueError("another process has failed; see its message") from error
        raise
    finally:
        distributed.destroy_process_group()
