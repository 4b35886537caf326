"""Deep unconstrained feature models that train side by side: settings, training, measures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rankdeficit.checks import divergence_bound
from rankdeficit.diagnostics import alignment, measure_logits
from rankdeficit.experiments import cli
from rankdeficit.experiments.loops import OptimizedBatch
from rankdeficit.experiments.settings import (
    DepthSettings,
    NetworkSettings,
    Row,
    ShapeSettings,
    TrainingSettings,
)
from rankdeficit.experiments.sweeps import Variant
from rankdeficit.softmax import MeanLoss
from rankdeficit.toys.labels import noisy_targets
from rankdeficit.toys.optimizers import make_optimizer
from rankdeficit.toys.ufm import Activation, DeepUfm, Loss, UfmShape, initial_parameters

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
    label_noise: float = 0.0
    """Share of labels drawn anew from all classes: a free feature vector stands for many samples, so each
    is trained on the distribution of their labels, as with label smoothing of this strength."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of training; spectra are always computed in float64."""

    @property
    def decay_of_features(self) -> float:
        """L2 penalty of the features."""
        return self.weight_decay if self.feature_decay is None else self.feature_decay


class Run(NamedTuple):
    """One model."""

    temperature: float
    seed: int
    variant: Variant


class Batch(OptimizedBatch):
    """All runs of one shape: variants x temperatures x seeds, in one model.

    options: variants of the settings [default: the settings alone].
    loss, seen: the loss of the logits and what is measured of them [default: those of the settings].
    """

    def __init__(
        self,
        settings: ModelSettings,
        shape: UfmShape,
        options: Sequence[Variant] = (),
        loss: Loss | MeanLoss | None = None,
        seen: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        self.runs = [
            Run(temperature, seed, variant)
            for variant in options or (Variant({}, settings),)
            for temperature in settings.temperatures
            for seed in settings.seed_range
        ]
        self.gamma, self.seen = settings.gamma, seen
        own: list[ModelSettings] = [run.variant.settings for run in self.runs]
        default_lr = DEFAULT_LR[settings.optimizer][settings.loss]
        dtype = getattr(torch, settings.dtype)
        starts = [
            initial_parameters(shape, [run.seed], run.variant.settings.init_scale, dtype=dtype)
            for run in self.runs
        ]
        self.parameters = torch.cat(starts).to(cli.resolve_device(settings.device))
        self.model = DeepUfm(
            shape,
            self.parameters,
            _per_run([run.temperature for run in self.runs]),
            loss=settings.loss if loss is None else loss,
            weight_decay=_per_run([one.weight_decay for one in own]),
            feature_decay=_per_run([one.decay_of_features for one in own]),
            targets=_targets(shape, [one.label_noise for one in own]),
        )
        self.optimizer = make_optimizer(
            settings.optimizer,
            self.parameters,
            self.model.gradient,
            [default_lr if one.lr is None else one.lr for one in own],
            momentum=[one.momentum for one in own],
        )

    def step(self) -> None:
        """One training step of every run."""
        self.model.compute_gradient()
        self.optimizer.step()

    def measure(self, step: int) -> list[Row]:
        """One row per run; measures of a run that diverged are None."""
        shape = self.model.shape
        rows: list[Row] = []
        for run, learnt, measured in zip(
            self.runs,
            self.model.temperatures.tolist(),
            measure_model(self.model, self.gamma, self.seen),
            strict=True,
        ):
            row: Row = {"step": step, "temperature": run.temperature, "depth": shape.depth}
            row |= {"seed": run.seed, **run.variant.values}
            if shape.learn_temperature:
                row["learnt_temperature"] = None if measured["rank"] is None else learnt
            rows.append(row | measured)
        return rows


def _per_run(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _targets(shape: UfmShape, noises: Sequence[float]) -> Tensor | None:
    """Distributions of the labels, of each run where they differ; None without noise."""
    if not any(noises):
        return None
    targets = [noisy_targets(shape.labels(), shape.classes, noise) for noise in noises]
    return targets[0] if len(set(noises)) == 1 else torch.stack(targets)


def shape_of(
    settings: ModelSettings,
    depth: int,
    counts: tuple[int, ...] | None = None,
    learn_temperature: bool = False,
) -> UfmShape:
    """Shape of models of a depth. counts: samples of each class [default: equally many]."""
    return UfmShape(
        settings.classes, settings.samples_per_class, settings.width, depth, settings.activation,
        settings.bias, counts, learn_temperature,
    )  # fmt: skip


def measure_model(
    model: DeepUfm, gamma: float, seen: Callable[[Tensor], Tensor] = lambda logits: logits
) -> list[Row]:
    """Loss, accuracy, all measures of the logits, and alignment of each run; None where it diverged.

    seen: gives what is measured of the logits.
    """
    logits = model.logits()
    loss = model.data_loss(logits)
    logits = seen(logits)
    representations = model.representations()
    bound = divergence_bound(logits.dtype)
    temperatures = model.temperatures
    alive = loss.isfinite() & (model.parameters.abs() < bound).all(dim=1)
    alive &= temperatures.isfinite() & (temperatures > 0)
    for values in (logits, *representations):
        alive &= (values.abs() < bound).all(dim=(1, 2))

    def measurable(values: Tensor) -> Tensor:
        """The values, or zeros of runs that diverged or whose values are too small to be squared."""
        kept = alive & (values.abs() > TINY).any(dim=(1, 2))
        return torch.where(kept[:, None, None], values, 0)

    logits = measurable(logits)
    measures = measure_logits(logits, torch.where(alive, temperatures, 1), gamma)
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
