"""Temperature schedules in a deep UFM: does the rank follow the temperature at the start or at the end?

Constant (cold: T = 1, hot), annealed (up, down, cosine) and cyclic temperatures, and hot ones for a
share of training, the same seeds for each, in one batched program. Ranks are compared with Neural
Collapse's c - 1 and with those of the two constants.

    python -m simulations.temperature_schedule --temperature 50
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from rankdeficit.experiments import cli, figure_style, tables
from rankdeficit.experiments.experiment import StepByStep, experiment
from rankdeficit.experiments.loops import OptimizedBatch
from rankdeficit.experiments.options import Unused
from rankdeficit.experiments.runs import read_rows
from rankdeficit.experiments.settings import (
    Row,
    ShapeSettings,
    TemperatureSettings,
    TrainingSettings,
    check_values,
)
from rankdeficit.toys.optimizers import OptimizerName, make_optimizer
from rankdeficit.toys.schedules import SCHEDULES, Schedule, temperature_at
from rankdeficit.toys.ufm import Activation, DeepUfm, UfmShape, initial_parameters
from simulations.ufm.batch import measure_model


@dataclass(frozen=True)
class Settings(TrainingSettings, TemperatureSettings, ShapeSettings):
    """Train deep unconstrained feature models while the softmax temperature changes."""

    temperature: tuple[float, ...] = (50.0,)
    """Hottest temperatures; the coldest is 1."""
    schedule: tuple[Schedule, ...] = SCHEDULES
    """Schedules to compare."""
    ramp: float = 0.5
    """Share of training during which annealing changes T; it is constant after that."""
    cycles: int = 4
    """Periods of the cyclic schedule, which begins and ends hot."""
    hot_share: tuple[float, ...] = (1.0, 0.3)
    """Shares of training that the schedule hot spends at its temperature, before T = 1."""
    depth: int = 4
    """Weight matrices above the free features; the theory counts L = depth + 1 factors."""
    activation: Activation = "linear"
    """Activation between weight matrices."""
    optimizer: OptimizerName = "adam"
    """Adam, SGD with momentum 0.9 (full batch), or gradient descent."""
    lr: float = 1e-2
    """Learning rate, the same for every schedule."""
    weight_decay: float = 0.0
    """L2 penalty lambda on every factor."""
    measure_every: int = 50

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        found = super().unused()
        if not {"up", "down"} & set(self.schedule):
            found["ramp"] = "on these schedules; add --schedule up or down"
        if "cyclic" not in self.schedule:
            found["cycles"] = "on these schedules; add --schedule cyclic"
        if set(self.schedule) == {"cold"}:
            found["temperature"] = "on the schedule cold, which stays at T = 1; add --schedule hot"
        return found


class Run(NamedTuple):
    """One training."""

    hottest: float
    schedule: Schedule
    share: float
    """Share of training at its temperature, with the schedule hot."""
    seed: int

    @property
    def name(self) -> str:
        """The schedule in tables."""
        return self.schedule if self.share == 1 else f"{self.schedule} {self.share:.0%}"


class Scheduled(OptimizedBatch):
    """All hottest temperatures, schedules and seeds in one model."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shape = UfmShape(
            settings.classes, settings.samples_per_class, settings.width, settings.depth,
            settings.activation,
        )  # fmt: skip
        self.runs = [
            Run(hottest, schedule, share, seed)
            for hottest in sorted(set(settings.temperature))
            for schedule in dict.fromkeys(settings.schedule)
            for share in (dict.fromkeys(settings.hot_share) if schedule == "hot" else (1.0,))
            for seed in settings.seed_range
        ]
        parameters = initial_parameters(
            self.shape,
            [run.seed for run in self.runs],
            device=cli.resolve_device(settings.device),
        )
        self.parameters = parameters
        self.model = DeepUfm(
            self.shape, parameters, self._temperatures(), weight_decay=settings.weight_decay
        )
        self.optimizer = make_optimizer(
            settings.optimizer, parameters, self.model.gradient, settings.lr
        )

    def _temperatures(self) -> torch.Tensor:
        """T of every run after the steps done so far."""
        settings, progress = self.settings, self.steps_done / self.settings.steps
        return torch.tensor(
            [
                temperature_at(
                    run.schedule, run.hottest, progress, settings.ramp, settings.cycles, run.share
                )
                for run in self.runs
            ],
            dtype=torch.float64,
        )

    def step(self) -> None:
        """One training step of every run, at its temperature of the moment."""
        self.model.set_temperatures(self._temperatures())
        self.model.compute_gradient()
        self.optimizer.step()
        self.steps_done += 1

    def measure(self, step: int) -> list[Row]:
        """One row per run, at its temperature of the moment; None where it diverged."""
        temperatures = self._temperatures()
        self.model.set_temperatures(temperatures)
        return [
            {
                "step": step,
                "hottest": run.hottest,
                "schedule": run.name,
                "seed": run.seed,
                "temperature": temperature,
                **measured,
            }
            for run, temperature, measured in zip(
                self.runs,
                temperatures.tolist(),
                measure_model(self.model, self.settings.gamma),
                strict=True,
            )
        ]


@experiment
class TemperatureSchedule(StepByStep[Settings, Scheduled]):
    """Does the final rank follow the temperature at the start of training or at its end?"""

    settings = Settings
    leave_out = ("singular_values",)

    def prepare(self, settings: Settings) -> list[Scheduled]:
        """One batch of all runs."""
        check_values(schedule=settings.schedule, hot_share=settings.hot_share)
        if min(settings.temperature) <= 1:
            raise ValueError(
                f"temperature is {min(settings.temperature)}; the hottest temperature must exceed 1"
            )
        return [Scheduled(settings)]

    def summarise(self, settings: Settings, batches: Sequence[Scheduled], path: Path) -> Row:
        """The last measures of all runs, and the step from which each interpolates."""
        uniform = math.log(settings.classes)
        first: dict[tuple[float, str, int], int] = {}
        for row in read_rows(path):
            if row["accuracy"] == 1:
                first.setdefault((row["hottest"], row["schedule"], row["seed"]), row["step"])
        runs = [
            {
                **row,
                "outcome": tables.outcome(row["loss"], row["accuracy"], uniform),
                "interpolates_from": first.get((row["hottest"], row["schedule"], row["seed"])),
            }
            for row in batches[0].measure(settings.steps)
        ]
        return {
            "classes": settings.classes,
            "gamma": settings.gamma,
            "neural_collapse_rank": tables.neural_collapse_rank(settings.classes, settings.width),
            "runs": runs,
        }

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Final ranks by schedule, and which constant temperature each resembles."""
        return schedules_table(summary), schedule_sentences(summary["runs"])

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """The course of training under each schedule."""
        return {"schedules": draw_schedules(rows, summary)}


def schedules_table(summary: Row) -> Table:
    """Final ranks by schedule."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians over seeds (ranges). c = {summary['classes']}, ranks of the logits as they are "
        f"and class-centred at gamma = {summary['gamma']:g}; Neural Collapse "
        f"predicts {summary['neural_collapse_rank']}. From step: "
        "first measured one with 100 % train accuracy. Norm and loss at the last temperature.",
        caption_justify="left",
    )
    names = ("schedule", "hottest", "last T", "seeds", "train acc.", "from step", "loss", "norm / T",
             "raw rank", "centred", "stable", "alignment")  # fmt: skip
    for name in names:
        table.add_column(name, justify="left" if name == "schedule" else "right")
    for (hottest, schedule), own in _cells(summary["runs"]):
        alive = [run for run in own if run["rank"] is not None]
        since = [run["interpolates_from"] for run in own if run["interpolates_from"] is not None]

        def middle(name: str, form: str, alive: list[Row] = alive) -> str:
            return format(median(run[name] for run in alive), form) if alive else "-"

        table.add_row(
            schedule,
            f"{hottest:g}",
            f"{own[0]['temperature']:g}",
            str(len(own)),
            middle("accuracy", ".1%"),
            f"{median(since):g}" if since else "-",
            middle("loss", ".2e"),
            middle("effective_logits_norm", ".3g"),
            tables.spread([run["rank"] for run in alive]),
            tables.spread([run["centred_rank"] for run in alive]),
            middle("stable_rank", ".1f"),
            middle("alignment", ".2f"),
        )
    return table


def schedule_sentences(runs: Sequence[Row]) -> list[str]:
    """Where each moving schedule ends between the two constants."""
    sentences = []
    cells = {
        key: [r["centred_rank"] for r in own if r["rank"] is not None] for key, own in _cells(runs)
    }
    for (hottest, schedule), ranks in cells.items():
        cold, hot = cells.get((hottest, "cold")), cells.get((hottest, "hot"))
        if schedule in ("cold", "hot") or not (cold and hot and ranks):
            continue
        if median(cold) == median(hot):
            continue
        share = (median(ranks) - median(hot)) / (median(cold) - median(hot))
        sentences.append(
            f"Hottest T = {hottest:g}, {schedule}: class-centred rank {median(ranks):g}, "
            f"{share:.0%} of the way from the hot constant's {median(hot):g} "
            f"to the cold constant's {median(cold):g}."
        )
    lost = sum(run["outcome"] != "interpolated" for run in runs)
    if lost:
        sentences.append(
            f"{lost} of {len(runs)} runs do not interpolate at the end, so their ranks say little."
        )
    return sentences


def _cells(runs: Sequence[Row]) -> list[tuple[tuple[float, str], list[Row]]]:
    keys = dict.fromkeys((run["hottest"], run["schedule"]) for run in runs)
    return [(key, [r for r in runs if (r["hottest"], r["schedule"]) == key]) for key in keys]


def draw_schedules(rows: Sequence[Row], summary: Row) -> Figure:
    """Temperature, effective norm and rank over training, a column per hottest temperature."""
    hottest = sorted({row["hottest"] for row in rows})
    schedules = list(dict.fromkeys(row["schedule"] for row in rows))
    colours = dict(
        zip(schedules, colormaps["turbo"](np.linspace(0.05, 0.95, len(schedules))), strict=True)
    )
    figure = Figure(figsize=(1.0 + 4.2 * len(hottest), 6.4))
    grid = figure.subplots(3, len(hottest), sharex=True, sharey="row", squeeze=False)
    quantities = (
        ("temperature", "temperature T"),
        ("effective_logits_norm", "effective norm\n" + r"$\|M\|_F/(\sqrt{n}\,T)$"),
        ("rank", f"rank, γ = {summary['gamma']:g}"),
    )
    for j, T in enumerate(hottest):
        for (name, label), axes in zip(quantities, grid[:, j], strict=True):
            for schedule in schedules:
                own = [r for r in rows if (r["hottest"], r["schedule"]) == (T, schedule)]
                figure_style.band(axes, own, "step", name, colours[schedule], schedule)
            if name == "rank":
                predicted = summary["neural_collapse_rank"]
                text = f"Neural Collapse: {predicted}"
                axes.axhline(predicted, color="black", linestyle="--", linewidth=1, label=text)
            else:
                figure_style.set_log_scale(axes, "y")
            figure_style.set_clock_scale(axes, "step")
            if j == 0:
                axes.set_ylabel(label)
        grid[0, j].set_title(f"hottest T = {T:g}", fontsize=9)
        grid[-1, j].set_xlabel("training steps")
    return figure_style.with_legend_below(figure, columns=3)


if __name__ == "__main__":
    TemperatureSchedule().main()
