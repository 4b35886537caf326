"""Tasks of submitit, on this machine or in a cluster: executor, interruption, failures."""

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

STANDARD_ERROR = 2
"""Its file descriptor."""

TASK_MINUTES = 24 * 60
"""Time limit of a task unless the options give one; submitit's own is minutes."""

CANCEL_SECONDS = 10.0
"""How long an interrupted command waits for its tasks on this machine to end."""


def executor(name: str, options: Mapping[str, str], logs: Path) -> Any:
    """submitit's executor: local, or slurm.

    options: of the tasks, such as timeout_min; the time limit is a day unless they give one.
    Raises ValueError where there is no such cluster, and for unknown options.
    """
    import submitit

    given = {key: _number(text) for key, text in options.items()}
    try:
        made = submitit.AutoExecutor(folder=logs, cluster=name)
        made.update_parameters(**{"timeout_min": TASK_MINUTES} | given)
    except RuntimeError as error:
        raise ValueError(f"executor is {name!r}, but submitit says: {error}") from error
    except (NameError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"slurm is {given}, but submitit says: {said}") from error
    return made


@contextmanager
def left_in_order(running: Mapping[Any, object], executor: str) -> Iterator[None]:
    """If the command is interrupted, tasks on this machine are ended; those of a cluster are named."""
    try:
        yield
    except BaseException:
        if executor == "local":
            _cancel(running)
        elif running:
            numbers = " ".join(str(task.job_id) for task in running)
            said = (
                f"{len(running)} tasks keep running in the cluster; end them with scancel {numbers}"
            )
            print(said, file=sys.stderr, flush=True)
        raise


@contextmanager
def errors_to(file: Path) -> Iterator[None]:
    """Append standard error of this process, and of those it starts inside the block, to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    usual = os.dup(STANDARD_ERROR)
    try:
        with file.open("ab") as log:
            os.dup2(log.fileno(), STANDARD_ERROR)
        yield
    finally:
        os.dup2(usual, STANDARD_ERROR)
        os.close(usual)


def terminate(task: Any) -> None:
    """Send SIGTERM to the process of a task on this machine, which passes it on."""
    with suppress(ProcessLookupError):
        os.kill(int(task.job_id), signal.SIGTERM)


def _cancel(tasks: Iterable[Any]) -> None:
    """End tasks on this machine, and wait until they have released their folders.

    First by SIGTERM: submitit's way is SIGINT, which processes started in the background may ignore.
    """
    for end in (terminate, lambda task: task.cancel(check=False)):
        for task in tasks:
            end(task)
        patience = time.monotonic() + CANCEL_SECONDS
        while not all(task.done() for task in tasks):
            if time.monotonic() > patience:
                break
            time.sleep(0.05)
        else:
            return


def why_failed(task: Any, error: Exception) -> str:
    """The last line of a failed task's log, or that it was killed."""
    from submitit.core.utils import FailedJobError

    if isinstance(error, FailedJobError):
        return str((task.stderr() or str(error)).strip().splitlines()[-1])
    return f"killed, or out of time or memory (state {task.state}); run again to go on"


def _number(text: str) -> Any:
    """Digits as an int, which submitit requires."""
    return int(text) if text.isdigit() else text
