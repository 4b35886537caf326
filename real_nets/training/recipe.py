"""The training recipe, and the learning rates that follow from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NotRequired, TypedDict

from torch import Tensor, nn

from rankdeficit import cross_entropy, softmax_mse
from rankdeficit.augmentation import Augmentation
from rankdeficit.checks import check_at_least, check_positive
from rankdeficit.control.interventions import Intervened
from rankdeficit.control.interventions.options import InterventionOptions
from rankdeficit.control.scaled import scaled_groups
from rankdeficit.control.schedules import ScheduleOptions
from rankdeficit.experiments.options import Unused
from rankdeficit.softmax import MeanLoss

Precision = Literal["float32", "bf16"]
Schedule = Literal["cosine", "step", "constant"]
LrRule = Literal["matched", "reparametrised"]
Optimizer = Literal["sgd", "adamw"]

MILESTONES, DROP = (0.5, 0.75), 0.1
"""Fractions of training after which the stepwise schedule multiplies the rate by DROP."""

ADAM_EPSILON = 1e-8

OF_TRAINING = (
    "stop_accuracy batch_size optimizer lr lr_rule momentum nesterov weight_decay schedule warmup_epochs "
    "clip_norm augmentation precision compile milestones temperature_schedule"
).split()
"""Options of a job that an untrained network does not depend on."""

RATE_POWER: dict[Optimizer, int] = {"sgd": 2, "adamw": 1}
"""Weights that start a times larger need a rate larger by this power of a."""


class ParameterGroup(TypedDict):
    """Parameters with a common learning rate, as torch's optimizers take them."""

    params: list[Tensor]
    lr: float
    peak: float
    """Maximum of the learning rate schedule."""
    weight_decay: float
    eps: NotRequired[float]
    """AdamW's epsilon."""


@dataclass(frozen=True)
class Recipe(ScheduleOptions, InterventionOptions):
    """Training hyper-parameters, except temperature and seed."""

    epochs: int = 25
    """Number of passes over the train images; 0 leaves the network untrained."""
    stop_accuracy: float | None = None
    """Stop after the first epoch at which both the followed train images and all train images reach this
    accuracy [default: train all epochs]."""
    batch_size: int = 128
    """Images per step, in total over all processes."""
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    """Cross-entropy, or squared error of the softmax probabilities."""
    label_smoothing: float = 0.0
    """Weight of the uniform distribution in the labels (cross-entropy only)."""
    optimizer: Optimizer = "sgd"
    """SGD with momentum, or AdamW."""
    lr: float = 0.05
    """Peak learning rate at T = 1."""
    lr_rule: LrRule = "matched"
    """Learning rates at other temperatures: the same (matched), or rates that make T equivalent to a
    scale of the initial weights (reparametrised)."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Nesterov momentum."""
    weight_decay: float = 0.0
    """L2 penalty of SGD, decoupled weight decay of AdamW."""
    schedule: Schedule = "cosine"
    """Cosine decay to 0, division by 10 after half and three quarters of training, or constant."""
    warmup_epochs: float = 0.0
    """Number of epochs over which the learning rate rises to its peak."""
    clip_norm: float | None = 1.0
    """Maximum norm of the gradient; longer ones are clipped to it. With reparametrised rates it applies
    to the gradient of the equivalent run at T = 1."""
    augmentation: Augmentation = "none"
    """Data augmentation of the train images."""
    precision: Precision = "float32"
    """bf16 trains under autocast to bfloat16."""
    channels_last: bool = False
    """Use the channels-last memory format, faster for convolutions; not for narrow networks that a CPU
    cannot train in it."""
    compile: bool = False
    """Compile the network with torch.compile."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, epochs=self.epochs)
        check_at_least(1, batch_size=self.batch_size)
        check_positive(lr=self.lr)
        if self.clip_norm is not None:
            check_positive(clip_norm=self.clip_norm)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must lie in [0, 1)")
        for name in ("weight_decay", "warmup_epochs"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; it must not be negative")
        if 0 < self.epochs <= self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs:g}; it must be less than the {self.epochs} epochs "
                "of training, or the rate never reaches its peak"
            )
        if self.stop_accuracy is not None and not 0 < self.stop_accuracy <= 1:
            raise ValueError(f"stop_accuracy is {self.stop_accuracy}; it must lie in (0, 1]")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must lie in [0, 1)")
        if self.label_smoothing and self.loss != "cross-entropy":
            raise ValueError(f"label_smoothing is for cross-entropy; loss is {self.loss!r}")
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov is for SGD with momentum")
        if self.lr_rule != "matched" and self.temperature_schedule != "constant":
            raise ValueError(
                f"lr_rule is {self.lr_rule!r}, which needs one temperature, but temperature_schedule is "
                f"{self.temperature_schedule!r}; take --lr-rule matched"
            )
        self.check_interventions(self.batch_size, self.lr_rule)

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        found = self.unused_of_schedule()
        if self.optimizer != "sgd":
            of_sgd = ("momentum", "nesterov")
            found |= dict.fromkeys(of_sgd, "with --optimizer adamw; take --optimizer sgd")
        if self.loss != "cross-entropy":
            found["label_smoothing"] = "with --loss mse; take --loss cross-entropy"
        if not self.epochs:
            found |= dict.fromkeys(OF_TRAINING, "on an untrained network; raise --epochs")
        return found

    @property
    def notes_on_loss(self) -> list[str]:
        """Notes on the loss for a diagnosis; empty for plain cross-entropy."""
        if self.loss == "mse":
            name = "squared error of the softmax probabilities"
        elif self.label_smoothing:
            name = f"cross-entropy with label smoothing {self.label_smoothing:g}"
        else:
            return []
        return [f"gradient ranks are of the loss it was trained with, {name}"]

    def criterion(self, temperature: float, steps: int) -> Intervened:
        """The loss of a training of this many steps at a temperature."""
        at_step = partial(self.temperature_after, temperature, steps=steps)
        return self.intervened(self.mean_loss, at_step)

    def loss_of(self, model: nn.Module) -> MeanLoss:
        """The loss of this network's logits, for a diagnosis."""
        return self.criterion(1.0, 1).of(model)

    def mean_loss(self, logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
        """The training loss, averaged over samples."""
        if self.loss == "mse":
            return softmax_mse(logits, labels, temperature, validate=False)
        return cross_entropy(
            logits, labels, temperature, label_smoothing=self.label_smoothing, validate=False
        )


def shape_at(step: int, steps: int, schedule: Schedule, warmup: float = 0.0) -> float:
    """Learning rate relative to its peak at a step (from 0) of `steps` in total.

    The schedule runs over all steps and is multiplied by a linear warm-up over the first `warmup`.
    """
    rise = min(1.0, (step + 1) / (warmup + 1))
    progress = step / steps
    if schedule == "cosine":
        return rise * (1 + math.cos(math.pi * progress)) / 2
    if schedule == "step":
        return rise * DROP ** sum(progress >= milestone for milestone in MILESTONES)
    return rise


def parameter_groups(model: nn.Module, recipe: Recipe, temperature: float) -> list[ParameterGroup]:
    """Parameter groups with their peak learning rate and weight decay at a temperature.

    The recipe's learning rate eta and weight decay lambda apply at T = 1, and at every T if lr_rule is
    matched. With reparametrised rates, every step at T equals the step at T = 1 of a network with smaller
    initial weights (`scaled_groups`). This is exact unless the logits are normalised; clipping must
    rescale gradients by `scale_of`. Weights that are smaller by a have rate eta a^2 and decay
    lambda / a^2 with SGD; with AdamW eta a and lambda / a, and epsilon is divided by a.
    """
    power = RATE_POWER[recipe.optimizer]

    def group(parameters: Sequence[Tensor], scale: float) -> ParameterGroup:
        peak = recipe.lr * scale**power
        decay = recipe.weight_decay / scale**power
        found: ParameterGroup = {
            "params": list(parameters), "lr": peak, "peak": peak, "weight_decay": decay,
        }  # fmt: skip
        if recipe.optimizer == "adamw":
            found["eps"] = ADAM_EPSILON / scale
        return found

    if recipe.lr_rule == "matched" or temperature == 1:
        return [group(list(model.parameters()), 1.0)]
    return [group(own, scale) for own, scale in scaled_groups(model, temperature)]


def scale_of(peak: float, recipe: Recipe) -> float:
    """Scale of a group's weights, given its peak rate, relative to the equivalent run at T = 1.

    The gradient of the equivalent run is longer by the same factor.
    """
    scale: float = (peak / recipe.lr) ** (1 / RATE_POWER[recipe.optimizer])
    return scale
