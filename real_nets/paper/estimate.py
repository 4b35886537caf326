"""The plan of a command and an estimate of its duration, printed before it starts."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from statistics import median

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from rankdeficit.distributed import is_first
from rankdeficit.page.terminal import open_console, say
from real_nets.data.opening import DataSource
from real_nets.jobs.data import JobData
from real_nets.jobs.execute import Execution, Work, devices
from real_nets.jobs.job import Job
from real_nets.jobs.measures import Follower, measured_at
from real_nets.jobs.run import initial_network
from real_nets.jobs.trial import Trials
from real_nets.paper.plan import Plan
from real_nets.paper.targets import TARGETS
from real_nets.training.loop import DivergedError, Training

WARM_UP, TIMED = 2, 5
"""Numbers of untimed and of timed steps of a network."""

PROBE_SECONDS = 0.2
"""Rough duration of a probe of one layer on 1000 images of 100 classes."""


@dataclass(frozen=True)
class Estimate:
    """Estimated seconds of one job."""

    training: float
    measuring: float
    diagnosing: float

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return self.training + self.measuring + self.diagnosing


def estimates(
    pending: Sequence[Work], source: DataSource, device: torch.device, trials: Trials
) -> list[Estimate]:
    """Estimate of the remaining work of each job, from the time of a few steps of each kind of job."""
    known: dict[Job, Estimate] = {}
    for item in pending:
        if item.job.kind not in known:
            try:
                known[item.job.kind] = estimate(item.job, source, device, trials)
            except ValueError as error:  # name the options that the target set
                if own := _own_options(item.job):
                    place = f"{item.job.model} on {item.job.data}{own}"
                    raise ValueError(f"{place}: {error}") from error
                raise
    return [left(known[item.job.kind], item) for item in pending]


def left(whole: Estimate, item: Work) -> Estimate:
    """The work left of a job, given the estimate of the whole job with one diagnosis."""
    diagnosing = whole.diagnosing * len(item.undiagnosed)
    if item.trained:
        return Estimate(0.0, 0.0, diagnosing)
    return replace(whole, diagnosing=diagnosing)


def estimate(job: Job, source: DataSource, device: torch.device, trials: Trials) -> Estimate:
    """Estimate of a job with one diagnosis, from timing a few steps and one measurement."""
    data = JobData(job, source, device)
    trials.check(job, data)
    model = initial_network(job, data)
    training = Training(
        model, data.batches, job, temperature=job.temperature, seed=job.seed, device=device
    )
    follower = Follower(training.model, job, data)
    started = time.perf_counter()
    follower.measure()
    measuring = time.perf_counter() - started
    times = [time.perf_counter()]

    def note(step: int) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter())

    with suppress(DivergedError):  # the job itself will report it
        training.run_until(min(WARM_UP + TIMED, training.steps), note)
    spans = [after - before for before, after in pairwise(times)]
    step = median(spans[WARM_UP:] or spans or [0.0])
    layers, sets = len(follower.network.layers.chosen), 1 + len(data.ood)
    images = min(job.diagnosed_images or len(data.train), len(data.train))
    passing = measuring * images / min(job.followed_images, len(data.train))
    probing = PROBE_SECONDS * layers * sets * images / 1000
    measurements = len(measured_at(job.epochs, training.batches.steps_per_epoch))
    return Estimate(step * training.steps, measuring * measurements, 2 * passing + probing)


def announce(
    work: Sequence[Work],
    left_out: Mapping[str, str],
    execution: Execution,
    device: torch.device,
    *,
    synthetic: bool,
    planning: bool = False,
) -> None:
    """Print what will run, what was left out, and the estimated duration.

    Tasks for a cluster are timed on this machine only if planning.
    """
    pending = [item for item in work if not item.done]
    console = open_console(stderr=True)
    if is_first():
        show_plan(work, pending, console)
        if synthetic and work:
            say(console, "Glyphs (drawn letters) replace all data sets in this budget.")
        for name, reason in left_out.items():
            say(console, f"Left out: {name}: {reason}")
    if pending and execution.executor == "slurm" and not planning:
        if is_first():
            hint = "For the duration of tasks, run --plan on a machine like those of the cluster."
            say(console, hint)
    elif pending:
        duration = spell_total(pending, execution, device)
        if is_first():
            say(console, duration)


def announce_later_diagnoses(plan: Plan) -> None:
    """Announce the diagnoses that cannot be planned before networks are trained."""
    if is_first() and any(part.target.compared and part.grid.cells for part in plan.parts):
        note = (
            "Pairs that both reach a common train accuracy are also diagnosed there: at most one more "
            "diagnosis per network."
        )
        say(open_console(stderr=True), note)


def spell_total(pending: Sequence[Work], execution: Execution, device: torch.device) -> str:
    """The estimated duration of the work, timed in this process even for tasks."""
    if execution.executor == "here":
        found = estimates(pending, execution.source, device, execution.trials)
        whole = spell_duration(sum(one.total for one in found))
        return f"About {whole} on {spell_parts(found, device)}"
    try:
        # an empty cache: tasks open the data themselves, so the images need not stay in memory here
        source = replace(execution.source, opened={}, normalisations={})
        found = estimates(pending, source, device, Trials())
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and "allocate memory" not in str(error):
            raise
        return "The duration is unknown, as these networks are too large for this machine."
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return spell_tasks(found, execution, device)


def show_plan(work: Sequence[Work], pending: Sequence[Work], console: Console) -> None:
    """Print a table of the jobs, a row for those that differ only in their seeds."""
    if not work:
        say(console, "No networks to train or diagnose.")
        return
    table = Table(box=box.SIMPLE_HEAVY)
    for name in ("network", "data", "out of distribution", "T", "epochs", "seeds", "to do"):
        number = name in ("T", "epochs", "seeds", "to do")
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    todo = {item.job.key for item in pending}
    rows: dict[tuple[object, ...], list[Job]] = {}
    for item in work:
        rows.setdefault((item.job.kind, item.job.temperature), []).append(item.job)
    for jobs in rows.values():
        first = jobs[0]
        width = f" (width {first.width})" if first.width else ""
        table.add_row(
            f"{first.model}{width}{_own_options(first)}",
            first.data,
            " ".join(first.ood) or "none",
            f"{first.temperature:g}",
            str(first.epochs),
            str(len(jobs)),
            str(sum(job.key in todo for job in jobs)),
        )
    console.print(table)
    done = len(work) - len(pending)
    reused = f"; {done} finished before and reused" if done else ""
    say(console, f"{len(pending)} of {len(work)} networks to train or diagnose{reused}.")


def spell_tasks(found: Sequence[Estimate], execution: Execution, device: torch.device) -> str:
    """The estimated duration of jobs as tasks."""
    longest = spell_duration(max(one.total for one in found))
    if execution.executor == "slurm" and execution.at_once is None:
        together = f"{spell_duration(sum(one.total for one in found))} in total if one by one"
    else:
        slots = len(devices(execution, len(found)))
        whole = spell_duration(makespan([one.total for one in found], slots))
        together = f"{whole} in total, {slots} at a time"
    tasks = f"{len(found)} task{'s' if len(found) > 1 else ''}"
    measured = "timed on this machine: " if execution.executor == "slurm" else ""
    return (
        f"{tasks}: about {longest} for the longest, {together}; {measured}"
        f"{spell_parts(found, device)}"
    )


def makespan(seconds: Sequence[float], slots: int) -> float:
    """Total time of tasks in this order, each starting as soon as a slot is free."""
    busy = [0.0] * slots
    for each in seconds:
        busy[busy.index(min(busy))] += each
    return max(busy)


def spell_parts(found: Sequence[Estimate], device: torch.device) -> str:
    """The device of the timing, and the estimated time by kind of work."""
    training = sum(one.training for one in found)
    measuring = sum(one.measuring for one in found)
    diagnosing = sum(one.diagnosing for one in found)
    threads = torch.get_num_threads()
    where = f"{device} with {threads} CPU thread{'s' if threads > 1 else ''}"
    return (
        f"{where}, from {TIMED} timed steps of each kind of network: training "
        f"{spell_duration(training)}, measurements {spell_duration(measuring)}, diagnoses very roughly "
        f"{spell_duration(diagnosing)}."
    )


def spell_duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def list_targets() -> None:
    """Print the names of all targets with a description."""
    table = Table("target", "description", box=box.SIMPLE_HEAVY)
    for target in TARGETS.values():
        table.add_row(target.name, f"{target.title}\n[dim]{target.about}[/dim]")
    open_console().print(table)


def _own_options(job: Job) -> str:
    """The options of a network that differ from their defaults."""
    names = "depth norm head_rank head_norm init init_scale head_scale loss".split()
    defaults = {field.name: field.default for field in fields(Job)}
    changed = [f"{n} {getattr(job, n)}" for n in names if getattr(job, n) != defaults[n]]
    return f", {', '.join(changed)}" if changed else ""
