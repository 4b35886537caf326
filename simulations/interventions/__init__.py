"""Interventions on the logits: which of them act as a temperature of the same initial norm?

Temperature, scales, losses and heads that change the norm of the logits, on one baseline: an MLP on
Gaussian clusters. The curve is the final class-centred rank that temperature alone gives against the
initial effective norm ||M||_F / (sqrt(n) T) of the logits M that the loss sees. An intervention
follows the curve where its rank is that of a temperature with its norm, seed by seed, and breaks it
otherwise.

    python -m simulations.interventions
    python -m simulations.interventions --intervention soft-cap=5 z-loss=0.1
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor, nn

from rankdeficit.checks import check_at_least, check_positive, check_temperature, divergence_bound
from rankdeficit.control import intervene
from rankdeficit.control.interventions import Intervened
from rankdeficit.control.interventions.options import InterventionOptions
from rankdeficit.control.ruler import CURVE
from rankdeficit.diagnostics import calibration, measure_logits
from rankdeficit.experiments import cli, tables
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.settings import (
    ClusterSettings,
    Row,
    ShapeSettings,
    TemperatureSettings,
)
from rankdeficit.softmax import cross_entropy
from rankdeficit.toys.mlp import MlpShape, gaussian_clusters, initial_parameters, module_of
from simulations.interventions import report
from simulations.interventions.training import fit

TRIED = (
    *(f"logit-norm={tau:g}" for tau in (0.04, 0.2, 1.0, 5.0)),
    "elogit-norm",
    *(f"cosine-head={scale:g}" for scale in (1.0, 4.0, 16.0)),
    *(f"soft-cap={cap:g}" for cap in (0.3, 1.0, 5.0)),
    *(f"z-loss={weight:g}" for weight in (0.01, 0.1)),
    *(f"learnable-temperature={T:g}" for T in (1.0, 30.0)),
    *(f"simplex-head={norm:g}" for norm in (0.1, 1.0)),
    *(f"encoder-entropy={weight:g}" for weight in (0.05, 0.5)),
)
"""Interventions by default."""

LEAVING = (
    "elogit-norm", "soft-cap=5", "z-loss=0.1", "z-loss=10", "encoder-entropy=0.05", "encoder-entropy=0.5",
)  # fmt: skip
"""Interventions with little effect on the initial norm; by default they are also tried at a high
temperature."""


@dataclass(frozen=True)
class Settings(InterventionOptions, TemperatureSettings, ShapeSettings, ClusterSettings):
    """Compare interventions on the logits of an MLP with temperatures of the same initial norm."""

    seeds: int = 3
    """Runs per intervention, each with its own initial weights."""
    gamma: float = 1e-2
    """Threshold of the numerical rank; at 1e-3 most of these small networks have full rank."""
    temperature: tuple[float, ...] = (0.3, 3.0, 10.0, 30.0, 100.0, 300.0)
    """Temperatures of the curve, besides the baseline's 1."""
    classes: int = 30
    """Number of Gaussian clusters c."""
    samples_per_class: int = 8
    """Train samples per class, and as many test samples."""
    inputs: int = 32
    """Gaussian clusters: dimensions of the inputs."""
    width: int = 64
    """Width of every hidden layer."""
    depth: int = 5
    """Weight matrices."""
    lr: float = 2e-3
    """Learning rate of Adam."""
    steps: int = 300
    """Training steps, all samples in each."""
    hot: float = 30.0
    """Temperature at which interventions with little effect on the initial norm are also tried, since the
    rank is full at T = 1."""


@dataclass(frozen=True)
class Change:
    """The baseline, or one change of it."""

    family: str
    name: str
    temperature: float = 1.0
    init_scale: float = 1.0
    head_scale: float = 1.0
    label_smoothing: float = 0.0
    head_norm: str = "none"
    intervention: tuple[str, ...] = ()


def changes(settings: Settings) -> list[Change]:
    """The baseline, temperatures, and every other change."""
    hot = sorted({*settings.temperature} - {1.0})
    tried = settings.alternatives or TRIED
    hotter = Change("at a high temperature", f"T = {settings.hot:g}", temperature=settings.hot)
    return [
        Change(CURVE, "baseline"),
        *(Change(CURVE, f"T = {T:g}", temperature=T) for T in hot),
        *(Change("head scale", f"head x {s:g}", head_scale=s) for s in (0.01, 0.1)),
        *(Change("init scale", f"weights x {s:g}", init_scale=s) for s in (0.4, 0.6, 0.8)),
        Change("label smoothing", "smoothing 0.1", label_smoothing=0.1),
        *(Change("logits norm", f"{kind} norm of logits", head_norm=kind) for kind in NORMS),
        *(Change(own.partition("=")[0], own, intervention=(own,)) for own in tried),
        replace(hotter, name=f"smoothing 0.1 at {hotter.name}", label_smoothing=0.1),
        *(
            replace(hotter, name=f"{own} at {hotter.name}", intervention=(own,))
            for own in settings.intervention or LEAVING
        ),
    ]


NORMS = ("layer", "batch")


@experiment
class Interventions(UnitByUnit[Settings, Change]):
    """Which interventions on the logits act as a temperature of the same initial norm?"""

    settings = Settings
    units = "interventions"

    def prepare(self, settings: Settings) -> list[Change]:
        """All changes."""
        check_at_least(1, steps=settings.steps)
        check_at_least(2, width=settings.width, depth=settings.depth)
        check_positive(lr=settings.lr)
        data(settings)
        check_temperature(settings.hot)
        for change in (found := changes(settings)):
            build(settings, change, settings.seed)
        return found

    def compute(self, settings: Settings, unit: Change) -> Iterator[Row]:
        """Train all seeds of one change."""
        device = cli.resolve_device(settings.device)
        for seed in settings.seed_range:
            yield train(settings, unit, seed, device)

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """All runs, and where each change lies beside the curve."""
        ruler = report.ruler_of(rows)
        return {
            "classes": settings.classes,
            "gamma": settings.gamma,
            "seeds": settings.seeds,
            "neural_collapse_rank": tables.neural_collapse_rank(settings.classes, settings.width),
            "tolerance": ruler.tolerance,
            "cells": [asdict(own) for own in ruler.placed],
            "runs": rows,
        }

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Norm, rank, accuracy and calibration of every change, and its verdict."""
        return report.report(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Final rank against initial norm."""
        return {"ruler": report.draw(summary)}


def data(settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Train samples, test samples of the same clusters, and the labels of either."""
    x, labels = gaussian_clusters(
        settings.classes,
        2 * settings.samples_per_class,
        settings.inputs,
        settings.separation,
        settings.seed,
    )
    return x[::2], x[1::2], labels[::2]


def build(settings: Settings, change: Change, seed: int) -> tuple[nn.Module, Intervened]:
    """The network and the loss of a change. Raises ValueError where the change does not apply."""
    shape = MlpShape(settings.inputs, settings.classes, settings.width, settings.depth)
    (parameters,) = initial_parameters(shape, [seed], scale=change.init_scale)
    model: nn.Module = module_of(shape, parameters)
    with torch.no_grad():
        model[-1].weight.mul_(change.head_scale)  # type: ignore[index]
    smoothed = partial(cross_entropy, label_smoothing=change.label_smoothing, validate=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, loss = intervene(
            model, *change.intervention, temperature=change.temperature, loss=smoothed
        )
    classes = settings.classes
    if change.head_norm == "layer":
        model = nn.Sequential(model, nn.LayerNorm(classes, elementwise_affine=False))
    elif change.head_norm == "batch":
        model = nn.Sequential(
            model, nn.BatchNorm1d(classes, affine=False, track_running_stats=False)
        )
    return model, loss


def train(settings: Settings, change: Change, seed: int, device: torch.device) -> Row:
    """One training, with measures before and after."""
    x, held_out, labels = (own.to(device) for own in data(settings))
    model, loss = build(settings, change, seed)
    found = fit(
        model.to(device),
        loss,
        x,
        labels,
        change.temperature,
        settings.steps,
        lambda own: torch.optim.Adam(own, lr=settings.lr),
    )
    norms = {
        name: float(own.double().norm()) / math.sqrt(len(own)) / change.temperature
        for name, own in (("initial_norm", found.first), ("initial_norm_seen", found.first_seen))
    }
    with torch.no_grad():
        test = model(held_out)
    plain = float(cross_entropy(found.logits.nan_to_num(), labels, change.temperature))
    bound = divergence_bound(found.logits.dtype)
    alive = math.isfinite(found.loss) and bool((found.logits.abs() < bound).all())
    measured: Row = {}
    if alive:
        measures = measure_logits(found.logits, change.temperature, settings.gamma).record()
        measured = {
            "loss": plain,
            "train_accuracy": accuracy(found.logits, labels),
            "test_accuracy": accuracy(test, labels),
            "ece": calibration(test, labels, change.temperature).ece,
            "centred_rank": measures["centred_rank"],
            "rank": measures["rank"],
            "final_norm": measures["effective_logits_norm"],
        }
    return {
        "family": change.family,
        "name": change.name,
        "seed": seed,
        "temperature": change.temperature,
        **norms,
        **{name: measured.get(name) for name in report.MEASURED},
        "outcome": tables.outcome(
            measured.get("loss"), measured.get("train_accuracy"), math.log(settings.classes)
        ),
    }


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of correct predictions."""
    return float((logits.argmax(dim=-1) == labels).double().mean())
