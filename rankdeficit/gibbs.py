"""Softmax at a temperature as a Gibbs state: energies, fluctuations, limits and optimal temperatures.

The states are the classes, with energies E_k = -z_k, so p = softmax(z / T) is the Gibbs state at T.
`rankdeficit.softmax` has its `entropy` H and `free_energy` F; here are

    F(q) - F(p) = T KL(q || p)              of any other probabilities q (Gibbs' inequality)
    dF/dT = -H,  dH/dT = Var_p(z) / T^3     so entropy rises with T, from ln(ties) to ln c
    dNLL/dbeta = mean(E_p z - z_y)          rising in beta = 1/T: temperature scaling is convex

Arguments, precision and errors are those of `rankdeficit.softmax`. Functions of logits and of a
temperature are differentiable in both.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from rankdeficit.checks import check_finite, check_floating, check_temperature
from rankdeficit.softmax import check_logits, check_targets, cross_entropy, log_softmax
from rankdeficit.spectrum import centre, numerical_rank

SPAN = 1e-9
"""Singular values below this share of the largest count as zero in the rank of cluster means."""


def mean_energy(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0
) -> Float[Tensor, "*batch"]:
    """Mean energy <E> = -sum_k p_k z_k of p = softmax(z / T), from -max z to -mean z; F = <E> - T H."""
    p, relative = _relative_logits(logits, temperature)
    highest = logits.detach().amax(dim=-1).to(p.dtype)  # cancels, gradient included
    return -(highest + (p * relative).sum(dim=-1))


def logits_variance(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0
) -> Float[Tensor, "*batch"]:
    """Fluctuation of the energy, Var_p(z) = sum_k p_k (z_k - E_p z)^2 with p = softmax(z / T).

    It is d(E_p z)/dbeta, the curvature of the negative log-likelihood in beta = 1/T.
    """
    p, deviations = _deviations(logits, temperature)
    return (p * deviations.square()).sum(dim=-1)


def heat_capacity(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0
) -> Float[Tensor, "*batch"]:
    """Heat capacity d<E>/dT = T dH/dT = Var_p(z) / T^2, without unit and at least 0."""
    p, deviations = _deviations(logits, temperature)
    T = temperature.unsqueeze(-1) if isinstance(temperature, Tensor) else temperature
    return (p * (deviations / T).square()).sum(dim=-1)


def variational_free_energy(
    targets: Float[Tensor, "*batch c"],
    logits: Float[Tensor, "*batch c"],
    temperature: float | Tensor = 1.0,
    *,
    validate: bool = True,
) -> Float[Tensor, "*batch"]:
    """F(q) = -sum_k q_k z_k - T H(q) of any probabilities q, least at the Gibbs state softmax(z / T).

    Raises ValueError unless q is non-negative and sums to 1 over the last dimension.
    """
    if validate:
        _check_arguments(targets, logits, temperature)
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    q = targets.to(z.dtype)
    return -(q * z).sum(dim=-1) - temperature * _entropy_of(q)


def kl_divergence(
    targets: Float[Tensor, "*batch c"],
    logits: Float[Tensor, "*batch c"],
    temperature: float | Tensor = 1.0,
    *,
    validate: bool = True,
) -> Float[Tensor, "*batch"]:
    """KL(q || p) = sum_k q_k ln(q_k / p_k) with p = softmax(z / T); cross-entropy minus the entropy of q.

    Raises ValueError unless q is non-negative and sums to 1 over the last dimension.
    """
    if validate:
        _check_arguments(targets, logits, temperature)
    losses = cross_entropy(logits, targets, temperature, reduction="none", validate=False)
    return losses - _entropy_of(targets.to(losses.dtype))


def cold_limit(logits: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c"]:
    """Limit of softmax(z / T) as T -> 0: uniform over the largest logits. Only exact ties count."""
    check_logits(logits, 1.0)
    top = (logits == logits.amax(dim=-1, keepdim=True)).to(logits.dtype)
    return top / top.sum(dim=-1, keepdim=True)


def cold_bound(
    logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0
) -> Float[Tensor, "*batch"]:
    """Bound (c - m) / m exp(-g / T) on the probability outside the m equal largest logits.

    g is the gap from them to the next logit; the bound is 0 where all logits are equal. That probability
    is the total variation distance of softmax(z / T) from `cold_limit`. Without ties the bound is
    1 - p_max <= (c - 1) exp(-g / T).
    """
    check_logits(logits, temperature)
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    highest = z.amax(dim=-1, keepdim=True)
    below = z < highest
    others = below.sum(dim=-1)
    some = others > 0
    second = torch.where(below, z, -math.inf).amax(dim=-1)
    gap = torch.where(some, highest.squeeze(-1) - torch.where(some, second, 0.0), 0.0)
    return others / (z.shape[-1] - others) * torch.exp(-gap / temperature)


class HotEntropy(NamedTuple):
    """Entropy at high temperature, and a bound on its error."""

    value: Tensor
    error: Tensor


def hot_entropy(logits: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0) -> HotEntropy:
    """H = ln c - Var(z) / (2 T^2) up to (w / T)^3 / (18 sqrt 3), w the range of the logits.

    Var is the variance over classes, each with weight 1/c. Since H = ln c - int_0^beta b Var_b(z) db, the
    error is due to the slope of Var_b, a third central moment, which is at most w^3 / (6 sqrt 3).
    """
    check_logits(logits, temperature)
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    width = z.amax(dim=-1) - z.amin(dim=-1)
    variance = (z - z.mean(dim=-1, keepdim=True)).square().mean(dim=-1)
    value = math.log(z.shape[-1]) - variance / temperature**2 / 2
    return HotEntropy(value, (width / temperature) ** 3 / (18 * math.sqrt(3)))


def nll_slope(
    logits: Float[Tensor, "*batch c"],
    targets: Shaped[Tensor, "..."],
    temperature: float | Tensor = 1.0,
    *,
    validate: bool = True,
) -> Float[Tensor, ""]:
    """Slope mean(E_p z - z_y) in beta = 1/T of the mean cross-entropy of softmax(beta z).

    It rises with beta at the rate mean `logits_variance`, so the loss is convex in beta and has at most
    one minimiser unless all logits of each sample are equal (Guo et al., 2017, arXiv 1706.04599, fit it).
    targets: class indices of the batch shape, or probabilities, for which z_y is sum_k y_k z_k.
    Raises ValueError as `cross_entropy`.
    """
    if validate:
        check_logits(logits, temperature)
        check_targets(targets, logits)
    expected = -mean_energy(logits, temperature)
    z = logits.to(expected.dtype)
    if targets.is_floating_point():
        true = (targets.to(z.dtype) * z).sum(dim=-1)
    else:
        true = z.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1)
    return (expected - true).mean()


def optimal_logits(
    targets: Float[Tensor, "*batch c"], temperature: float | Tensor = 1.0, *, validate: bool = True
) -> Float[Tensor, "*batch c"]:
    """The centred logits z = T ln q that minimise the cross-entropy under true probabilities q.

    They are unique up to a constant per sample. For two classes their gap is T ln(q / (1 - q)).
    Raises ValueError unless q is positive and sums to 1: a zero needs an infinite logit.
    """
    if validate:
        _check_probabilities(targets, targets)
        if not bool((targets > 0).all()):
            raise ValueError(
                "targets have zeros, whose optimal logits are infinite; smooth the targets"
            )
        check_logits(targets, temperature)
    T = temperature.unsqueeze(-1) if isinstance(temperature, Tensor) else temperature
    logs = targets.log()
    return T * (logs - logs.mean(dim=-1, keepdim=True))


class LinearHead(NamedTuple):
    """A classifier softmax((scale W x + b) / T)."""

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]
    scale: float = 1.0
    temperature: float = 1.0


def log_odds(head: LinearHead) -> Float64[Tensor, "c columns"]:
    """The part of a head that its predictions determine: scale W / T and, in the last column, b / T.

    The mean over classes is subtracted, so rows differ by the log-odds (scale / T) (w_j - w_k) and
    (b_j - b_k) / T of the classes. Raises ValueError unless T is positive and the rest is finite.
    """
    check_temperature(head.temperature)
    check_floating("weight", head.weight, dimensions=2)
    check_floating("bias", head.bias, dimensions=1)
    if not math.isfinite(head.scale):
        raise ValueError(f"scale is {head.scale}; it must be finite")
    if head.bias.shape != head.weight.shape[:1]:
        raise ValueError(
            f"bias has shape {tuple(head.bias.shape)}; weight of shape {tuple(head.weight.shape)} "
            f"needs ({head.weight.shape[0]},)"
        )
    both = torch.cat([head.scale * head.weight.double(), head.bias.double()[:, None]], dim=1)
    check_finite("weight or bias", both)
    return (both - both.mean(dim=0)) / head.temperature


def predict_alike(first: LinearHead, second: LinearHead, tolerance: float = 1e-9) -> bool:
    """Whether two heads have the same predictions for every x: iff their `log_odds` agree.

    Equal predictions on inputs that affinely span the space are sufficient. Of scale, bias and
    temperature only scale / T and b / T can be identified, and of W only the differences of its rows.
    tolerance: difference that counts as rounding, relative to the largest log-odds.
    Raises ValueError as `log_odds`, and for heads of different shapes.
    """
    ours, theirs = log_odds(first), log_odds(second)
    if ours.shape != theirs.shape:
        raise ValueError(
            f"weights have shapes {tuple(first.weight.shape)} and {tuple(second.weight.shape)}; "
            "compare heads of the same shape"
        )
    largest = torch.maximum(ours.abs().max(), theirs.abs().max())
    return bool(((ours - theirs).abs() <= tolerance * largest).all())


class EffectiveTemperature(NamedTuple):
    """Temperature at which the predictions of reference logits are closest to those of other logits."""

    temperature: Tensor
    residual: Tensor
    """Share of the logits' norm that no temperature explains: 0 where predictions can be equal."""


def effective_temperature(
    logits: Float[Tensor, "*batch n c"], reference: Float[Tensor, "*batch n c"]
) -> EffectiveTemperature:
    """T that minimises ||Z - R / T||_F for class-centred logits Z and R, and the residual over ||Z||_F.

    softmax(R / T) = softmax(Z) iff the residual is 0. T = ||R||^2 / <Z, R>, negative where the two
    oppose each other and infinite where they are orthogonal. Zero logits have residual 0.
    Raises ValueError for logits that are not finite, of different shapes, or a constant reference.
    """
    check_logits(logits, 1.0)
    check_logits(reference, 1.0)
    if logits.shape != reference.shape or logits.ndim < 2:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and reference {tuple(reference.shape)}; "
            "both must be (..., n, c)"
        )
    Z, R = centre(logits.double()), centre(reference.double())
    if not bool(R.flatten(-2).any(dim=-1).all()):
        raise ValueError(
            "reference has the same logits for all classes; pass a reference whose logits differ"
        )
    beta = (Z * R).sum(dim=(-2, -1)) / R.square().sum(dim=(-2, -1))
    rest = torch.linalg.vector_norm(Z - beta[..., None, None] * R, dim=(-2, -1))
    norm = torch.linalg.vector_norm(Z, dim=(-2, -1))
    return EffectiveTemperature(1 / beta, rest / torch.where(norm > 0, norm, 1.0))


def gaussian_logits(
    inputs: Float[Tensor, "n d"], means: Float[Tensor, "c d"]
) -> Float[Tensor, "n c"]:
    """Logits -||x - mu_k||^2 of Gaussian clusters around the means.

    For equal priors and covariance sigma^2 I the posterior is their softmax at T = 2 sigma^2, which is
    their best temperature (Bishop, 2006, section 4.2.1).
    """
    check_floating("inputs", inputs, dimensions=2)
    check_floating("means", means, dimensions=2)
    return -(inputs[:, None, :] - means).square().sum(dim=-1)


class GaussianRank(NamedTuple):
    """Dimensions of Gaussian clusters."""

    span: int
    """Dimension of the span of mu_k - mean."""
    logits: int
    """Rank of the class-centred `gaussian_logits` of inputs that affinely span the space."""


def gaussian_rank(means: Float[Tensor, "c d"]) -> GaussianRank:
    """Rank of the class-centred logits of Gaussian clusters, and of the span of d_k = mu_k - mean.

    The logits are 2 <x, d_k> - ||mu_k||^2, so they have the rank of the matrix with rows (d_k, s_k),
    s_k = ||d_k||^2 - mean ||d||^2: that of the span if all means lie on a sphere in it, else one more.
    Raises ValueError unless the means are finite.
    """
    check_floating("means", means, dimensions=2)
    check_finite("means", means)
    offsets = means.double() - means.double().mean(dim=0)
    radius = torch.linalg.vector_norm(offsets, dim=1).max()
    if radius == 0:
        return GaussianRank(0, 0)
    offsets = offsets / radius
    squares = offsets.square().sum(dim=1, keepdim=True)
    both = torch.cat([offsets, squares - squares.mean()], dim=1)
    return GaussianRank(int(numerical_rank(offsets, SPAN)), int(numerical_rank(both, SPAN)))


def _relative_logits(logits: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities, and z - max z where they do not underflow, else 0."""
    p = log_softmax(logits, temperature).exp()
    z = logits.to(p.dtype)
    return p, torch.where(p > 0, z - z.detach().amax(dim=-1, keepdim=True), 0.0)


def _deviations(logits: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities p and z - E_p z."""
    p, relative = _relative_logits(logits, temperature)
    return p, relative - (p * relative).sum(dim=-1, keepdim=True)


def _entropy_of(q: Tensor) -> Tensor:
    """-sum_k q_k ln q_k with 0 ln 0 = 0 and, there, a slope of 0."""
    positive = q > 0
    terms = torch.special.entr(torch.where(positive, q, 1.0))
    return torch.where(positive, terms, 0.0).sum(dim=-1)


def _check_arguments(targets: Tensor, logits: Tensor, temperature: float | Tensor) -> None:
    check_logits(logits, temperature)
    _check_probabilities(targets, logits)


def _check_probabilities(targets: Tensor, logits: Tensor) -> None:
    check_floating("targets", targets, dimensions=1)
    check_targets(targets, logits)
