"""Rank-deficit bias in deep unconstrained feature models, at several softmax temperatures.

Features and weights are all free; runs that differ in temperature and seed train side by side in
one batched program per depth. Seeds pair runs: the same seed starts alike at every temperature.

    python -m simulations.ufm --temperature 50
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float64
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import divergence_bound
from rankdeficit.diagnostics import alignment, measure_logits
from rankdeficit.experiments import cli, over_temperature, plots, tables
from rankdeficit.experiments.experiment import StepByStep, experiment
from rankdeficit.experiments.loops import OptimizedBatch
from rankdeficit.experiments.settings import (
    DepthSettings,
    NetworkSettings,
    Row,
    ShapeSettings,
    TrainingSettings,
)
from rankdeficit.toys.labels import long_tailed_counts, noisy_targets
from rankdeficit.toys.optimizers import make_optimizer
from rankdeficit.toys.ufm import Activation, DeepUfm, UfmShape, initial_parameters

DEFAULT_LR = {
    "adam": {"ce": 1e-2, "mse": 3e-3},
    "sgd": {"ce": 1.0, "mse": 1.0},
    "gd": {"ce": 1.0, "mse": 1.0},
}
TINY = 1e-100
"""Values below it count as zero in every measure."""


@dataclass(frozen=True)
class ModelSettings(TrainingSettings, NetworkSettings, DepthSettings, ShapeSettings):
    """Deep unconstrained feature models and their training."""

    activation: Activation = "linear"
    """Activation between weight matrices."""
    bias: bool = False
    """Add a bias to each layer (not decayed)."""
    init_scale: float = 1.0
    """Scale of the initial factors: weights N(0, s^2 / fan_in), features N(0, s^2)."""
    lr: float | None = None
    """Learning rate, the same at every temperature [default: adam 0.01 (mse 0.003), sgd 1, gd 1]."""
    feature_decay: float | None = None
    """L2 penalty of the features [default: that of the weights]."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of training; spectra are always computed in float64."""


@dataclass(frozen=True)
class Settings(ModelSettings):
    """Train deep unconstrained feature models and measure the rank of their logits."""

    imbalance: float = 1.0
    """Samples of the largest class, of which there are --samples-per-class, over those of the smallest;
    between them sizes fall geometrically."""
    label_noise: float = 0.0
    """Share of labels drawn anew from all classes: a free feature vector stands for many samples, so each
    is trained on the distribution of their labels."""


class Batch(OptimizedBatch):
    """All runs of one shape: temperatures x seeds, in one model."""

    def __init__(
        self,
        settings: ModelSettings,
        shape: UfmShape,
        targets: Float64[Tensor, "n c"] | None = None,
    ) -> None:
        self.runs = list(product(settings.temperatures, settings.seed_range))
        self.gamma = settings.gamma
        parameters = initial_parameters(
            shape,
            [seed for _, seed in self.runs],
            settings.init_scale,
            dtype=getattr(torch, settings.dtype),
            device=cli.resolve_device(settings.device),
        )
        self.parameters = parameters
        self.model = DeepUfm(
            shape,
            parameters,
            torch.tensor([T for T, _ in self.runs], dtype=torch.float64),
            loss=settings.loss,
            weight_decay=settings.weight_decay,
            feature_decay=settings.feature_decay,
            targets=targets,
        )
        default_lr = DEFAULT_LR[settings.optimizer][settings.loss]
        self.optimizer = make_optimizer(
            settings.optimizer,
            parameters,
            self.model.gradient,
            default_lr if settings.lr is None else settings.lr,
            momentum=settings.momentum,
        )

    def step(self) -> None:
        """One training step of every run."""
        self.model.compute_gradient()
        self.optimizer.step()

    def measure(self, step: int) -> list[Row]:
        """One row per run; measures of a run that diverged are None."""
        depth = self.model.shape.depth
        return [
            {"step": step, "temperature": temperature, "depth": depth, "seed": seed, **measured}
            for (temperature, seed), measured in zip(
                self.runs, measure_model(self.model, self.gamma), strict=True
            )
        ]


def shape_of(
    settings: ModelSettings, depth: int, counts: tuple[int, ...] | None = None
) -> UfmShape:
    """Shape of models of a depth. counts: samples of each class [default: equally many]."""
    return UfmShape(
        settings.classes, settings.samples_per_class, settings.width, depth, settings.activation,
        settings.bias, counts,
    )  # fmt: skip


def measure_model(model: DeepUfm, gamma: float) -> list[Row]:
    """Loss, accuracy, all measures of the logits, and alignment of each run; None where it diverged."""
    logits = model.logits()
    loss = model.data_loss(logits)
    representations = model.representations()
    bound = divergence_bound(logits.dtype)
    alive = loss.isfinite() & (model.parameters.abs() < bound).all(dim=1)
    for values in (logits, *representations):
        alive &= (values.abs() < bound).all(dim=(1, 2))

    def measurable(values: torch.Tensor) -> torch.Tensor:
        """The values, or zeros of runs that diverged or whose values are too small to be squared."""
        kept = alive & (values.abs() > TINY).any(dim=(1, 2))
        return torch.where(kept[:, None, None], values, 0)

    logits = measurable(logits)
    measures = measure_logits(logits, model.temperatures, gamma)
    labels = model.shape.labels(logits.device)
    accuracy = (logits.argmax(dim=-1) == labels).double().mean(dim=-1)
    aligned = torch.stack(
        [
            alignment(measurable(weight), measurable(inputs))
            for weight, inputs in zip(model.factors.weights, representations, strict=True)
        ]
    )
    rows: list[Row] = []
    for i, trained in enumerate(alive.tolist()):
        measured = {
            "loss": loss[i].item(),
            "accuracy": accuracy[i].item(),
            **measures.record(i),
            "alignment": aligned[:, i].mean().item(),
            "alignment_per_layer": aligned[:, i].tolist(),
        }
        rows.append(measured if trained else dict.fromkeys(measured))
    return rows


@experiment
class Ufm(StepByStep[Settings, Batch]):
    """Does a deep unconstrained feature model end with a lower rank when its temperature is high?"""

    settings = Settings
    leave_out = ("singular_values",)

    def prepare(self, settings: Settings) -> list[Batch]:
        """A batch for each depth."""
        classes, each = settings.classes, settings.samples_per_class
        counts = long_tailed_counts(classes, each, settings.imbalance)
        batches = []
        for depth in sorted(set(settings.depth)):
            shape = shape_of(settings, depth, None if settings.imbalance == 1 else counts)
            noise, targets = settings.label_noise, None
            if noise != 0:
                targets = noisy_targets(shape.labels(), classes, noise)
            batches.append(Batch(settings, shape, targets))
        return batches

    def summarise(self, settings: Settings, batches: Sequence[Batch], path: Path) -> Row:
        """Final measures and outcome of every run, and the verdict in words."""
        uniform = math.log(settings.classes) if settings.loss == "ce" else 1 - 1 / settings.classes
        predicted = tables.neural_collapse_rank(settings.classes, settings.width)
        runs = []
        for batch in batches:
            for row in batch.measure(settings.steps):
                outcome = tables.outcome(row["loss"], row["accuracy"], uniform)
                runs.append({**row, "neural_collapse_rank": predicted, "outcome": outcome})
        return {
            "runs": runs,
            "verdict": tables.verdicts(runs, "depth"),
            "gamma": settings.gamma,
            "classes": settings.classes,
            "halvings": over_temperature.halvings(runs),
        }

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """The table and the verdict."""
        table = tables.results_table(
            summary["runs"], "depth", summary["gamma"], tables.depth_and_factors
        )
        highest = max(run["temperature"] for run in summary["runs"])
        halved = over_temperature.halving_sentences(summary.get("halvings", ()), highest)
        return table, [*summary["verdict"], *halved]

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Ranks and alignment over training, the final spectra, and ranks over temperature."""
        runs, classes = summary["runs"], summary["classes"]
        predicted = runs[0]["neural_collapse_rank"]
        figures = {
            "ranks": plots.ranks_over_training(rows, classes, predicted, "step", "depth"),
            "spectra": plots.spectra(runs, predicted, summary["gamma"], "depth"),
            "alignment": plots.alignment_over_training(rows, "step", "depth"),
        }
        over = over_temperature.rank_over_temperature(runs, predicted, summary["gamma"])
        return figures if over is None else figures | {"rank_over_temperature": over}


if __name__ == "__main__":
    Ufm().main()
