"""Learning rates: their course over training, and what they are at other temperatures."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

Schedule = Literal["cosine", "step", "constant"]
LrRule = Literal["matched", "reparametrised"]
Optimizer = Literal["sgd", "adamw"]

MILESTONES, DROP = (0.5, 0.75), 0.1
"""Shares of training after which the stepwise schedule multiplies the rate by DROP."""

ADAM_EPSILON = 1e-8

RATE_POWER: dict[Optimizer, int] = {"sgd": 2, "adamw": 1}
"""Rates of weights that start a times larger are larger by this power of a."""


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


def parameter_groups(
    model: nn.Module,
    temperature: float,
    *,
    lr: float,
    weight_decay: float,
    optimizer: Optimizer,
    rule: LrRule,
) -> list[dict[str, Any]]:
    """Parameters with their peak rate (`peak`, `lr`) and weight decay at a temperature.

    lr, weight_decay: at T = 1; the same at every T if matched. reparametrised: those at which the run
    at T equals the run at T = 1 with smaller initial weights, step by step (exactly; a normalisation
    after the logits breaks it, and clipping must see gradients as `scale_of` says):

    - a network of linear layers and ReLU alone is homogeneous of degree L, its number of layers: all
      weights start smaller by a = T^(1/L). With SGD, weights take eta a^2 and decay lambda / a^2, the
      bias of layer l takes eta a^(2l) and lambda / a^(2l). AdamW: eta a^l and lambda / a^l (l = 1 for
      weights), and epsilon shrinks likewise.
    - else the classifier starts smaller by T: its rate is eta T^2 (AdamW: eta T), its decay lambda / T^2
      (lambda / T); all else keeps its own.
    """
    power = RATE_POWER[optimizer]

    def group(parameters: Sequence[Tensor], scale: float) -> dict[str, Any]:
        peak = lr * scale**power
        decay = weight_decay / scale**power
        found = {"params": list(parameters), "lr": peak, "peak": peak, "weight_decay": decay}
        return found | ({"eps": ADAM_EPSILON / scale} if optimizer == "adamw" else {})

    if rule == "matched" or temperature == 1:
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


def scale_of(group: dict[str, Any], lr: float, optimizer: Optimizer) -> float:
    """How many times larger a group starts than in the run at T = 1 that it stands for.

    There its gradient is so many times longer.
    """
    scale: float = (group["peak"] / lr) ** (1 / RATE_POWER[optimizer])
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
