"""Execution of jobs: one after the other in this process, or each as a submitit task."""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import torch
import torch.distributed as distributed

from rankdeficit.checks import check_at_least
from rankdeficit.distributed import is_first
from rankdeficit.experiments import cli, cluster
from rankdeficit.experiments.cli import progress
from rankdeficit.experiments.signals import termination_raised
from rankdeficit.experiments.tensorboard import row_writer
from real_nets.data.opening import DataSource
from real_nets.jobs.data import JobData
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.jobs.records import Summary
from real_nets.jobs.run import diagnose_job, train_job
from real_nets.jobs.trial import Trials

Executor = Literal["here", "local", "slurm"]

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"

POLL_SECONDS = 1.0
"""Interval between checks of the running tasks."""


@dataclass(frozen=True)
class Work:
    """A job to train, and names of its diagnoses."""

    job: Job
    path: Path
    snapshots: tuple[str, ...]

    @property
    def trained(self) -> bool:
        """Whether training has finished."""
        return JobFolder(self.path).finished

    @property
    def undiagnosed(self) -> list[str]:
        """Names of the missing diagnoses."""
        return [name for name in self.snapshots if not JobFolder.named(self.path, name).diagnosed]

    @property
    def done(self) -> bool:
        """Whether nothing is left to do; diverged networks are not diagnosed."""
        if not self.trained:
            return False
        return not self.undiagnosed or JobFolder(self.path).diverged


@dataclass(frozen=True)
class Execution:
    """Settings of the execution."""

    source: DataSource
    device: str
    executor: Executor = "here"
    tensorboard: bool = False
    options: Mapping[str, str] | None = None
    """Options of submitit's executor."""
    at_once: int | None = None
    """Maximum number of concurrent tasks; None for all on a cluster, and here for one per GPU, or one."""
    trials: Trials = field(default_factory=Trials, repr=False, compare=False)
    """Trials that passed in this process."""

    def __post_init__(self) -> None:
        if self.executor not in get_args(Executor):
            raise ValueError(f"executor is {self.executor!r}; it must be here, local or slurm")
        if self.at_once is not None:
            check_at_least(1, at_once=self.at_once)
        if self.executor != "here" and distributed.is_torchelastic_launched():
            raise ValueError(
                f"executor is {self.executor!r} under torchrun, where every process would submit all "
                "tasks; leave out torchrun or --executor"
            )
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


def execute(work: Sequence[Work], execution: Execution, logs: Path, device: torch.device) -> None:
    """Carry out all work. Raises ValueError for failures, of tasks after all others have ended."""
    if not work:
        return
    if execution.executor != "here":
        submit(work, execution, logs)
        return
    for number, item in enumerate(work, start=1):
        carry_out(item, execution, device, f"{number}/{len(work)} ")


def carry_out(item: Work, execution: Execution, device: torch.device, prefix: str = "") -> None:
    """Train and diagnose one job, as far as either is missing."""
    data = JobData(item.job, execution.source, device)
    summary = train_here(item, data, execution, prefix)
    if summary["outcome"] == "diverged":
        if is_first():
            print(f"{item.path.name}: diverged. {summary['message']}", file=sys.stderr, flush=True)
        return
    for snapshot in item.undiagnosed:
        if is_first():
            message = f"{prefix}{item.path.name}: diagnosing the weights {snapshot}"
            print(message, file=sys.stderr, flush=True)
        diagnose_job(item.job, data, item.path, snapshot)


def train_here(item: Work, data: JobData, execution: Execution, prefix: str = "") -> Summary:
    """Train one job in this process; returns its summary."""
    steps = item.job.epochs * data.batches.steps_per_epoch
    with (
        progress(f"{prefix}{item.path.name}", steps, "steps") as on_step,
        row_writer(item.path / "tensorboard", execution.tensorboard and is_first()) as on_row,
    ):
        return train_job(
            item.job, data, item.path, trials=execution.trials, on_step=on_step, on_row=on_row
        )


def submit(work: Sequence[Work], execution: Execution, logs: Path) -> None:
    """Run each job as a task, within the limit on concurrent tasks, and wait for all.

    Raises ValueError with the number of failed tasks and the first of them.
    """
    from submitit.helpers import as_completed

    executor = _executor(execution, logs)
    waiting, free = list(reversed(work)), devices(execution, len(work))
    visible_gpus = os.environ.get(VISIBLE_GPUS) if execution.executor == "local" else None
    running: dict[Any, tuple[Work, str]] = {}
    failed: list[str] = []
    print(f"{len(work)} tasks; their logs are in {logs}", file=sys.stderr, flush=True)
    with (
        progress("finished", len(work), "tasks") as set_done,
        cluster.left_in_order(running, execution.executor),
    ):
        while waiting or running:
            while waiting and free:
                item, device = waiting.pop(), free.pop()
                alone = replace(execution, device=device)
                # the task's own process reports a Ctrl-C there
                with cluster.errors_to(logs / "submitit.err"):
                    task = executor.submit(carry_out_alone, item, alone, visible_gpus)
                running[task] = item, device
            task = next(as_completed(list(running), poll_frequency=POLL_SECONDS))
            item, device = running.pop(task)
            free.append(device)
            error = task.exception()
            if error is not None:
                failed.append(f"{item.path.name}: {cluster.why_failed(task, error)}")
            set_done(len(work) - len(waiting) - len(running))
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(work)} tasks failed, the first of them {failed[0]} (logs in {logs})"
        )


def carry_out_alone(item: Work, execution: Execution, visible_gpus: str | None) -> None:
    """Train and diagnose one job in the process of a task.

    visible_gpus: CUDA_VISIBLE_DEVICES of the submitting process, restored in tasks on the same machine,
    from which submitit hides the GPUs.
    """
    if local := execution.executor == "local":
        os.environ.pop(VISIBLE_GPUS, None)
        if visible_gpus is not None:
            os.environ[VISIBLE_GPUS] = visible_gpus
    with termination_raised() if local else nullcontext():  # submitit ignores SIGTERM
        carry_out(item, execution, cli.resolve_device(execution.device))


def devices(execution: Execution, tasks: int) -> list[str]:
    """One device per concurrent task; on this machine the tasks share its GPUs evenly."""
    if execution.executor == "slurm":
        return [execution.device] * (execution.at_once or tasks)
    gpus = (
        torch.cuda.device_count()
        if cli.resolve_device(execution.device) == torch.device("cuda")
        else 0
    )
    names = [f"cuda:{number}" for number in range(gpus)] or [execution.device]
    return [names[slot % len(names)] for slot in range(execution.at_once or len(names))]


def check_options(execution: Execution) -> None:
    """Raise ValueError for unknown options of submitit, and if there is no cluster."""
    if execution.executor != "here":
        with TemporaryDirectory() as logs:
            _executor(execution, Path(logs))


def _executor(execution: Execution, logs: Path) -> Any:
    return cluster.executor(execution.executor, execution.options or {}, logs)
