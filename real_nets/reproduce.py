"""Reproduce the paper's tables and figures, and compare the measured numbers with the paper's.

    python -m real_nets.reproduce --list
    python -m real_nets.reproduce quick --out runs/quick
    python -m real_nets.reproduce table1 --data ROOT --budget small
    python -m real_nets.reproduce table1 table2 fig1 --data ROOT --budget paper --executor slurm
    torchrun --nproc-per-node 8 -m real_nets.reproduce table1 --data ROOT --budget paper

ROOT holds data sets by name: folders of images (ROOT/imagenet/{train,val}/CLASS/*), or CIFAR and SVHN as
torchvision unpacks them. Networks already trained in --out are reused; the same command resumes a run.
"""

import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from rankdeficit.checks import check_at_least, check_gamma, check_temperature
from rankdeficit.diagnostics.measures.probes import Preset
from rankdeficit.distributed import is_first
from rankdeficit.experiments import cli
from rankdeficit.experiments.cli import joined
from rankdeficit.experiments.options import Unused, option, parse_pairs
from rankdeficit.spectrum import GAMMA, Convention
from real_nets import report
from real_nets.data.catalogue import listing
from real_nets.data.opening import DataSource, is_archive, why_missing
from real_nets.jobs.execute import Execution, Executor, check_options, execute
from real_nets.jobs.folder import OURS
from real_nets.jobs.opening import check_finished
from real_nets.models import MODELS
from real_nets.paper.budgets import BUDGETS, BudgetName, RecipeName, with_changes
from real_nets.paper.coverage import missing
from real_nets.paper.estimate import announce, announce_later_diagnoses, list_targets
from real_nets.paper.grid import Setup
from real_nets.paper.plan import Plan
from real_nets.paper.store import (
    LOGS,
    TARGETS_FOLDER,
    Results,
    TargetRecord,
    check_free,
    check_place,
    locked,
    read_targets,
    write_target,
)
from real_nets.paper.targets import TARGETS, find
from real_nets.training.recipe import OF_TRAINING, LrRule, Precision

PROGRAM = "real_nets.reproduce"

OVERRIDES = (
    "epochs width lr lr_rule momentum clip_norm batch_size image_size per_class test_per_class precision "
    "compile gamma diagnosed_images"
).split()
"""Settings that override the budget's options of every job."""

DATA_OPTIONS = ("data", "download", "on_corrupt", "replace", "further_ood", "workers")
"""Settings on data sets, for budgets that read some."""


@dataclass(frozen=True)
class Settings:
    """Reproduce tables and figures of the paper."""

    targets: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of targets, or all."""
    list_targets: Annotated[bool, tyro.conf.arg(name="list")] = False
    """List the targets."""
    missing: bool = False
    """List the commands that fill the cells of Tables 1 to 3 that --out lacks, with the options given."""
    data: Path | None = None
    """Folder that holds data sets by name: folders of images, or archives as torchvision unpacks them;
    not for the smoke budget."""
    budget: BudgetName = "smoke"
    """smoke: glyphs, minutes on a CPU; small: narrow networks, up to an hour per network of a table;
    paper: full networks and schedules."""
    cells: tuple[str, ...] = ()
    """Cells as DATA/NETWORK, for example CIFAR-10/MLP; may contain * and ?. A figure shows every network
    named without them [default: the paper's]."""
    replace: tuple[str, ...] = ()
    """Replacements of data sets as NAME=OTHER, for example svhn=tiny-imagenet."""
    further_ood: tuple[str, ...] = ()
    """Out-of-distribution sets beside the paper's."""
    seeds: int | None = None
    """Number of networks per cell [default: the budget's, 10 for fig8]."""
    temperature: float | None = None
    """Temperature of networks with low logit norm [default: the budget's]."""
    other_temperatures: tuple[float, ...] | None = None
    """Further temperatures in tables and figures [default: the budget's]."""
    recipe: RecipeName = "budget"
    """Recipe of convolutional networks: budget, or adaptive (AdamW, rate 3e-3, no decay, width 16)."""
    epochs: int | None = None
    """Epochs of every network [default: the budget's]."""
    width: int | None = None
    """Width of every network [default: the budget's]."""
    lr: float | None = None
    """Peak learning rate [default: the budget's]."""
    lr_rule: LrRule | None = None
    """matched: the same at every temperature; reparametrised: see real_nets.train --help."""
    momentum: float | None = None
    """Momentum of SGD [default: the budget's]."""
    clip_norm: float | None = None
    """Maximum norm of the gradient [default: the budget's]."""
    batch_size: int | None = None
    """Images per step [default: the budget's]."""
    image_size: int | None = None
    """Side in pixels to which images are resized [default: the budget's, else unchanged]."""
    per_class: int | None = None
    """Number of train images per class, the first ones [default: all]."""
    test_per_class: int | None = None
    """Number of test images per class, the first ones [default: all]."""
    precision: Precision | None = None
    """bf16 trains under autocast to bfloat16 [default: the budget's]."""
    compile: bool | None = None
    """Compile networks with torch.compile [default: the budget's]."""
    gamma: float | None = None
    """Threshold of the numerical rank [default: 1e-3]."""
    convention: Convention = "matrix"
    """How logits are centred before their rank is compared with the paper's: matrix (not at all),
    class-centred, sample-centred or covariance."""
    probe_preset: Preset = OURS
    """Protocol of the probes behind κ and ρ, as in real_nets.diagnose."""
    diagnosed_images: int | None = None
    """Images of each split for probes and detectors at most, 0 for all [default: the budget's]."""
    download: bool = False
    """Download missing archives into --data."""
    on_corrupt: Literal["stop", "skip"] = "stop"
    """Treatment of unreadable images: stop before training, or leave them out (skip)."""
    workers: int = 4
    """Number of processes that decode images of data sets too large for memory."""
    executor: Executor = "here"
    """here: one job after the other; slurm or local: a submitit task per job."""
    slurm: tuple[str, ...] = ()
    """Options of submitit's executor as KEY=VALUE, for example timeout_min=600 gpus_per_node=1."""
    at_once: int | None = None
    """Maximum number of concurrent tasks [default: local: one per GPU, or one; slurm: all]."""
    tensorboard: bool = False
    """Also write measurements during training for TensorBoard."""
    plan: bool = False
    """Print the plan with its estimated duration, and stop."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    out: Path | None = None
    """Folder of the results, new or of an earlier run to continue [default: runs/reproduce-BUDGET]."""

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        if self.list_targets or not (self.targets or self.missing):
            beside = "beside --list" if self.list_targets else "without targets"
            others = [
                own.name for own in fields(self) if own.name not in ("targets", "list_targets")
            ]
            return dict.fromkeys(others, f"{beside}; name targets, which --list shows")
        found: Unused = {}
        if self.executor == "here":
            of_tasks = ("slurm", "at_once")
            found |= dict.fromkeys(of_tasks, "without tasks; give --executor slurm or local")
        if BUDGETS[self.budget].synthetic:
            reason = f"under the {self.budget} budget, which draws glyphs; name another --budget"
            found |= dict.fromkeys(DATA_OPTIONS, reason)
        return found


def run(settings: Settings) -> Path | None:
    """Train and diagnose what is missing, write the page; returns the folder, None if nothing was run."""
    if settings.list_targets or not (settings.targets or settings.missing):
        if settings.targets:
            raise ValueError("--list shows the targets and does nothing else; name none beside it")
        list_targets()
        return None
    if settings.missing:
        print("\n".join(missing_commands(settings)) or "No cell of Tables 1 to 3 is missing.")
        return None
    with joined(settings.device) as device:
        targets = [find(name) for name in chosen_names(settings.targets)]
        root = settings.data and settings.data.resolve()
        source = DataSource(root, settings.download, settings.on_corrupt, settings.workers)
        execution = Execution(
            source,
            settings.device,
            settings.executor,
            tensorboard=settings.tensorboard,
            options=parse_pairs("slurm", settings.slurm),
            at_once=settings.at_once,
        )
        setup = prepare(settings, source)
        store = store_of(settings).resolve()
        plan = Plan.of(targets, setup, store, settings.probe_preset)
        if plan.grid.names and settings.data is None and not setup.synthetic:
            raise ValueError(
                f"the {settings.budget} budget needs data; name a folder of data sets with --data, or "
                "take --budget smoke"
            )
        plan.check(setup.pick)
        check_effects(settings, plan, setup)
        check_place(store)
        if is_first() and not settings.plan:
            check_free(store)
        for item in plan.work:
            if item.trained:
                check_finished(item.job, source, item.path)
        if not settings.plan and not all(item.done for item in plan.work):
            check_options(execution)
        announce(
            plan.work,
            plan.left_out,
            execution,
            device,
            synthetic=setup.synthetic,
            planning=settings.plan,
        )
        announce_later_diagnoses(plan)
        if settings.plan:
            return None
        try:
            with locked(store) if is_first() else nullcontext():
                carry_out(settings, execution, plan, device)
        except KeyboardInterrupt as stop:
            stop.add_note(f"finished work is in {store}")
            raise
        return store


def missing_commands(settings: Settings) -> list[str]:
    """The commands that fill what a store lacks, with all options of the settings but --missing."""
    out = store_of(settings)
    records = read_targets(out, list(TARGETS)) if (out / TARGETS_FOLDER).is_dir() else []
    given = []
    for own in fields(settings):
        value = getattr(settings, own.name)
        if own.name not in ("targets", "missing", "cells", "out") and value != own.default:
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            given += [option(own.name), *map(str, values)]
    wanted = chosen_names(settings.targets) or list(TARGETS)
    return [
        shlex.join(["python", "-m", PROGRAM, name, "--cells", cell, *given, "--out", str(out)])
        for name, cell in missing(records, Results(out))
        if name in wanted
    ]


def store_of(settings: Settings) -> Path:
    """The folder of the results."""
    return settings.out or Path("runs") / f"reproduce-{settings.budget}"


def chosen_names(names: Sequence[str]) -> list[str]:
    """Names of targets, each once; "all" stands for all of them."""
    return list(TARGETS) if "all" in names else list(dict.fromkeys(names))


def prepare(settings: Settings, source: DataSource) -> Setup:
    """The settings as a setup for cells. Raises ValueError for invalid settings."""
    cli.resolve_device(settings.device)
    if settings.seeds is not None:
        check_at_least(1, seeds=settings.seeds)
    if (T := settings.temperature) is not None:
        check_temperature(T)
        if T <= 1:
            raise ValueError(f"temperature is {T:g}; that of low logit norm must be above 1")
    for T in settings.other_temperatures or ():
        check_temperature(T)
    if settings.gamma is not None:
        check_gamma(settings.gamma)
    check_at_least(0, workers=settings.workers)
    budget = BUDGETS[settings.budget]
    if settings.data is not None and not settings.data.is_dir() and not settings.download:
        raise ValueError(f"data {settings.data} does not exist; name a folder of data sets")
    options = {name: getattr(settings, name) for name in OVERRIDES}
    return Setup(
        with_changes(budget, settings.seeds, options, settings.recipe),
        cache(lambda name: why_missing(name, source.root, source.download)),
        parse_pairs("replace", settings.replace),
        settings.temperature,
        settings.other_temperatures,
        settings.cells,
        settings.seeds,
        settings.further_ood,
    )


def check_effects(settings: Settings, plan: Plan, setup: Setup) -> None:
    """Raise ValueError for an option that was given, but reaches no job of the plan."""
    jobs = [item.job for item in plan.work]
    data = {name for job in jobs for name in (job.data, *job.ood)}
    of_jobs = {name: getattr(settings, name) for name in (*OVERRIDES, "temperature")}
    reached = {
        name: any(
            getattr(job, name) == value for job in jobs if job.epochs or name not in OF_TRAINING
        )
        for name, value in of_jobs.items()
        if value is not None and name != "gamma"  # which figure 6 takes, too
    }
    archives = [is_archive(name, settings.data) for name in data]
    if settings.download:
        reached["download"] = any(archives)
    if settings.on_corrupt != "stop":
        reached["on_corrupt"] = not all(archives)
    if others := settings.other_temperatures:
        reached["other_temperatures"] = {job.temperature for job in jobs} >= set(others)
    if settings.recipe != "budget":
        models = [MODELS.get(job.model) for job in jobs]
        reached["recipe"] = any(own is not None and own.convolutional for own in models)
    if settings.replace and not plan.grid.left_out:  # whose replacement may be missing
        reached["replace"] = data >= set(setup.replacements.values())
    if settings.further_ood:
        reached["further_ood"] = {o for job in jobs for o in job.ood} >= set(settings.further_ood)
    for name in ("data", "seeds", "tensorboard", "executor", "probe_preset", "convention"):
        if getattr(settings, name) != getattr(Settings, name):
            reached[name] = bool(jobs)
    for name, has in reached.items():
        if not has:
            names = ", ".join(part.target.name for part in plan.parts)
            raise ValueError(
                f"{option(name)} has no effect on {names}; leave it out, or name other targets"
            )


def carry_out(settings: Settings, execution: Execution, plan: Plan, device: torch.device) -> None:
    """Carry out the missing work, write the targets' records and the page."""
    logs = plan.store / LOGS
    execute([item for item in plan.work if not item.done], execution, logs, device)
    execute(plan.at_equal_accuracy(), execution, logs, device)
    if is_first():
        gamma = GAMMA if settings.gamma is None else settings.gamma
        for target, grid in ((part.target, part.grid) for part in plan.parts):
            computed = target.compute(gamma)
            if grid.cells or grid.left_out or computed:  # --cells may pick none of a target's
                kept = (list(grid.cells), dict(grid.left_out), dict(computed))
                write_target(plan.store, TargetRecord(target.name, settings.budget, *kept))
        names = [part.target.name for part in plan.parts]
        report.show(plan.store, names, settings.probe_preset, settings.convention)


def main() -> None:
    """The command."""
    again = "the same command resumes where it stopped"
    cli.main(Settings, run, PROGRAM, interrupted=again, details=listing())


if __name__ == "__main__":
    main()
