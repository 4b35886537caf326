"""Random toys, deep UFMs and perceptrons on clusters, each trained at several random temperatures."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from rankdeficit.checks import divergence_bound
from rankdeficit.control.dial.pilots import (
    last_step,
    measured_steps,
    pilot_depth,
    probed_depth,
)
from rankdeficit.softmax import cross_entropy
from rankdeficit.spectrum import GAMMAS, resolved_spectrum
from rankdeficit.toys import mlp, ufm
from rankdeficit.toys.optimizers import OptimizerName, make_optimizer

Kind = Literal["ufm", "mlp"]
SHARES = (0.05, 0.1, 0.2)
"""Shares of training at which a pilot may end."""

Range = tuple[float | int, float | int]


@dataclass(frozen=True)
class Ranges:
    """Where the numbers of a toy are drawn, all evenly in their logarithm."""

    classes: Range
    width: Range
    depth: Range
    steps: Range
    decay: Range
    lr_factor: Range
    """Learning rates as multiples of the usual one of kind and optimizer."""
    scale: Range
    """Factor of the initial weights."""
    temperature: Range
    label_noise: float
    """Largest share of perceptrons' labels that are drawn at random."""


INSIDE = Ranges(
    classes=(6, 80), width=(12, 64), depth=(2, 7), steps=(150, 800), decay=(1e-6, 1e-3),
    lr_factor=(0.3, 3.0), scale=(0.7, 1.4), temperature=(0.5, 200.0), label_noise=0.2,
)  # fmt: skip
"""The toys of the fit."""
OUTSIDE = Ranges(
    classes=(6, 128), width=(8, 96), depth=(2, 9), steps=(100, 1200), decay=(1e-7, 3e-3),
    lr_factor=(0.1, 6.0), scale=(0.5, 1.6), temperature=(0.5, 500.0), label_noise=0.3,
)  # fmt: skip
"""Wider ranges, for toys that judge."""
TINY = replace(INSIDE, classes=(4, 6), width=(6, 8), depth=(2, 3), steps=(20, 30))
"""Toys that are trained in a moment, to try the command."""

MOST_SAMPLES = 320
"""Largest number of train samples, unless classes are more."""

USUAL_LR: dict[tuple[Kind, OptimizerName], float] = {
    ("ufm", "adam"): 1e-2, ("ufm", "sgd"): 1.0, ("mlp", "adam"): 2e-3, ("mlp", "sgd"): 0.1,
}  # fmt: skip
CLIP = {"adam": math.inf, "sgd": 1.0}
"""Largest norm of a run's gradient."""


@dataclass(frozen=True)
class Shape:
    """What the runs of one batch have in common."""

    kind: Kind
    classes: int
    width: int
    inputs: int
    """Dimension of the clusters."""
    depth: int
    steps: int
    samples_per_class: int
    activation: Literal["linear", "relu", "tanh"]
    normalisation: mlp.Normalisation
    optimizer: OptimizerName
    schedule: Literal["constant", "cosine"]
    batch_share: float
    """Share of the samples that a step sees."""
    seed: int


@dataclass(frozen=True)
class Run:
    """A training: configuration number `number` of the batch, at a temperature."""

    number: int
    lr: float
    decay: float
    scale: float
    separation: float
    clusters_per_class: int
    label_noise: float
    temperature: float


class Toys(NamedTuple):
    """A batch of runs that train side by side."""

    shape: Shape
    runs: list[Run]


def draw(kind: Kind, ranges: Ranges, seed: int, configurations: int, temperatures: int) -> Toys:
    """A random batch."""
    random = np.random.default_rng((seed, get_args(Kind).index(kind), ranges is OUTSIDE))

    def log_uniform(bounds: Range) -> float:
        return float(np.exp(random.uniform(*np.log(bounds))))

    def choice(*values: Any) -> Any:
        return values[random.integers(len(values))]

    ufm_like = kind == "ufm"
    optimizer: OptimizerName = choice("adam", "sgd")
    classes = round(log_uniform(ranges.classes))
    each = round(log_uniform((2, 8) if ufm_like else (6, 32)))
    shape = Shape(
        kind=kind,
        classes=classes,
        width=round(log_uniform(ranges.width)),
        inputs=round(log_uniform((3, 32))),
        depth=round(log_uniform((ranges.depth[0] - ufm_like, ranges.depth[1]))),
        steps=round(log_uniform(ranges.steps)),
        samples_per_class=max(2, min(each, MOST_SAMPLES // classes)),
        activation=choice("linear", "relu") if ufm_like else choice("relu", "relu", "tanh"),
        normalisation="none" if ufm_like else choice("none", "none", "layer", "batch"),
        optimizer=optimizer,
        schedule=choice("constant", "cosine"),
        batch_share=1.0 if ufm_like else choice(1.0, 0.25),
        seed=int(random.integers(2**31)),
    )
    runs = []
    for number in range(configurations):
        own = {
            "lr": USUAL_LR[kind, optimizer] * log_uniform(ranges.lr_factor),
            "decay": choice(0.0, log_uniform(ranges.decay)),
            "scale": log_uniform(ranges.scale),
            "separation": log_uniform((1.5, 12.0)),
            "clusters_per_class": choice(1, 3, 6),
            "label_noise": choice(0.0, random.uniform(0, ranges.label_noise)),
        }
        drawn = sorted(log_uniform(ranges.temperature) for _ in range(temperatures))
        runs += [Run(number, **own, temperature=T) for T in drawn]
    return Toys(shape, runs)


class Training:
    """The batch in training."""

    def __init__(self, toys: Toys, device: torch.device) -> None:
        self.toys, shape = toys, toys.shape
        temperatures = torch.tensor([run.temperature for run in toys.runs], dtype=torch.float64)
        decays = torch.tensor([run.decay for run in toys.runs], dtype=torch.float64)
        seeds = [shape.seed + run.number for run in toys.runs]
        scales = torch.tensor([[run.scale] for run in toys.runs])
        self.generator = torch.Generator().manual_seed(shape.seed)
        self.model: ufm.DeepUfm | mlp.BatchedMlp
        if shape.kind == "ufm":
            own = ufm.UfmShape(
                shape.classes, shape.samples_per_class, shape.width, shape.depth,
                "linear" if shape.activation == "linear" else "relu",
            )  # fmt: skip
            self.parameters = (scales * ufm.initial_parameters(own, seeds)).to(device)
            self.model = ufm.DeepUfm(own, self.parameters, temperatures, weight_decay=decays)
            self.labels = own.labels(device).expand(len(seeds), -1)
        else:
            layers = mlp.MlpShape(
                shape.inputs, shape.classes, shape.width, shape.depth, shape.activation,
                normalisation=shape.normalisation,
            )  # fmt: skip
            self.parameters = (scales * mlp.initial_parameters(layers, seeds)).to(device)
            self.model = mlp.BatchedMlp(layers, self.parameters, temperatures, weight_decay=decays)
            self._draw_clusters(device)
        self.optimizer = make_optimizer(
            shape.optimizer, self.parameters, self.model.gradient, [run.lr for run in toys.runs]
        )

    def _draw_clusters(self, device: torch.device) -> None:
        """Train and test samples of each run; the labels of some train samples are random."""
        shape, drawn = self.toys.shape, {}
        for run in self.toys.runs:
            if run.number in drawn:
                continue
            each = shape.samples_per_class
            x, y = mlp.gaussian_clusters(
                shape.classes, 3 * each, shape.inputs, run.separation, shape.seed + run.number,
                clusters_per_class=run.clusters_per_class,
            )  # fmt: skip
            train = torch.arange(len(y)) % 3 == 0
            noisy = torch.rand(len(y), generator=self.generator) < run.label_noise
            random = torch.randint(shape.classes, y.shape, generator=self.generator)
            own = torch.where(noisy & train, random, y)
            drawn[run.number] = x[train], own[train], x[~train], own[~train]
        parts = zip(*(drawn[run.number] for run in self.toys.runs), strict=True)
        x, y, test_x, test_y = (torch.stack(part).to(device) for part in parts)
        self.x, self.labels, self.test_x, self.test_y = x, y, test_x, test_y

    def step(self, number: int) -> None:
        """Step `number`, from 0."""
        shape = self.toys.shape
        if isinstance(self.model, ufm.DeepUfm):
            self.model.compute_gradient()
        elif shape.batch_share == 1:
            self.model.compute_gradient(self.x, self.labels)
        else:
            samples = self.x.shape[1]
            part = torch.randperm(samples, generator=self.generator)
            part = part[: max(2, round(shape.batch_share * samples))].to(self.x.device)
            self.model.compute_gradient(self.x[:, part], self.labels[:, part])
        gradient = self.model.gradient
        norms = gradient.norm(dim=1, keepdim=True)
        gradient.mul_((CLIP[shape.optimizer] / norms.clamp(min=1e-30)).clamp(max=1.0))
        factor = 1.0
        if shape.schedule == "cosine":
            factor = (1 + math.cos(math.pi * number / shape.steps)) / 2
        for group in self.optimizer.param_groups:
            group.setdefault("peak", group["lr"])
            group["lr"] = factor * group["peak"]
        self.optimizer.step()

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Train logits of all runs."""
        if isinstance(self.model, ufm.DeepUfm):
            return self.model.logits()
        return self.model.forward(self.x).logits

    def points(self, step: int) -> list[dict[str, Any] | None]:
        """A point (`rankdeficit.control.dial.Point`) of each run; None where it diverged."""
        logits = self.logits()
        alive = (logits.abs() < divergence_bound(logits.dtype)).all(dim=2).all(dim=1)
        kept = torch.where(alive[:, None, None], logits, 0).double()
        temperatures = self.model.temperatures
        loss = cross_entropy(kept, self.labels, temperatures[:, None], reduction="none")
        ranks = resolved_spectrum(kept, GAMMAS, centred=True).rank_curve()
        norms = kept.flatten(1).norm(dim=1) / kept.shape[1] ** 0.5 / temperatures
        accuracy = (kept.argmax(dim=2) == self.labels).double().mean(dim=1)
        columns = (own.tolist() for own in (ranks, norms, loss.mean(dim=1), accuracy, alive))
        return [
            {"step": step, "ranks": r, "norm": n, "loss": own, "accuracy": a} if sound else None
            for r, n, own, a, sound in zip(*columns, strict=True)
        ]

    @torch.no_grad()
    def depths(self, held_out: bool) -> list[float | None]:
        """Effective depth of each run by linear probes; None for UFMs and odd configurations.

        held_out: the probes are tested on train samples that they were not fitted on, as in a pilot;
        otherwise on test samples.
        """
        if isinstance(self.model, ufm.DeepUfm):
            return [None] * len(self.toys.runs)
        sides = [(self.x, self.labels)]
        sides += [] if held_out else [(self.test_x, self.test_y)]
        layers = [
            [*own.inputs[1:], own.logits] for own in (self.model.forward(x) for x, _ in sides)
        ]
        return [
            None
            if run.number % 2 or not bool(layers[0][-1][i].isfinite().all())
            else pilot_depth([own[i] for own in layers[0]], self.labels[i])
            if held_out
            else probed_depth(
                [own[i] for own in layers[0]], self.labels[i],
                [own[i] for own in layers[1]], self.test_y[i],
            )
            for i, run in enumerate(self.toys.runs)
        ]  # fmt: skip


def train(toys: Toys, device: torch.device) -> Iterator[dict[str, Any]]:
    """Train a batch; a row for each run: its settings, the points of its pilots, and how it ends.

    Runs that diverge have no row.
    """
    shape = toys.shape
    ends = {share: last_step(shape.steps, share) for share in SHARES}
    measured = {*measured_steps(max(ends.values())), *ends.values(), shape.steps}
    training = Training(toys, device)
    points: list[list[dict[str, Any] | None]] = []
    depths: dict[int, list[float | None]] = {}
    for step in range(shape.steps + 1):
        if step in measured:
            points.append(training.points(step))
        if step in ends.values() and step < shape.steps:
            depths[step] = training.depths(held_out=True)
        if step < shape.steps:
            training.step(step)
    at_end = training.depths(held_out=False)
    for number, (run, own) in enumerate(zip(toys.runs, zip(*points, strict=True), strict=True)):
        if None not in own:
            told = {str(share): depths[step][number] for share, step in ends.items()}
            yield {
                **asdict(shape), **asdict(run), "points": list(own), "depths": told,
                "depth_at_end": at_end[number],
            }  # fmt: skip
