"""Softmax with a temperature, its losses, entropy and free energy.

The last dimension holds the classes, and logits are divided by T: softmax_T(e) = softmax(e / T).
A temperature is a number or a tensor that broadcasts to the batch shape of the logits. One
temperature per run, for example, has shape (runs, 1) for logits of shape (runs, n, c).

Finite logits of any magnitude never produce NaN. Half precision is computed in float32. All functions
are differentiable in the logits, the temperature and floating-point targets; the gradient of an
underflowed probability is zero.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from rankdeficit.checks import check_floating, check_temperature

Reduction = Literal["mean", "sum", "none"]
MeanLoss = Callable[[Tensor, Tensor, float], Tensor]
"""Mean loss of logits and labels at a temperature."""


def softmax(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0, *, validate: bool = True
) -> Float[Tensor, "*batch c"]:
    """Probabilities exp(e_k / T) / sum_j exp(e_j / T) (the paper's equation 1), in the logits' dtype.

    validate: check the arguments, which synchronises with the device. Without it NaN propagates.
    Raises ValueError unless T is positive and finite and the logits are finite floating-point numbers.
    """
    return log_softmax(logits, temperature, validate=validate).exp().to(logits.dtype)


def log_softmax(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0, *, validate: bool = True
) -> Float[Tensor, "*batch c"]:
    """Logarithm of `softmax`, with half precision promoted to float32. Raises as `softmax`."""
    if validate:
        check_logits(logits, temperature)
    return torch.log_softmax(_relative_energies(logits, temperature), dim=-1)


def cross_entropy(
    logits: Float[Tensor, "*batch c"],
    targets: Shaped[Tensor, "..."],
    temperature: float | Tensor = 1.0,
    *,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Float[Tensor, "..."]:
    """Cross-entropy -sum_k y_k ln softmax_T(e)_k, which is ln c for uniform predictions.

    targets: integer class indices of the batch shape, or probabilities of the logits' shape.
    label_smoothing: weight in [0, 1) of the uniform distribution mixed into the targets.
    reduction: "mean" or "sum" over all samples, or "none" for one loss per sample (batch shape).
    Raises ValueError as `softmax`, and for targets with the wrong shape, dtype or range.
    """
    log_probabilities = log_softmax(logits, temperature, validate=validate)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must lie in [0, 1)")
    _check_is_tensor(targets)
    if validate:
        check_targets(targets, logits)
    if targets.is_floating_point():
        losses = -_expectation(targets, log_probabilities)
    else:
        index = targets.long().unsqueeze(-1)
        losses = -log_probabilities.gather(-1, index).squeeze(-1)
    if label_smoothing:
        uniform = -log_probabilities.mean(dim=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return _reduce(losses, reduction)


def softmax_mse(
    logits: Float[Tensor, "*batch c"],
    targets: Shaped[Tensor, "..."],
    temperature: float | Tensor = 1.0,
    *,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Float[Tensor, "..."]:
    """Brier score sum_k (softmax_T(e)_k - y_k)^2 (the paper's appendix F).

    It is summed over classes and is 1 - 1/c for uniform predictions. Targets, reduction and errors are
    those of `cross_entropy`.
    """
    probabilities = log_softmax(logits, temperature, validate=validate).exp()
    _check_is_tensor(targets)
    if validate:
        check_targets(targets, logits)
    if targets.is_floating_point():
        expected = targets.to(probabilities.dtype)
    else:
        expected = torch.nn.functional.one_hot(targets.long(), logits.shape[-1])
    return _reduce((probabilities - expected).square().sum(dim=-1), reduction)


def entropy(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0
) -> Float[Tensor, "*batch"]:
    """Entropy -sum_k p_k ln p_k of p = softmax_T(e) in nats, from 0 (one-hot) to ln c (uniform)."""
    p = log_softmax(logits, temperature).exp()
    positive = p > 0  # the derivative of -p ln p is infinite at zero
    terms = torch.special.entr(torch.where(positive, p, 1.0))
    return torch.where(positive, terms, 0.0).sum(dim=-1)


def free_energy(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0
) -> Float[Tensor, "*batch"]:
    """Helmholtz free energy F = -T ln sum_k exp(e_k / T) of states with energies -e_k.

    F = <E> - T H with the mean energy <E> = -sum_k p_k e_k and the `entropy` H. Raises as `softmax`.
    """
    check_logits(logits, temperature)
    energies = _relative_energies(logits, temperature)
    highest = logits.detach().to(energies.dtype).amax(dim=-1)  # cancels, gradient included
    return -(highest + temperature * torch.logsumexp(energies, dim=-1))


def _relative_energies(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """(e - max e) / T in float32 or float64, without overflow to NaN.

    The division comes before the subtraction for T >= 1 and after it for T < 1. Only differences
    whose exponential is zero can then overflow.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if isinstance(temperature, Tensor):
        T = temperature.to(logits.device, dtype).unsqueeze(-1)
    else:  # a zero-dimensional CPU tensor: operations on any device accept it without synchronising
        T = torch.tensor(temperature, dtype=dtype, device="cpu")
    limits = torch.finfo(dtype)
    fixed = T.detach()
    scaled = logits.to(dtype) / fixed.clamp(min=1)
    highest = scaled.detach().amax(dim=-1, keepdim=True)
    energies = (scaled - highest) / fixed.clamp(min=limits.tiny, max=1)
    if not T.requires_grad:
        return energies
    # A factor of value 1 carries the derivative -energies / T, so large logits cause no cancellation.
    # Overflowed energies get no gradient, as their probability is zero.
    T = T.clamp(min=limits.tiny, max=limits.max)
    lost = energies.isinf()
    kept = torch.where(lost, 0.0, energies) * (T.detach() / T)
    return torch.where(lost, energies, kept)


class _Floor(torch.autograd.Function):
    """Clamp to at least `lowest` in the forward pass, the identity in the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, lowest: float) -> Tensor:
        return values.clamp(min=lowest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _expectation(weights: Tensor, log_probabilities: Tensor) -> Tensor:
    """sum_k w_k ln p_k with 0 * (-inf) = 0."""
    lowest = torch.finfo(log_probabilities.dtype).min
    return (weights.to(log_probabilities.dtype) * _Floor.apply(log_probabilities, lowest)).sum(
        dim=-1
    )


def _reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ValueError(f"reduction is {reduction!r}; it must be 'mean', 'sum' or 'none'")


def check_logits(logits: Tensor, temperature: float | Tensor) -> None:
    """Raise ValueError unless the logits are finite and the temperature is positive and broadcasts."""
    check_temperature(temperature)
    check_floating("logits", logits, dimensions=1)
    if isinstance(temperature, Tensor):
        batch = logits.shape[:-1]
        sizes = zip(reversed(temperature.shape), reversed(batch), strict=False)
        if temperature.ndim > len(batch) or any(ours not in (1, n) for ours, n in sizes):
            raise ValueError(
                f"temperature has shape {tuple(temperature.shape)}; it must broadcast to the "
                f"batch shape {tuple(batch)} of the logits"
            )
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("logits have NaN or infinite entries; remove or fix these samples first")


def check_targets(targets: Tensor, logits: Tensor) -> None:
    """Raise ValueError unless targets are class indices or probabilities for these logits."""
    _check_is_tensor(targets)
    if targets.is_floating_point():
        _check_target_probabilities(targets, logits)
    else:
        _check_class_indices(targets, logits)


def _check_is_tensor(targets: Tensor) -> None:
    if not isinstance(targets, Tensor):
        raise ValueError(f"targets are a {type(targets).__name__}; pass a torch tensor")


def _check_class_indices(targets: Tensor, logits: Tensor) -> None:
    if targets.dtype == torch.bool or targets.is_complex() or targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)} and dtype {targets.dtype}; for logits of "
            f"shape {tuple(logits.shape)} they must be integers of shape {tuple(logits.shape[:-1])}"
        )
    low, high = (int(bound) for bound in torch.aminmax(targets))
    if low < 0 or high >= logits.shape[-1]:
        raise ValueError(
            f"targets range from {low} to {high}; with {logits.shape[-1]} classes in the logits "
            f"they must lie in 0..{logits.shape[-1] - 1}"
        )


def _check_target_probabilities(targets: Tensor, logits: Tensor) -> None:
    if targets.shape != logits.shape:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}; probabilities must have the logits' "
            f"shape {tuple(logits.shape)}"
        )
    tolerance = logits.shape[-1] * torch.finfo(targets.dtype).eps
    sums = targets.sum(dim=-1)
    if not bool(((targets >= 0).all(dim=-1) & ((sums - 1).abs() <= tolerance)).all()):
        raise ValueError("targets must be non-negative and sum to 1 over the last dimension")
