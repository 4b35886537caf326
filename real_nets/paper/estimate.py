"""What would run, on what, and how long it may take, told before it starts."""

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
from real_nets.jobs.execute import How, Work, devices
from real_nets.jobs.job import Job
from real_nets.jobs.measures import Follower, measured_at
from real_nets.jobs.run import initial_network
from real_nets.jobs.trial import Trials
from real_nets.paper.targets import TARGETS
from real_nets.training.loop import DivergedError, Training

WARM_UP, TIMED = 2, 5
"""Steps of a network that are timed, after a few that are not."""

PROBE_SECONDS = 0.2
"""What a probe of one layer takes on a thousand images of a hundred classes, very roughly."""


@dataclass(frozen=True)
class Estimate:
    """Seconds that one job takes."""

    training: float
    measuring: float
    diagnosing: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.training + self.measuring + self.diagnosing


def estimates(
    pending: Sequence[Work], source: DataSource, device: torch.device, trials: Trials
) -> list[Estimate]:
    """One per job, of what is left to do; each kind of job is tried for a few steps."""
    known: dict[Job, Estimate] = {}
    for item in pending:
        if item.job.kind not in known:
            try:
                known[item.job.kind] = estimate(item.job, source, device, trials)
            except ValueError as error:  # options that a target gave it, and nobody else
                if own := _own_options(item.job):
                    place = f"{item.job.model} on {item.job.data}{own}"
                    raise ValueError(f"{place}: {error}") from error
                raise
    return [left(known[item.job.kind], item) for item in pending]


def left(whole: Estimate, item: Work) -> Estimate:
    """Of a job's estimate with one diagnosis what is not done yet."""
    diagnosing = whole.diagnosing * len(item.undiagnosed)
    if item.trained:
        return Estimate(0.0, 0.0, diagnosing)
    return replace(whole, diagnosing=diagnosing)


def estimate(job: Job, source: DataSource, device: torch.device, trials: Trials) -> Estimate:
    """With one diagnosis: a few steps and a measurement of the untrained network are timed."""
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

    with suppress(DivergedError):  # the job itself will say so
        training.run_until(min(WARM_UP + TIMED, training.steps), note)
    spans = [after - before for before, after in pairwise(times)]
    step = median(spans[WARM_UP:] or spans or [0.0])
    layers, sets = len(follower.network.layers.chosen), 1 + len(data.ood)
    images = min(job.diagnosed_images or len(data.train), len(data.train))
    looking = measuring * images / min(job.followed_images, len(data.train))
    probing = PROBE_SECONDS * layers * sets * images / 1000
    measurements = len(measured_at(job.epochs, training.batches.steps_per_epoch))
    return Estimate(step * training.steps, measuring * measurements, 2 * looking + probing)


def announce(
    work: Sequence[Work],
    left_out: Mapping[str, str],
    how: How,
    device: torch.device,
    *,
    synthetic: bool,
    planning: bool = False,
) -> None:
    """What is to be done, what was left out, and how long the rest may take.

    Nothing is tried on the machine from which tasks go to a cluster, unless this is a plan alone.
    """
    pending = [item for item in work if not item.done]
    console = open_console(stderr=True)
    if is_first():
        show_plan(work, pending, console)
        if synthetic and work:
            say(console, "These networks learn drawn letters, glyphs, in place of all data sets.")
        for name, reason in left_out.items():
            say(console, f"Left out: {name}: {reason}")
    if pending and how.executor == "slurm" and not planning:
        if is_first():
            told = "How long tasks take is told by --plan, on a machine like those of the cluster."
            say(console, told)
    elif pending:
        told = told_time(pending, how, device)
        if is_first():
            say(console, told)


def told_time(pending: Sequence[Work], how: How, device: torch.device) -> str:
    """How long work may take, where it runs; tasks of their own are tried in this process, too."""
    if how.executor == "here":
        found = estimates(pending, how.source, device, how.trials)
        whole = spell_duration(sum(one.total for one in found))
        return f"About {whole} on {spell_parts(found, device)}"
    try:
        # tasks open the data anew: what was read to try them does not stay in memory meanwhile
        source = replace(how.source, opened={}, normalisations={})
        found = estimates(pending, source, device, Trials())
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and "allocate memory" not in str(error):
            raise
        return "How long it takes is not known, as these networks are too large for this machine."
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return spell_tasks(found, how, device)


def show_plan(work: Sequence[Work], pending: Sequence[Work], console: Console) -> None:
    """A table of the jobs, a line for those that differ in their seeds alone."""
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
    reused = f"; {done} are finished already and are reused" if done else ""
    say(console, f"{len(pending)} of {len(work)} networks to train or diagnose{reused}.")


def spell_tasks(found: Sequence[Estimate], how: How, device: torch.device) -> str:
    """How long jobs may take as tasks of their own."""
    longest = spell_duration(max(one.total for one in found))
    if how.executor == "slurm" and how.at_once is None:
        all_of_them = f"{spell_duration(sum(one.total for one in found))} for all of them in turn"
    else:
        slots = len(devices(how, len(found)))
        whole = spell_duration(together([one.total for one in found], slots))
        all_of_them = f"{whole} for all of them, {slots} at a time"
    tasks = f"{len(found)} task{'s' if len(found) > 1 else ''}"
    measured = "measured on this machine: " if how.executor == "slurm" else ""
    return (
        f"{tasks}: about {longest} for the longest, {all_of_them}; {measured}"
        f"{spell_parts(found, device)}"
    )


def together(seconds: Sequence[float], slots: int) -> float:
    """How long tasks take in this order, each starting as soon as one of the slots is free."""
    busy = [0.0] * slots
    for each in seconds:
        busy[busy.index(min(busy))] += each
    return max(busy)


def spell_parts(found: Sequence[Estimate], device: torch.device) -> str:
    """On what the jobs were tried, and how much of their time is for what."""
    training = sum(one.training for one in found)
    measuring = sum(one.measuring for one in found)
    diagnosing = sum(one.diagnosing for one in found)
    threads = torch.get_num_threads()
    where = f"{device} with {threads} CPU thread{'s' if threads > 1 else ''}"
    return (
        f"{where}, judging by {TIMED} steps of each kind of network: training "
        f"{spell_duration(training)}, measuring on the way {spell_duration(measuring)}, diagnoses very "
        f"roughly {spell_duration(diagnosing)}."
    )


def spell_duration(seconds: float) -> str:
    """Seconds as a reader says it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def list_targets() -> None:
    """Names of all targets and what they are."""
    table = Table("target", "what it is", box=box.SIMPLE_HEAVY)
    for target in TARGETS.values():
        table.add_row(target.name, f"{target.title}\n[dim]{target.about}[/dim]")
    open_console().print(table)


def _own_options(job: Job) -> str:
    """Options that tell networks of a kind apart."""
    names = "depth norm head_rank head_norm init init_scale head_scale loss".split()
    defaults = {field.name: field.default for field in fields(Job)}
    changed = [f"{n} {getattr(job, n)}" for n in names if getattr(job, n) != defaults[n]]
    return f", {', '.join(changed)}" if changed else ""
