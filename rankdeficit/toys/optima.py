"""Closed-form minima of linear unconstrained feature models without bias, and of a linear classifier.

L is the number of factors including the free features (L = depth + 1 for `toys.ufm`), and N the number
of samples per class. The objective is the mean cross-entropy at temperature T plus
lambda_l / 2 ||factor_l||^2 for each factor.

Zhu et al. (2021) introduced the model and its two-factor geometry. Sukenik, Lampert and Mondelli (2024,
arXiv 2405.14468) and Garrod and Keating (2024, arXiv 2410.23169) showed that deeper models prefer low
rank. The closed forms here are exact and tested against optimisation.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from scipy.optimize import brentq, minimize_scalar
from scipy.special import lambertw
from torch import Tensor

from rankdeficit.checks import check_at_least, check_floating, check_positive, check_temperature
from rankdeficit.constructions import Code


class TwoFactorOptimum(NamedTuple):
    """Global minimum of the two-factor model M = W H: a simplex ETF with this margin, or zero."""

    value: float
    margin: float
    wrong_probability: float


def two_factor_optimum(
    classes: int,
    samples_per_class: int,
    temperature: float,
    weight_decay: float,
    feature_decay: float,
) -> TwoFactorOptimum:
    """Optimum for L = 2, with tau = T sqrt(N lambda_W lambda_H).

    For tau < 1/c every wrong class has probability tau, the margin is T ln(1/tau - (c - 1)) and the value
    is -p ln p - (c - 1) tau ln tau with p = 1 - (c - 1) tau. Otherwise the weights are zero and the value
    is ln c. Raises ValueError unless the decays are positive, as there is no minimum without decay.
    """
    check_temperature(temperature)
    check_at_least(2, classes=classes)
    check_at_least(1, samples_per_class=samples_per_class)
    check_positive(weight_decay=weight_decay, feature_decay=feature_decay)
    c = classes
    tau = temperature * math.sqrt(samples_per_class * weight_decay * feature_decay)
    if tau >= 1 / c:
        return TwoFactorOptimum(math.log(c), 0.0, 1 / c)
    p = 1 - (c - 1) * tau
    value = -p * math.log(p) - (c - 1) * tau * math.log(tau)
    return TwoFactorOptimum(value, temperature * math.log(1 / tau - (c - 1)), tau)


def least_loss(norm: float, classes: int, loss: Literal["ce", "mse"] = "ce") -> float:
    """Least mean loss of class-centred logits of this norm R = ||M||_F/(sqrt(n) T).

    With k = sqrt(c/(c-1)) it is ln(1 + (c-1) e^(-kR)) for the cross-entropy, and c/(c-1) q^2 with
    q = (c-1)/(e^(kR) + c - 1) for the softmax-MSE, attained by simplex logits (proofs/loss_needs_norm.md,
    proofs/mse_needs_norm.md). For the softmax-MSE of more than 35 classes it is the least loss of samples
    of equal norms; unequal norms can have a lower mean. Raises ValueError for classes < 2, another loss,
    and norms that are not >= 0.
    """
    check_at_least(2, classes=classes)
    if not 0 <= norm < math.inf:
        raise ValueError(f"norm is {norm}; it must be a finite number >= 0")
    if loss not in ("ce", "mse"):
        raise ValueError(f"loss is {loss!r}; it must be ce or mse")
    decay = (classes - 1) * math.exp(-norm * math.sqrt(classes / (classes - 1)))
    if loss == "ce":
        return math.log1p(decay)
    return classes / (classes - 1) * (decay / (1 + decay)) ** 2


def merging_temperature(samples: int, own: int, weight_decay: float, feature_decay: float) -> float:
    """Temperature from which classes of `own` samples each, among `samples` in all, merge for L = 2.

    T* = sqrt(own) / (samples sqrt(lambda_W lambda_H)). At the global minimum two or more such classes
    have equal logits for T >= T*, and different ones for T < T* (proofs/merging_classes.md). With classes
    of equal size T* is the temperature of `two_factor_optimum` from which all weights are zero.
    Raises ValueError unless the decays are positive.
    """
    check_at_least(1, own=own)
    check_at_least(own, samples=samples)
    check_positive(weight_decay=weight_decay, feature_decay=feature_decay)
    return math.sqrt(own) / (samples * math.sqrt(weight_decay * feature_decay))


def merging_imbalance(
    large: int,
    small: int,
    samples_per_class: int,
    temperature: float,
    weight_decay: float,
    feature_decay: float,
) -> float:
    """Imbalance r* from which `small` classes of N/r samples merge beside `large` ones of N, for L = 2.

    It solves k_1 sqrt(r) + k_2/sqrt(r) = a with a = 1/(T sqrt(N lambda_W lambda_H)), and is 1 if
    a <= k_1 + k_2, where classes of equal size have zero weights (proofs/merging_classes.md). It treats
    N/r as a real number. Raises ValueError unless 2 <= small <= large, T > 0 and the decays are positive.
    """
    check_temperature(temperature)
    check_at_least(2, small=small)
    check_at_least(small, large=large)
    check_at_least(1, samples_per_class=samples_per_class)
    check_positive(weight_decay=weight_decay, feature_decay=feature_decay)
    a = 1 / (temperature * math.sqrt(samples_per_class * weight_decay * feature_decay))
    if a <= large + small:
        return 1.0
    return ((a + math.sqrt(a**2 - 4 * large * small)) / (2 * large)) ** 2


def code_objective(
    code: Code,
    scale: float,
    factors: int,
    samples_per_class: int,
    temperature: float,
    weight_decay: float,
) -> float:
    """Objective of a code's logits at a scale s, realised by L balanced factors.

    It is l(s) + L/2 lambda K (sqrt(N) s c / K)^(2/L) for a code of rank K, whose class-mean logits have K
    singular values s c / K. The cross-entropy l(s) is the same for all classes.
    weight_decay: geometric mean of the weight decays of the factors.
    Raises ValueError unless the temperature and the decay are positive.
    """
    check_temperature(temperature)
    check_at_least(1, factors=factors, samples_per_class=samples_per_class)
    check_positive(weight_decay=weight_decay)
    cosines = code.directions @ code.directions[0]
    loss = torch.logsumexp(scale * (cosines - cosines[0]) / temperature, dim=0).item()
    singular_value = math.sqrt(samples_per_class) * scale * code.classes / code.rank
    return loss + factors / 2 * weight_decay * code.rank * singular_value ** (2 / factors)


class BestScale(NamedTuple):
    """Optimal scale of a code and its objective; scale 0 if zero logits are better."""

    scale: float
    value: float


def best_scale(
    code: Code, factors: int, samples_per_class: int, temperature: float, weight_decay: float
) -> BestScale:
    """Minimise `code_objective` over scales >= 0, where scale 0 has the value ln c.

    The objective can have a local minimum besides the one at zero, so every local minimum on a
    logarithmic grid is refined. Raises ValueError if the objective still decreases at the end of the
    grid, which means that the decay is too small.
    """

    def objective(log_scale: float) -> float:
        return code_objective(
            code, math.exp(log_scale), factors, samples_per_class, temperature, weight_decay
        )

    grid = [math.log(temperature / code.margin) + step / 4 for step in range(-60, 60)]
    values = [objective(point) for point in grid]
    if values[-1] < values[-2]:
        raise ValueError(
            f"weight_decay is {weight_decay}; use a larger one, as the best scale exceeds 1e6"
        )
    best = BestScale(0.0, math.log(code.classes))
    for i in range(1, len(grid) - 1):
        if values[i] <= min(values[i - 1], values[i + 1]):
            found = minimize_scalar(
                objective, bounds=(grid[i - 1], grid[i + 1]), method="bounded",
                options={"xatol": 1e-12},
            )  # fmt: skip
            if found.fun < best.value:
                best = BestScale(math.exp(found.x), float(found.fun))
    return best


def decayed_margins(
    lengths: Float[Tensor, " n"], temperature: float, weight_decay: float
) -> Float64[Tensor, " n"]:
    """Margins m_i at the minimum of mean_i ln(1 + exp(-m_i / T)) + lambda / 2 ||theta||^2.

    m_i = y_i <theta, x_i> for orthogonal inputs x_i of length a_i, so m_i = T u_i with
    u (1 + e^u) = a_i^2 / (n lambda T^2). The ratios of margins change from 1 (lambda -> 0) to those of
    a_i^2 (lambda -> infinity). A higher temperature would not change them, so decay does
    not act as heating here (proofs/linear_heads.md).
    Raises ValueError unless lengths, T and lambda are positive and finite.
    """
    check_temperature(temperature)
    check_positive(weight_decay=weight_decay)
    check_floating("lengths", lengths, dimensions=1)
    strengths = lengths.double().square() / (len(lengths) * weight_decay * temperature**2)
    if not bool(((lengths > 0) & (strengths > 0) & strengths.isfinite()).all()):
        raise ValueError(
            f"lengths are {lengths.tolist()}; they must be positive, finite and of moderate size"
        )
    roots = [_scaled_margin(strength) for strength in strengths.tolist()]
    return temperature * torch.tensor(roots, dtype=torch.float64, device=lengths.device)


def _scaled_margin(strength: float) -> float:
    """u with u (1 + e^u) = strength, which lies between W(strength / 2) and W(strength) (Lambert's W)."""
    low, high = (float(lambertw(value).real) for value in (strength / 2, strength))
    found = brentq(_log_excess, 0.9 * low, 1.1 * high, args=(strength,), xtol=1e-300, rtol=1e-14)
    return float(found)


def _log_excess(u: float, strength: float) -> float:
    return math.log(u) + u + math.log1p(math.exp(-u)) - math.log(strength)
