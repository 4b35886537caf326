"""Does the rank follow the temperature at the start or at the end? Schedules of T in a deep UFM.

Constant (cold: T = 1, hot), annealed up, annealed down and cyclic temperatures, the same seeds for
each, in one batched program. To compare with: Neural Collapse's c - 1 and the two constants' ranks.

    python -m simulations.temperature_schedule --temperature 50
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from rankdeficit.experiments import cli, plots, tables
from rankdeficit.experiments.conduct import (
    OptimizedBatch,
    Row,
    TrainingSettings,
    check_values,
    conduct,
)
from rankdeficit.experiments.runs import RunFolder, read_json, read_rows
from rankdeficit.toys.optimizers import OptimizerName, make_optimizer
from rankdeficit.toys.schedules import SCHEDULES, Schedule, temperature_at
from rankdeficit.toys.ufm import Activation, DeepUfm, UfmShape, initial_parameters
from simulations.ufm import measure_model

PROGRAM = "simulations.temperature_schedule"


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """Train deep unconstrained feature models while the softmax temperature changes."""

    temperature: tuple[float, ...] = (50.0,)
    """Hottest temperatures; the coldest is 1."""
    schedule: tuple[Schedule, ...] = SCHEDULES
    """Schedules to compare."""
    ramp: float = 0.5
    """Share of training over which annealing moves; it then stays."""
    cycles: int = 4
    """Periods of the cyclic schedule, which begins and ends hot."""
    classes: int = 100
    """Number of classes c."""
    samples_per_class: int = 10
    """Samples per class N."""
    width: int = 128
    """Width of the features and of every hidden layer."""
    depth: int = 4
    """Weight matrices above the free features."""
    activation: Activation = "linear"
    """Activation between weight matrices."""
    optimizer: OptimizerName = "adam"
    """Adam, SGD with momentum 0.9 (full batch), or gradient descent."""
    lr: float = 1e-2
    """Learning rate, the same for every schedule."""
    weight_decay: float = 0.0
    """L2 penalty lambda on every factor."""
    measure_every: int = 50
    """Steps between measurements; before the first of them, measure at powers of two as well."""


class Scheduled(OptimizedBatch):
    """All hottest temperatures, schedules and seeds in one model."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shape = UfmShape(
            settings.classes, settings.samples_per_class, settings.width, settings.depth,
            settings.activation,
        )  # fmt: skip
        schedules = list(dict.fromkeys(settings.schedule))
        hottest = sorted(set(settings.temperature))
        self.runs = list(product(hottest, schedules, settings.seed_range))
        parameters = initial_parameters(
            self.shape,
            [seed for _, _, seed in self.runs],
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
                temperature_at(schedule, hottest, progress, settings.ramp, settings.cycles)
                for hottest, schedule, _ in self.runs
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
                "hottest": hottest,
                "schedule": schedule,
                "seed": seed,
                "temperature": temperature,
                **measured,
            }
            for (hottest, schedule, seed), temperature, measured in zip(
                self.runs,
                temperatures.tolist(),
                measure_model(self.model, self.settings.gamma),
                strict=True,
            )
        ]


def run(settings: Settings) -> Path:
    """Train, measure, write the run folder, print the table; returns the folder."""
    return conduct(settings, PROGRAM, prepare, work, draw, report)


def prepare(settings: Settings) -> Scheduled:
    """The batch of all runs. Raises ValueError for settings that make no sense."""
    settings.check_common()
    check_values(temperature=settings.temperature, schedule=settings.schedule)
    if min(settings.temperature) <= 1:
        raise ValueError(
            f"temperature is {min(settings.temperature)}; the hottest temperature must exceed 1"
        )
    return Scheduled(settings)


def work(settings: Settings, batch: Scheduled, folder: RunFolder, resumed: bool) -> Row:
    """Train all runs; the summary has their last measures and when each first interpolated."""
    settings.train([batch], folder, resumed, leave_out=["singular_values"])
    uniform = math.log(settings.classes)
    first: dict[tuple[float, str, int], int] = {}
    for row in read_rows(folder.path):
        if row["accuracy"] == 1:
            first.setdefault((row["hottest"], row["schedule"], row["seed"]), row["step"])
    runs = [
        {
            **row,
            "outcome": tables.outcome(row["loss"], row["accuracy"], uniform),
            "interpolates_from": first.get((row["hottest"], row["schedule"], row["seed"])),
        }
        for row in batch.measure(settings.steps)
    ]
    return {
        "classes": settings.classes,
        "gamma": settings.gamma,
        "neural_collapse_rank": tables.neural_collapse_rank(settings.classes, settings.width),
        "runs": runs,
    }


def report(summary: Row) -> tuple[Table, list[str]]:
    """Final ranks by schedule, and which constant temperature each resembles."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians over seeds (ranges). c = {summary['classes']}, rank at gamma = "
        f"{summary['gamma']:g}; Neural Collapse predicts {summary['neural_collapse_rank']}. From step: "
        "first measured one with 100 % train accuracy. Norm and loss at the last temperature.",
        caption_justify="left",
    )
    names = ("schedule", "hottest", "last T", "seeds", "train acc.", "from step", "loss", "norm / T",
             "rank", "stable", "alignment")  # fmt: skip
    for name in names:
        table.add_column(name, justify="left" if name == "schedule" else "right")
    for (hottest, schedule), own in _cells(summary["runs"]):
        alive = [run for run in own if run["rank"] is not None]
        ranks = [run["rank"] for run in alive]
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
            f"{median(ranks):g} ({min(ranks)}-{max(ranks)})" if ranks else "-",
            middle("stable_rank", ".1f"),
            middle("alignment", ".2f"),
        )
    return table, _sentences(summary["runs"])


def _sentences(runs: Sequence[Row]) -> list[str]:
    """Where each moving schedule ends between the two constants."""
    sentences = []
    cells = {key: [r["rank"] for r in own if r["rank"] is not None] for key, own in _cells(runs)}
    for (hottest, schedule), ranks in cells.items():
        cold, hot = cells.get((hottest, "cold")), cells.get((hottest, "hot"))
        if schedule in ("cold", "hot") or not (cold and hot and ranks):
            continue
        if median(cold) == median(hot):
            continue
        share = (median(ranks) - median(hot)) / (median(cold) - median(hot))
        sentences.append(
            f"Hottest T = {hottest:g}, {schedule}: rank {median(ranks):g}, {share:.0%} of the way from "
            f"the hot constant's {median(hot):g} to the cold constant's {median(cold):g}."
        )
    lost = sum(run["outcome"] != "interpolated" for run in runs)
    if lost:
        sentences.append(
            f"{lost} of {len(runs)} runs do not interpolate at the end; their ranks say little."
        )
    return sentences


def _cells(runs: Sequence[Row]) -> list[tuple[tuple[float, str], list[Row]]]:
    keys = dict.fromkeys((run["hottest"], run["schedule"]) for run in runs)
    return [(key, [r for r in runs if (r["hottest"], r["schedule"]) == key]) for key in keys]


def draw(path: Path) -> None:
    """Draw the figure of a run folder from its files alone."""
    figure = draw_schedules(read_rows(path), read_json(path / "summary.json"))
    plots.save(figure, path / "schedules.png")


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
                plots.band(axes, own, "step", name, colours[schedule], schedule)
            if name == "rank":
                predicted = summary["neural_collapse_rank"]
                text = f"Neural Collapse: {predicted}"
                axes.axhline(predicted, color="black", linestyle="--", linewidth=1, label=text)
            else:
                axes.set_yscale("log")
            plots.set_clock_scale(axes, "step")
            if j == 0:
                axes.set_ylabel(label)
        grid[0, j].set_title(f"hottest T = {T:g}", fontsize=9)
        grid[-1, j].set_xlabel("training steps")
    return plots.with_legend_below(figure, columns=3)


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
