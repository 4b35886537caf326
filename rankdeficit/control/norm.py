"""The norm of the logits: what it is, and setting it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor, nn

from rankdeficit.checks import check_temperature
from rankdeficit.control.head import Where, check_where, linear_head, multiply
from rankdeficit.control.passes import Mode, Passes, restored
from rankdeficit.diagnostics.reading.taps import Select
from rankdeficit.diagnostics.reading.trace import WEIGHT_MODULES

TOLERANCE = 1e-6
"""Largest relative error of a norm that was set."""

DOUBLINGS = 40
"""Powers of two by which all weights are multiplied or divided at most."""


@dataclass(frozen=True)
class Norms:
    """Norms of the logits M of n samples at temperature T."""

    raw: float
    """||M||_F / sqrt(n)."""
    effective: float
    """||M||_F / (sqrt(n) T). The loss depends on this one."""
    centred: float
    """The effective norm of the logits with each sample's mean subtracted, which the softmax sees."""


@dataclass(frozen=True)
class LogitsNorm:
    """Norms of a classifier's logits on a batch."""

    evaluation: Norms
    """With BatchNorm's running averages and without dropout."""
    training: Norms | None
    """With the batch's statistics and dropout; None for one sample where that is impossible."""
    temperature: float
    samples: int

    def __str__(self) -> str:
        """Both modes in a line."""

        def spell(own: Norms) -> str:
            return f"{own.raw:.4g} raw, {own.effective:.4g} effective"

        training = "" if self.training is None else f"; training mode {spell(self.training)}"
        return (
            f"norm of the logits (n = {self.samples}, T = {self.temperature:g}): evaluation mode "
            f"{spell(self.evaluation)}{training}"
        )


def logits_norm(
    model: nn.Module,
    batch: Any,
    temperature: float = 1.0,
    *,
    logits: Select | None = None,
) -> LogitsNorm:
    """Norm ||M||_F / sqrt(n) of the logits M (n, c) of a batch, raw and divided by T.

    The two modes differ before and early in training, as BatchNorm's running averages start at 0 and 1:
    the logits of an untrained ResNet-50 are more than ten times larger in evaluation than in training
    mode, in which it learns. Dropout is drawn once, with seed 0. The model is unchanged.

    batch: inputs, or a batch as `diagnose` takes it. logits: picks the logits from what the model
    returns. Raises ValueError for T <= 0, a batch that the model cannot take, and NaN logits.
    """
    check_temperature(temperature)
    passes = Passes.of(model, batch, logits)
    evaluation = norms_of(passes.logits(), temperature)
    training = None
    if len(passes.inputs) > 1 or not _has_batch_statistics(passes.model):
        training = norms_of(passes.logits("train"), temperature)
    return LogitsNorm(evaluation, training, float(temperature), len(passes.inputs))


def set_logits_norm(
    model: nn.Module,
    batch: Any,
    target: float,
    where: Where = "head",
    *,
    temperature: float = 1.0,
    mode: Mode = "eval",
    logits: Select | None = None,
) -> LogitsNorm:
    """Multiply weights in place so that the effective norm ||M||_F / (sqrt(n) T) is `target`.

    where: "head" multiplies weight and bias of the layer that makes the logits, which are proportional
    to it. "all" multiplies weights and biases of all linear layers, convolutions and attention by one
    factor, which is found by root finding, since biases and normalisations make the norm no power of
    it.
    mode: the mode in which the norm is set; see `logits_norm`.
    Returns the norms afterwards, exact to 1e-6 relative. Raises ValueError, with the model unchanged, as
    `logits_norm` and `linear_head`, for a target that is not positive, and for one that the factor or the
    precision of the weights cannot reach.
    """
    check_temperature(temperature)
    if not (isinstance(target, Real) and 0 < target < math.inf):
        raise ValueError(f"target is {target}; it must be a positive finite norm")
    target = float(target)
    check_where(where)
    passes = Passes.of(model, batch, logits)
    head = linear_head(passes)  # raises for logits whose norm no weight sets
    parameters = head.parameters if where == "head" else _weights(passes.model)
    kept = [own.detach().clone() for own in parameters]

    def norm_at(factor: float) -> float:
        with torch.no_grad():
            for own, old in zip(parameters, kept, strict=True):
                own.copy_(old * factor)
        return norms_of(passes.logits(mode), temperature).effective

    with restored(parameters):
        factor = _factor(norm_at, target, where)
    multiply(parameters, factor)
    return logits_norm(model, batch, temperature, logits=logits)


def _factor(norm_at: Callable[[float], float], target: float, where: Where) -> float:
    """The factor of the weights at which the norm is the target."""
    factor = 1.0
    if where == "all":
        factor = _root(norm_at, target)
    for _ in range(5):  # rounding of the weights
        reached = norm_at(factor)
        if abs(reached / target - 1) <= TOLERANCE:
            return factor
        if where == "head":
            factor *= target / reached
    raise ValueError(
        f"target is {target:g}, but the weights give {reached:.9g} at best in their precision; convert "
        "the model with .float() or .double() first"
    )


def _root(norm_at: Callable[[float], float], target: float) -> float:
    """Where the norm, as a function of the logarithm of the factor, crosses the target."""

    def distance(power: float) -> float:
        try:
            norm = norm_at(2.0**power)
        except ValueError:  # logits beyond their precision
            return math.inf
        return math.log(norm / target) if norm > 0 else -math.inf

    here = distance(0.0)
    if here == 0:
        return 1.0
    direction = -1 if here > 0 else 1
    inner, outer = 0.0, 0.0
    for doubling in range(DOUBLINGS):
        inner, outer = outer, direction * 2.0 ** (doubling / 4)
        there = distance(outer)
        if there * here <= 0 and math.isfinite(there):
            return 2.0 ** brentq(distance, inner, outer, xtol=1e-13, rtol=1e-14)
        if not math.isfinite(there):
            break
    raise ValueError(
        f"target is {target:g}, which no common factor of all weights gives: the nearest norm tried is "
        f"{target * math.exp(distance(inner)):.4g}; take where='head', or remove the normalisation that "
        "fixes the norm"
    )


def _weights(model: nn.Module) -> list[nn.Parameter]:
    """Weights and biases of linear layers, convolutions and attention, each once."""
    found = {
        id(own): own
        for module in model.modules()
        if isinstance(module, WEIGHT_MODULES)
        for own in module.parameters()
    }
    return list(found.values())


def norms_of(logits: Float[Tensor, "n c"], temperature: float) -> Norms:
    """Norms of logits in float64."""
    rows = logits.double()
    scale = math.sqrt(len(rows))
    raw = float(rows.norm()) / scale
    centred = float((rows - rows.mean(dim=1, keepdim=True)).norm()) / scale
    return Norms(raw, raw / temperature, centred / temperature)


def _has_batch_statistics(model: nn.Module) -> bool:
    return any(isinstance(own, nn.modules.batchnorm._BatchNorm) for own in model.modules())
