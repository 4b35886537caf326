"""Temperature against init scale and learning rate: where they are the same thing, and where not.

Trains a network at temperature T beside a twin at temperature 1 whose parameters are theta / a, with
the learning rate, epsilon and weight decay that make each step of the twin the original's divided by
a. In an L-homogeneous network a = T^(1/L) for every weight; in any network with a linear head a = T
for the head and 1 for the rest. So temperature is an init scale *and* a learning rate. Leaving one of
the corrections out, or normalising, breaks the equality; the table says by how much.

    python -m simulations.equivalence --temperature 37 --depth 2 4
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal, NamedTuple

import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import check_at_least, divergence_bound
from rankdeficit.experiments import cli
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.settings import DepthSettings, Row, ShapeSettings, TemperatureSettings
from rankdeficit.spectrum import numerical_rank
from rankdeficit.toys import mlp, ufm
from simulations.equivalence import report

EQUAL = 1e-10
"""Relative difference below which two float64 runs are the same."""
LEAST = 1e-50
"""Temperatures lie between it and its inverse, so that learning rates stay in float64."""
BASE_LR = {"gd": 0.1, "momentum": 0.1, "nesterov": 0.1, "adam": 5e-3, "adamw": 5e-3}

Optimizer = Literal["gd", "momentum", "nesterov", "adam", "adamw"]
Twin = Literal["homogeneous", "head"]
LeftOut = Literal["nothing", "start", "learning rate", "weight decay", "epsilon"]


@dataclass(frozen=True)
class Case:
    """A network, how it is trained, which twin it gets, and which correction the twin leaves out."""

    name: str
    optimizer: Optimizer
    twin: Twin = "homogeneous"
    left_out: LeftOut = "nothing"
    model: Literal["ufm", "mlp"] = "ufm"
    activation: Literal["linear", "relu"] = "linear"
    bias: bool = False
    normalisation: mlp.Normalisation = "none"
    weight_decay: float = 0.0
    epsilon: float = 1e-8
    equal: bool = True


CASES = (
    Case("gradient descent", "gd"),
    Case("momentum", "momentum"),
    Case("Nesterov momentum", "nesterov"),
    Case("Adam", "adam"),
    Case("gradient descent, ReLU", "gd", activation="relu"),
    Case("Adam, ReLU MLP on data", "adam", model="mlp", activation="relu"),
    Case("momentum, ReLU, biases scaled by layer", "momentum", activation="relu", bias=True),
    Case("momentum, weight decay scaled", "momentum", weight_decay=1e-3),
    Case("Adam, L2 scaled", "adam", weight_decay=1e-3),
    Case("AdamW, decoupled decay scaled", "adamw", weight_decay=1e-2),
    Case("linear head of a layer-normalised MLP", "momentum", "head", model="mlp",
         activation="relu", bias=True, normalisation="layer"),
    Case("the same with Adam", "adam", "head", model="mlp", activation="relu",
         normalisation="layer", epsilon=1e-6),
    Case("init scale alone", "gd", left_out="learning rate", equal=False),
    Case("init scale alone, Adam", "adam", left_out="learning rate", equal=False),
    Case("learning rate alone", "gd", left_out="start", equal=False),
    Case("weight decay left as it is", "momentum", left_out="weight decay", weight_decay=1e-3,
         equal=False),
    Case("Adam's epsilon left as it is", "adam", left_out="epsilon", epsilon=1e-5, equal=False),
    Case("homogeneous twin of a layer-normalised MLP", "momentum", model="mlp", activation="relu",
         normalisation="layer", equal=False),
)  # fmt: skip


@dataclass(frozen=True)
class Settings(TemperatureSettings, DepthSettings, ShapeSettings):
    """Train networks at temperature T beside reparametrised twins at temperature 1, and compare them."""

    seeds: int = 3
    """Runs per case, each with its own seed."""
    temperature: tuple[float, ...] = (37.0,)
    """Softmax temperatures T of the original."""
    depth: tuple[int, ...] = (3,)
    """Weight matrices; the unconstrained feature model has one factor more (depth 3 is L = 4)."""
    classes: int = 6
    samples_per_class: int = 5
    width: int = 10
    steps: int = 200
    """Training steps."""
    measure_every: int = 10
    """Steps between rows of the record."""


class Unit(NamedTuple):
    """One pair of runs."""

    case: Case
    temperature: float
    depth: int
    seed: int


@experiment
class Equivalence(UnitByUnit[Settings, Unit]):
    """Is temperature only an initialisation scale, or a learning rate too?"""

    settings = Settings
    units = "pairs"

    def prepare(self, settings: Settings) -> list[Unit]:
        """All pairs."""
        for T in settings.temperature:
            if not LEAST <= T <= 1 / LEAST or T == 1:
                raise ValueError(
                    f"temperature is {T}; it must lie in {LEAST:g}..{1 / LEAST:g} and differ from the "
                    "twin's, 1"
                )
        check_at_least(2, depth=min(settings.depth), classes=settings.classes)
        check_at_least(
            1,
            steps=settings.steps,
            measure_every=settings.measure_every,
            samples_per_class=settings.samples_per_class,
            width=settings.width,
        )
        temperatures, depths = sorted(set(settings.temperature)), sorted(set(settings.depth))
        return [Unit(*unit) for unit in product(CASES, temperatures, depths, settings.seed_range)]

    def compute(self, settings: Settings, unit: Unit) -> Iterator[Row]:
        """Train one pair."""
        return compare(settings, unit)

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """The largest difference of each pair."""
        keys = ("case", "expected", "temperature", "depth")
        cells = []
        for key in dict.fromkeys(tuple(row[k] for k in keys) for row in rows):
            own = [row for row in rows if tuple(row[k] for k in keys) == key]
            largest = [
                max(_as_number(row["difference"]) for row in own if row["seed"] == seed)
                for seed in settings.seed_range
            ]
            ends = [row for row in own if row["step"] == settings.steps]
            equal = max(largest) < EQUAL
            cells.append(
                {
                    **dict(zip(keys, key, strict=True)),
                    "differences": largest,
                    "found": "equal" if equal else "different",
                    "loss_difference": max(_as_number(row["loss_difference"]) for row in own),
                    "ranks": [[row["rank"], row["twin_rank"]] for row in ends],
                    "losses": [[row["loss"], row["twin_loss"]] for row in ends],
                }
            )
        return {
            "gamma": settings.gamma,
            "seeds": settings.seeds,
            "equal_below": EQUAL,
            "cells": cells,
        }

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Each case with what theory expects and what was found."""
        return report.report(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Differences against steps."""
        return {"differences": report.draw_differences(rows, summary)}


def compare(settings: Settings, unit: Unit) -> Iterator[Row]:
    """Train the original (run 0) beside its twin (run 1) in float64, with rows along the way."""
    pair = Pair(settings, unit)
    for step in range(settings.steps + 1):
        if step % settings.measure_every == 0 or step == settings.steps:
            yield {
                "case": unit.case.name,
                "expected": "equal" if unit.case.equal else "different",
                **{k: v for k, v in unit._asdict().items() if k != "case"},
                "step": step,
                **pair.measure(settings.gamma),
            }
        pair.step()


class Pair:
    """The original and its twin in one batch of two runs, and their optimiser."""

    def __init__(self, settings: Settings, unit: Unit) -> None:
        case, T = unit.case, unit.temperature
        device = cli.resolve_device(settings.device)
        temperatures = torch.tensor([T, 1.0], dtype=torch.float64)
        self.model: ufm.DeepUfm | mlp.BatchedMlp
        self.data: tuple[Tensor, ...] = ()
        shape: ufm.UfmShape | mlp.MlpShape
        if case.model == "ufm":
            shape = features = ufm.UfmShape(
                settings.classes, settings.samples_per_class, settings.width, unit.depth,
                case.activation, case.bias,
            )  # fmt: skip
            start = ufm.initial_parameters(features, [unit.seed] * 2, dtype=torch.float64)
            degree = unit.depth + 1
        else:
            shape = layers = mlp.MlpShape(
                settings.width, settings.classes, settings.width, unit.depth, case.activation,
                case.bias, case.normalisation,
            )  # fmt: skip
            start = mlp.initial_parameters(layers, [unit.seed] * 2, dtype=torch.float64)
            x, labels = mlp.gaussian_clusters(
                settings.classes, settings.samples_per_class, settings.width, 2.0, unit.seed,
                dtype=torch.float64,
            )  # fmt: skip
            self.data = (x[None].to(device), labels[None].to(device))
            degree = unit.depth
        start = start.to(device)
        self.scales = twin_scales(shape, case.twin, T ** (1 / degree), T).to(device)
        if case.left_out != "start":
            start[1] /= self.scales
        l2 = case.weight_decay if case.optimizer != "adamw" else 0.0
        correction = self.scales[0].item() ** 2 if case.left_out != "weight decay" else 1
        decay = torch.tensor([l2, l2 * correction], dtype=torch.float64)
        if isinstance(shape, ufm.UfmShape):
            self.model = ufm.DeepUfm(shape, start, temperatures, weight_decay=decay)
        else:
            self.model = mlp.BatchedMlp(shape, start, temperatures, weight_decay=decay)
        self.optimizer = make_twin_optimizer(
            self.model.parameters, self.model.gradient, self.scales, case, T ** (2 / degree)
        )

    def step(self) -> None:
        """One step of both."""
        self.model.compute_gradient(*self.data)
        self.optimizer.step()

    def measure(self, gamma: float) -> Row:
        """Relative difference of theta / a and phi, and of the losses; ranks of both."""
        theta, phi = self.model.parameters
        if isinstance(self.model, ufm.DeepUfm):
            logits = self.model.logits()
            losses = self.model.data_loss(logits)
        else:
            with torch.no_grad():
                logits = self.model.forward(self.data[0]).logits
                losses = self.model.data_loss(*self.data)
        difference = (theta / self.scales - phi).abs().max() / phi.abs().max()
        first, second = losses.tolist()
        alive = bool((logits.abs() < divergence_bound(logits.dtype)).all())
        ranks = numerical_rank(logits, gamma).tolist() if alive else [None, None]
        return {
            "difference": difference.item() if alive else None,
            "loss_difference": abs(first - second) if alive else None,
            "loss": first,
            "twin_loss": second,
            "rank": ranks[0],
            "twin_rank": ranks[1],
        }


def twin_scales(
    shape: ufm.UfmShape | mlp.MlpShape, twin: Twin, root: float, temperature: float
) -> Tensor:
    """The scale a of each parameter, theta = a phi.

    Homogeneous: root = T^(1/L) for weights and features, root^l for the biases of layer l (features
    count as the first factor). Head: T for the head and 1 for the rest.
    """
    scales = torch.ones(1, shape.parameter_count, dtype=torch.float64)
    if isinstance(shape, ufm.UfmShape):
        weights, biases, features, _ = shape.unpack(scales)
        first_degree = 2
    else:
        weights, biases = shape.unpack(scales)
        features, first_degree = None, 1
    if twin == "head":
        weights[-1].fill_(temperature)
        for bias in biases[-1:]:
            bias.fill_(temperature)
        return scales[0]
    for weight in weights:
        weight.fill_(root)
    for layer, bias in enumerate(biases):
        bias.fill_(root ** (layer + first_degree))
    if features is not None:
        features.fill_(root)
    return scales[0]


def make_twin_optimizer(
    parameters: Tensor, gradient: Tensor, scales: Tensor, case: Case, boost: float
) -> torch.optim.Optimizer:
    """Torch's optimiser with the twin's learning rate, epsilon and decay for each scale a.

    eta / a^2 for gradient descent and momentum; eta / a, a eps and, decoupled, a lambda for Adam. The
    original's eta is the twin's usual one times `boost` (its root for Adam), so that both make progress.
    """
    adam = case.optimizer in ("adam", "adamw")
    eta = BASE_LR[case.optimizer] * (math.sqrt(boost) if adam else boost)
    groups = []
    for run, (row, slope) in enumerate(zip(parameters, gradient, strict=True)):
        for start, end in _stretches(scales):
            part = row[start:end]
            part.grad = slope[start:end]
            a = scales[start].item() if run == 1 else 1.0
            power = (1 if adam else 2) if case.left_out != "learning rate" else 0
            group = {"params": [part], "lr": eta / a**power}
            if adam:
                group["eps"] = case.epsilon * (a if case.left_out != "epsilon" else 1)
            if case.optimizer == "adamw":
                group["weight_decay"] = case.weight_decay * a
            groups.append(group)
    if case.optimizer == "adam":
        return torch.optim.Adam(groups)
    if case.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    momentum = 0.0 if case.optimizer == "gd" else 0.9
    return torch.optim.SGD(groups, momentum=momentum, nesterov=case.optimizer == "nesterov")


def _stretches(scales: Tensor) -> list[tuple[int, int]]:
    """Start and end of each run of equal scales."""
    changes = (scales[1:] != scales[:-1]).nonzero().flatten() + 1
    bounds = [0, *changes.tolist(), len(scales)]
    return list(pairwise(bounds))


def _as_number(value: float | None) -> float:
    return math.inf if value is None else value
