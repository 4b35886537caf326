"""How a network is trained: the recipe, and the learning rates that follow from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

from torch import Tensor, nn

from rankdeficit import cross_entropy, softmax_mse
from rankdeficit.augmentation import Augmentation
from rankdeficit.checks import check_at_least

Precision = Literal["float32", "bf16"]
Schedule = Literal["cosine", "step", "constant"]
LrRule = Literal["matched", "reparametrised"]
Optimizer = Literal["sgd", "adamw"]

MILESTONES, DROP = (0.5, 0.75), 0.1
"""Shares of training after which the stepwise schedule multiplies the rate by DROP."""

ADAM_EPSILON = 1e-8

RATE_POWER: dict[Optimizer, int] = {"sgd": 2, "adamw": 1}
"""Rates of weights that start a times larger are larger by this power of a."""


class ParameterGroup(TypedDict):
    """Parameters of an optimizer that share their rate."""

    params: list[Tensor]
    lr: float
    peak: float
    """The largest learning rate of the schedule."""
    weight_decay: float
    eps: NotRequired[float]
    """AdamW's epsilon."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, whatever its temperature and seed."""

    epochs: int = 25
    """Passes over the train images; 0 leaves the network untrained."""
    stop_accuracy: float | None = None
    """Stop at the end of the epoch in which the accuracy on followed train images has reached this
    share, and that on all train images too [default: train all epochs]."""
    batch_size: int = 128
    """Images per step, over all processes."""
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    """Cross-entropy, or squared error of the probabilities after the softmax."""
    label_smoothing: float = 0.0
    """Weight of the uniform distribution mixed into the labels (cross-entropy alone)."""
    optimizer: Optimizer = "sgd"
    """SGD with momentum, or AdamW."""
    lr: float = 0.05
    """Peak learning rate at T = 1."""
    lr_rule: LrRule = "matched"
    """Rates at other temperatures: the same (matched), or those that make T a scale of the initial
    weights and nothing else (reparametrised)."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Nesterov's momentum."""
    weight_decay: float = 0.0
    """L2 penalty of SGD, decoupled decay of AdamW."""
    schedule: Schedule = "cosine"
    """From the peak rate to 0 along a cosine, a tenth after half and three quarters, or constant."""
    warmup_epochs: float = 0.0
    """Epochs over which the rate rises to its peak."""
    clip_norm: float | None = 1.0
    """Largest norm of the gradient; longer ones are shortened to it. With reparametrised rates it is
    the gradient of the smaller start."""
    augmentation: Augmentation = "none"
    """Random changes of the train images."""
    precision: Precision = "float32"
    """bf16 computes what can be in bfloat16 (autocast)."""
    channels_last: bool = False
    """Memory format that is faster for convolutions; left out for narrow networks that a CPU cannot
    train in it."""
    compile: bool = False
    """Compile the network with torch.compile."""

    def __post_init__(self) -> None:
        check_at_least(0, epochs=self.epochs)
        check_at_least(1, batch_size=self.batch_size)
        for name in ("lr", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; it must be positive and finite")
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

    @property
    def notes_on_loss(self) -> list[str]:
        """Notes on the loss for a diagnosis; none on plain cross-entropy."""
        if self.loss == "mse":
            name = "squared error after the softmax"
        elif self.label_smoothing:
            name = f"cross-entropy with label smoothing {self.label_smoothing:g}"
        else:
            return []
        return [f"gradient ranks are of the loss it was trained with, {name}"]

    def mean_loss(self, logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
        """Mean over the samples of the loss that training minimises."""
        if self.loss == "mse":
            return softmax_mse(logits, labels, temperature, validate=False)
        return cross_entropy(
            logits, labels, temperature, label_smoothing=self.label_smoothing, validate=False
        )


def shape_at(step: int, steps: int, schedule: Schedule, warmup: float = 0.0) -> float:
    """Learning rate of a step (from 0) relative to its peak, of `steps` in all.

    During the first `warmup` steps it rises linearly; the schedule runs over all steps.
    """
    rise = min(1.0, (step + 1) / (warmup + 1))
    progress = step / steps
    if schedule == "cosine":
        return rise * (1 + math.cos(math.pi * progress)) / 2
    if schedule == "step":
        return rise * DROP ** sum(progress >= milestone for milestone in MILESTONES)
    return rise


def parameter_groups(model: nn.Module, recipe: Recipe, temperature: float) -> list[ParameterGroup]:
    """Parameters with their peak rate and weight decay at a temperature.

    Those of the recipe, lr eta and weight decay lambda, hold at T = 1, and at every T if lr_rule is
    matched. If it is reparametrised, the run at T equals the run at T = 1 with smaller initial weights,
    step by step (exactly; a normalisation after the logits breaks it, and clipping must see gradients as
    `scale_of` says):

    - a network of linear layers and ReLU alone is homogeneous of degree L, its number of layers: all
      weights start smaller by a = T^(1/L). With SGD, weights take eta a^2 and decay lambda / a^2, the
      bias of layer l takes eta a^(2l) and lambda / a^(2l). AdamW: eta a^l and lambda / a^l (l = 1 for
      weights), and epsilon shrinks likewise.
    - else the classifier starts smaller by T: its rate is eta T^2 (AdamW: eta T), its decay lambda / T^2
      (lambda / T); all else keeps its own.
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
    layers = homogeneous_layers(model)
    if layers:
        a = temperature ** (1 / len(layers))
        groups = [group([layer.weight for layer in layers], a)]
        for number, layer in enumerate(layers, start=1):
            if layer.bias is not None:
                groups.append(group([layer.bias], a**number))
        return groups
    head = list(last_linear(model).parameters())
    others = [p for p in model.parameters() if all(p is not q for q in head)]
    return [group(others, 1.0), group(head, temperature)]


def scale_of(peak: float, recipe: Recipe) -> float:
    """Initial weights of the group with that peak rate, relative to the run at T = 1 it stands for.

    There its gradient is longer by the same factor.
    """
    scale: float = (peak / recipe.lr) ** (1 / RATE_POWER[recipe.optimizer])
    return scale


def homogeneous_layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers of a plain chain of them with ReLU; empty for any other network."""
    if not isinstance(model, nn.Sequential):
        return []
    parts = [part for part in model if not isinstance(part, (nn.Flatten, nn.ReLU))]
    return parts if all(isinstance(part, nn.Linear) for part in parts) else []  # type: ignore[return-value]


def last_linear(model: nn.Module) -> nn.Linear:
    """The linear module that was registered last. Raises ValueError where there is none."""
    found = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise ValueError(
            "lr_rule is 'reparametrised', but the network has no linear classifier; take "
            "--lr-rule matched"
        )
    return found[-1]
