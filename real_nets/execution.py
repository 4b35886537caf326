"""Jobs carried out: one after the other here, or each as a task of its own through submitit."""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from rankdeficit import cli
from real_nets.job import Job
from real_nets.job_data import JobData, Source
from real_nets.job_folder import JobFolder
from real_nets.processes import is_first, progress
from real_nets.tensorboard import row_writer
from real_nets.training import Row
from real_nets.work import diagnose_job, train_job

Executor = Literal["here", "local", "slurm"]

TASK_MINUTES = 24 * 60
"""After which a task is ended, unless the options say otherwise; submitit would take minutes."""


@dataclass(frozen=True)
class Work:
    """A job to train, and the weights of it to diagnose."""

    job: Job
    path: Path
    snapshots: tuple[str, ...]

    @property
    def trained(self) -> bool:
        """Whether the training came to its end."""
        return JobFolder(self.path).finished

    @property
    def done(self) -> bool:
        """Whether nothing is left to do; a diverged network has nothing to diagnose."""
        if not self.trained:
            return False
        files = JobFolder(self.path)
        missing = [name for name in self.snapshots if not files.diagnosis(name).is_file()]
        return not missing or files.summary()["outcome"] == "diverged"


@dataclass(frozen=True)
class How:
    """Where and how work is carried out."""

    source: Source
    device: str
    executor: Executor = "here"
    tensorboard: bool = False
    options: Mapping[str, str] | None = None
    """Of submitit's executor."""

    def __post_init__(self) -> None:
        if self.executor not in get_args(Executor):
            raise ValueError(f"executor is {self.executor!r}; it must be here, local or slurm")
        if self.options and self.executor == "here":
            raise ValueError("slurm options are for --executor slurm or local")
        if self.executor != "here" and importlib.util.find_spec("submitit") is None:
            raise ValueError(
                f"executor is {self.executor!r}, but submitit is not installed: pip install "
                '"rankdeficit[cluster]"'
            )
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                'tensorboard is not installed: pip install "rankdeficit[tensorboard]", or leave out '
                "--tensorboard"
            )


def execute(work: Sequence[Work], how: How, logs: Path, device: torch.device) -> None:
    """Do all work. Raises ValueError for what went wrong; tasks apart from it end first."""
    if not work:
        return
    if how.executor != "here":
        submit(work, how, logs)
        return
    for number, item in enumerate(work, start=1):
        carry_out(item, how, device, f"{number}/{len(work)} ")


def carry_out(item: Work, how: How, device: torch.device, prefix: str = "") -> None:
    """Train and diagnose one job, as far as that is not done."""
    summary = train_here(item, how, device, prefix)
    if summary["outcome"] == "diverged":
        if is_first():
            print(f"{item.path.name}: diverged. {summary['message']}", file=sys.stderr, flush=True)
        return
    for snapshot in item.snapshots:
        if not JobFolder(item.path).diagnosis(snapshot).is_file():
            if is_first():
                print(f"{prefix}{item.path.name}: diagnosing", file=sys.stderr, flush=True)
            diagnose_job(item.job, JobData(item.job, how.source, device), item.path, snapshot)


def train_here(item: Work, how: How, device: torch.device, prefix: str = "") -> Row:
    """Train one job in this process; its summary."""
    data = JobData(item.job, how.source, device)
    steps = item.job.epochs * data.batches().steps_per_epoch
    with (
        progress(f"{prefix}{item.path.name}", steps) as on_step,
        row_writer(item.path, how.tensorboard and is_first()) as on_row,
    ):
        return train_job(item.job, data, item.path, on_step=on_step, on_row=on_row)


def carry_out_alone(item: Work, how: How) -> None:
    """The same, as a task of its own."""
    carry_out(item, how, cli.resolve_device(how.device))


def submit(work: Sequence[Work], how: How, logs: Path) -> None:
    """Start a task per job and wait for all. Raises ValueError naming the tasks that failed."""
    executor = _executor(how, logs)
    tasks = [executor.submit(carry_out_alone, item, how) for item in work]
    print(f"{len(tasks)} tasks started; their logs are in {logs}", file=sys.stderr, flush=True)
    failed: list[str] = []
    with progress("tasks", len(tasks)) as set_done:
        for number, (item, task) in enumerate(zip(work, tasks, strict=True), start=1):
            error = task.exception()
            if error is not None:
                failed.append(f"{item.path.name}: {_why(task, error)}")
            set_done(number)
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(tasks)} tasks failed, the first of them {failed[0]} (logs in {logs})"
        )


def _executor(how: How, logs: Path) -> Any:
    """submitit's executor. Raises ValueError where there is no such cluster, and for unknown options."""
    import submitit

    options = {name: _number(text) for name, text in (how.options or {}).items()}
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=how.executor)
        executor.update_parameters(**{"timeout_min": TASK_MINUTES} | options)
    except RuntimeError as error:
        raise ValueError(f"executor is {how.executor!r}, but submitit says: {error}") from error
    except (NameError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"slurm is {options}, but submitit says: {said}") from error
    return executor


def _why(task: Any, error: Exception) -> str:
    """The last line of a failed task's log, or that it was killed."""
    from submitit.core.utils import FailedJobError

    if isinstance(error, FailedJobError):
        return str((task.stderr() or str(error)).strip().splitlines()[-1])
    return f"killed, or out of time or memory (state {task.state}); run again to go on"


def _number(text: str) -> Any:
    """Numbers as numbers: submitit wants them so."""
    return int(text) if text.isdigit() else text
