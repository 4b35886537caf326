"""How modes race to escape small logits: gradient flow of deep linear UFMs against its closed form.

From a balanced, aligned start every mode has a closed form while logits are small. At two factors
all modes grow by the same ratio; from three on the largest runs away, the further the higher the
temperature. From random starts (same scale at every T) the same is seen without a closed form.

    python -m simulations.dynamics --depth 1 2 3 --temperature 1 1000
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import check_at_least
from rankdeficit.experiments import cli
from rankdeficit.experiments.experiment import StepByStep, experiment
from rankdeficit.experiments.options import Unused
from rankdeficit.experiments.settings import (
    DepthSettings,
    Row,
    ShapeSettings,
    TemperatureSettings,
    TrainingSettings,
    check_values,
)
from rankdeficit.toys.mode_dynamics import (
    balanced_start,
    dropout_temperature,
    escape_time,
    grow,
    growth_rate,
    ratio_at_escape,
)
from rankdeficit.toys.ufm import DeepUfm, UfmShape, initial_parameters
from simulations.dynamics import report

Start = Literal["balanced", "random"]
ESCAPED_LOSS = 0.8
"""A run is followed until its loss falls to this share of ln c."""
LEAST = 1e-50
"""Temperatures and first logits lie between it and its inverse, so that squares stay in float64."""


@dataclass(frozen=True)
class Settings(TrainingSettings, TemperatureSettings, DepthSettings, ShapeSettings):
    """Escape of modes from small logits, over temperature and depth."""

    temperature: tuple[float, ...] = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
    depth: tuple[int, ...] = (1, 2, 3, 4, 5)
    start: tuple[Start, ...] = ("balanced", "random")
    """Balanced starts, which have closed forms; random starts, weights N(0, s^2 / fan_in)."""
    classes: int = 10
    samples_per_class: int = 1
    width: int = 20
    smallest_mode: float = 5e-5
    """Balanced starts: the c - 1 singular values of the logits lie between this and the next."""
    largest_mode: float = 1e-4
    """Balanced starts: the largest singular value of the logits."""
    escape: float = 0.01
    """A run escapes when its largest singular value reaches this times T sqrt(N)."""
    init_scale: float = 0.5
    """Scale s of random starts."""
    step_size: float = 0.02
    """Relative change of the parameters in a step of the flow (Runge-Kutta, order 4)."""
    steps: int = 3000
    """Maximum number of steps of the flow."""
    measure_every: int = 4
    """Steps between rows of the record."""
    checkpoint_every: int = 500

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        found = super().unused()
        if "balanced" not in self.start:
            modes = ("smallest_mode", "largest_mode")
            found |= dict.fromkeys(modes, "on random starts; add --start balanced")
        if "random" not in self.start:
            found["init_scale"] = "on balanced starts; add --start random"
        return found


class Configuration(NamedTuple):
    """The key of a run within its batch."""

    temperature: float
    seed: int


class Flow:
    """Gradient flow of all runs of one depth and kind of start, each run with its own step size."""

    def __init__(self, settings: Settings, depth: int, start: Start) -> None:
        self.settings, self.start, self.factors = settings, start, depth + 1
        self.shape = UfmShape(settings.classes, settings.samples_per_class, settings.width, depth)
        temperatures = sorted(set(settings.temperature))
        self.runs = [Configuration(*run) for run in product(temperatures, settings.seed_range)]
        T = torch.tensor([run.temperature for run in self.runs], dtype=torch.float64)
        device = cli.resolve_device(settings.device)
        self.model = DeepUfm(self.shape, self._first_parameters().to(device), T)
        self.modes = min(settings.classes - 1, settings.width)
        magnitudes = self.model.logits().abs().amax(dim=(1, 2))
        if not bool(((magnitudes > LEAST) & (magnitudes < 1 / LEAST)).all()):
            raise ValueError(
                f"the first logits of the {start} start at depth {depth} leave {LEAST:g}..{1 / LEAST:g}; "
                "choose a moderate init_scale or moderate modes"
            )
        self.first = self._singular_values()
        self.rates = torch.tensor(
            [growth_rate(settings.classes, t, settings.samples_per_class) for t, _ in self.runs],
            dtype=torch.float64, device=device,
        )  # fmt: skip
        self.escape_at = settings.escape * T.to(device) * math.sqrt(settings.samples_per_class)
        self.time = torch.zeros_like(self.rates)
        self.running = torch.ones_like(self.rates, dtype=torch.bool)
        unknown = torch.full_like(self.rates, math.nan)
        self.escape_times, self.ratios = unknown, torch.full_like(self.first, math.nan)

    def _first_parameters(self) -> Tensor:
        seeds = [seed for _, seed in self.runs]
        settings = self.settings
        if self.start == "random":
            return initial_parameters(self.shape, seeds, settings.init_scale, dtype=torch.float64)
        k = min(settings.classes - 1, settings.width)
        low, high = math.log(settings.smallest_mode), math.log(settings.largest_mode)
        modes = []
        for seed in seeds:
            uniform = torch.rand(
                k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
            )
            uniform[uniform.argmax()] = 1
            modes.append((low + (high - low) * uniform).exp().sort(descending=True).values)
        return balanced_start(self.shape, torch.stack(modes), seeds)

    def _singular_values(self) -> Tensor:
        return torch.linalg.svdvals(self.model.logits())[:, : self.modes]

    def step(self) -> None:
        """One Runge-Kutta step of every run that has not escaped yet."""
        if not bool(self.running.any()):
            return
        parameters, gradient = self.model.parameters, self.model.gradient
        before = self._singular_values()
        origin = parameters.clone()
        self.model.compute_gradient()
        size = origin.norm(dim=1) / gradient.norm(dim=1).clamp(min=1e-300)
        dt = torch.where(self.running, self.settings.step_size * size, 0)
        total = torch.zeros_like(gradient)
        for weight, reach in ((1, 0.5), (2, 0.5), (2, 1.0), (1, 0.0)):
            total.add_(gradient, alpha=weight)
            if reach:
                parameters.copy_(origin - reach * dt[:, None] * gradient)
                self.model.compute_gradient()
        parameters.copy_(origin - dt[:, None] / 6 * total)
        self._note_escapes(before, self._singular_values(), dt)
        self.time += dt
        loss = self.model.data_loss(self.model.logits())
        self.running &= loss > ESCAPED_LOSS * math.log(self.shape.classes)

    def _note_escapes(self, before: Tensor, after: Tensor, dt: Tensor) -> None:
        """Time and ratios of runs whose first mode passed the escape point in this step."""
        passed = (before[:, 0] < self.escape_at) & (after[:, 0] >= self.escape_at)
        start, end = self._clock(before[:, 0]), self._clock(after[:, 0])
        share = (self._clock(self.escape_at) - start) / (end - start)
        self.escape_times = torch.where(passed, self.time + share * dt, self.escape_times)
        values = before.log().lerp(after.log(), share[:, None]).exp()
        ratios = values / values[:, :1]
        self.ratios = torch.where(passed[:, None], ratios, self.ratios)

    def _clock(self, s: Tensor) -> Tensor:
        """What is linear in time along the closed form of a mode: s^-b, or ln s of two factors."""
        return s.log() if self.factors == 2 else s.pow(2 / self.factors - 1)

    def measure(self, step: int) -> list[Row]:
        """One row per run, with the prediction of the closed form for balanced starts."""
        values = self._singular_values()
        logits = self.model.logits()
        loss = self.model.data_loss(logits)
        predicted = grow(self.first, self.time[:, None], self.factors, self.rates[:, None])
        square = values.square().sum(dim=1)
        participation = square.square() / values.pow(4).sum(dim=1)
        rank = (values > self.settings.gamma * values[:, :1]).sum(dim=1)
        rows = []
        for i, run in enumerate(self.runs):
            row = {
                "step": step, "start": self.start, "depth": self.shape.depth, **run._asdict(),
                "time": self.time[i].item(), "loss": loss[i].item(),
                "singular_values": values[i].tolist(),
                "participation_ratio": participation[i].item(), "rank": rank[i].item(),
                "logits_norm": square[i].sqrt().item() / math.sqrt(self.shape.samples),
            }  # fmt: skip
            if self.start == "balanced":
                row["predicted_singular_values"] = predicted[i].tolist()
            rows.append(row)
        return rows

    def outcome(self) -> list[Row]:
        """The last row of each run, and its escape beside the prediction."""
        predicted_time = escape_time(self.first[:, 0], self.escape_at, self.factors, self.rates)
        predicted = ratio_at_escape(
            self.first, self.first[:, :1], self.escape_at[:, None], self.factors
        )
        rows = self.measure(self.settings.steps)
        for i, row in enumerate(rows):
            row["escaped"] = not bool(self.running[i])  # the loss has fallen
            passed = bool(self.escape_times[i].isfinite())
            row["escape_time"] = self.escape_times[i].item() if passed else None
            row["ratios"] = self.ratios[i].tolist() if passed else None
            if self.start == "balanced":
                row["predicted_escape_time"] = predicted_time[i].item()
                row["predicted_ratios"] = predicted[i].tolist()
            if self.start == "balanced" and self.factors > 2:
                row["dropout_temperatures"] = self._dropout_temperatures(i)
            if self.start == "balanced" and passed:
                row["escape_time_error"] = abs(row["escape_time"] / predicted_time[i].item() - 1)
                row["ratio_error"] = (self.ratios[i] / predicted[i] - 1).abs().max().item()
        return rows

    def _dropout_temperatures(self, run: int) -> list[float]:
        """Temperature above which each later mode is below gamma s_1 at escape, by the closed form."""
        settings, first = self.settings, self.first[run]
        shape = self.factors, settings.gamma, settings.escape, settings.samples_per_class
        return dropout_temperature(first[1:], first[:1], *shape).tolist()

    def state(self) -> Row:
        """The state to save in a checkpoint."""
        return {
            "parameters": self.model.parameters,
            "time": self.time,
            "running": self.running,
            "escape_times": self.escape_times,
            "ratios": self.ratios,
        }

    def restore(self, state: Row) -> None:
        """Continue from the state of a checkpoint."""
        self.model.parameters.copy_(state["parameters"])
        self.time, self.running = state["time"], state["running"]
        self.escape_times, self.ratios = state["escape_times"], state["ratios"]


@experiment
class Dynamics(StepByStep[Settings, Flow]):
    """Do the modes of a deep linear model escape small logits as the closed form says?"""

    settings = Settings

    def prepare(self, settings: Settings) -> list[Flow]:
        """A flow for each depth and kind of start."""
        check_at_least(3, classes=settings.classes)  # two modes, for a race
        check_at_least(2, width=settings.width)
        check_at_least(1, samples_per_class=settings.samples_per_class)
        check_values(start=settings.start)
        if max(settings.temperature) > 1 / LEAST:
            raise ValueError(
                f"temperature is {max(settings.temperature)}; it must be at most {1 / LEAST:g}"
            )
        if not 0 < settings.escape < 1:
            raise ValueError(f"escape is {settings.escape}; it must lie between 0 and 1")
        least = settings.escape * min(settings.temperature) * math.sqrt(settings.samples_per_class)
        modes_fit = 0 < settings.smallest_mode < settings.largest_mode < least
        if "balanced" in settings.start and not modes_fit:
            raise ValueError(
                f"smallest_mode is {settings.smallest_mode} and largest_mode {settings.largest_mode}; "
                f"they must be positive, in this order, and below the least escape point, {least:g}"
            )
        if not 0 < settings.step_size <= 0.1:
            raise ValueError(f"step_size is {settings.step_size}; it must lie in (0, 0.1]")
        depths, starts = sorted(set(settings.depth)), dict.fromkeys(settings.start)
        return [Flow(settings, depth, start) for depth, start in product(depths, starts)]

    def summarise(self, settings: Settings, batches: Sequence[Flow], path: Path) -> Row:
        """The escapes and their errors."""
        return {
            "classes": settings.classes,
            "gamma": settings.gamma,
            "escape": settings.escape,
            "escaped_loss": ESCAPED_LOSS,
            "samples_per_class": settings.samples_per_class,
            "runs": [row for flow in batches for row in flow.outcome()],
        }

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Escapes against the closed form, participation ratios and ranks."""
        return report.report(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Modes over time, escape times, participation ratios."""
        return report.figures(rows, summary)
