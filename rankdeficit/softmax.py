"""The softmax with a temperature, the losses built on it, and its thermodynamics.

Everywhere the last dimension holds the classes and T divides: softmax_T(e) = softmax(e / T).
A temperature may be a number or a tensor that broadcasts against the batch shape of the logits
(one temperature per run, say: shape (runs, 1) for logits of shape (runs, n, c)).

Finite logits never give NaN: logits of 1e30 or of float16's largest values are handled, half
precisions are computed in float32. Everything is differentiable in logits, temperature and floating
targets; gradients of underflowed probabilities are zero.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from rankdeficit.checks import check_floating, check_temperature

Reduction = Literal["mean", "sum", "none"]


def softmax(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0, *, validate: bool = True
) -> Float[Tensor, "*batch c"]:
    """Probabilities exp(e_k / T) / sum_j exp(e_j / T) (the paper's equation 1), in the logits' dtype.

    `validate=False` skips the checks, which wait for the device; NaN then goes in and comes out.
    Raises ValueError if T is not positive and finite, or if the logits are not finite floats.
    """
    return log_softmax(logits, temperature, validate=validate).exp().to(logits.dtype)


def log_softmax(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0, *, validate: bool = True
) -> Float[Tensor, "*batch c"]:
    """Logarithm of `softmax`, at least float32 (half precisions are promoted). Raises as `softmax`."""
    if validate:
        _check_logits(logits, temperature)
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
    """Cross-entropy -sum_k y_k log softmax_T(e)_k; uniform predictions cost ln c.

    targets: class indices, integers of the batch shape, or probabilities of the logits' shape.
    label_smoothing: weight in [0, 1) of the uniform distribution mixed into the targets.
    reduction: over all samples of the batch; "none" keeps the batch shape.
    Raises ValueError as `softmax`, and for targets of a wrong shape, dtype or range.
    """
    log_probabilities = log_softmax(logits, temperature, validate=validate)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must lie in [0, 1)")
    _check_is_tensor(targets)
    if targets.is_floating_point():
        if validate:
            _check_target_probabilities(targets, logits)
        losses = -_expectation(targets, log_probabilities)
    else:
        if validate:
            _check_class_indices(targets, logits)
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
    """Squared error sum_k (softmax_T(e)_k - y_k)^2 (the Brier score; the paper's appendix F).

    Summed over classes, reduced over samples; uniform predictions cost 1 - 1/c.
    Targets, reduction and errors are those of `cross_entropy`.
    """
    probabilities = log_softmax(logits, temperature, validate=validate).exp()
    _check_is_tensor(targets)
    if targets.is_floating_point():
        if validate:
            _check_target_probabilities(targets, logits)
        expected = targets.to(probabilities.dtype)
    else:
        if validate:
            _check_class_indices(targets, logits)
        expected = torch.nn.functional.one_hot(targets.long(), logits.shape[-1])
    return _reduce((probabilities - expected).square().sum(dim=-1), reduction)


def entropy(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0
) -> Float[Tensor, "*batch"]:
    """Entropy -sum_k p_k ln p_k of p = softmax_T(e), in nats: ln c when flat, 0 when one-hot."""
    p = log_softmax(logits, temperature).exp()
    positive = p > 0  # the slope of -p ln p is infinite at zero
    terms = torch.special.entr(torch.where(positive, p, 1.0))
    return torch.where(positive, terms, 0.0).sum(dim=-1)


def free_energy(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0
) -> Float[Tensor, "*batch"]:
    """Helmholtz free energy F = -T ln sum_k exp(e_k / T) of states with energies -e_k.

    F = <E> - T H with <E> = -sum_k p_k e_k and H the `entropy`. Raises as `softmax`.
    """
    _check_logits(logits, temperature)
    energies = _relative_energies(logits, temperature)
    highest = logits.detach().to(energies.dtype).amax(dim=-1)  # cancels, its slope included
    return -(highest + temperature * torch.logsumexp(energies, dim=-1))


def _relative_energies(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """(e - max e) / T, at least float32, without overflow to NaN.

    T >= 1 divides before the maximum is subtracted and T < 1 after it, so that what overflows is
    a difference whose exponential is zero anyway.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if isinstance(temperature, Tensor):
        T = temperature.to(logits.device, dtype).unsqueeze(-1)
    else:  # of no dimension and on the CPU, which all devices divide by without waiting
        T = torch.tensor(temperature, dtype=dtype)
    limits = torch.finfo(dtype)
    fixed = T.detach()
    scaled = logits.to(dtype) / fixed.clamp(min=1)
    highest = scaled.detach().amax(dim=-1, keepdim=True)
    energies = (scaled - highest) / fixed.clamp(min=limits.tiny, max=1)
    if not T.requires_grad:
        return energies
    # A factor of 1 has the whole slope in T, -energies / T, whose digits no large logits cancel. What
    # overflowed has none: its probability is zero whatever T.
    T = T.clamp(min=limits.tiny, max=limits.max)
    lost = energies.isinf()
    kept = torch.where(lost, 0.0, energies) * (T.detach() / T)
    return torch.where(lost, energies, kept)


class _Floor(torch.autograd.Function):
    """Values of at least `lowest`, with the gradient of the values themselves."""

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


def _check_logits(logits: Tensor, temperature: float | Tensor) -> None:
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
        raise ValueError("logits have NaN or infinite entries; remove or mend those samples first")


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
