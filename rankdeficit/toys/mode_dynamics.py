"""Mode dynamics of a balanced, aligned deep linear UFM with small logits.

L is the number of factors including the free features (L = depth + 1 for `toys.ufm`). Under gradient
flow each of the c - 1 singular values s of the logits satisfies ds/dt = L s^(2 - 2/L) g with the same
g = 1/(c T sqrt(N)), as long as s << T sqrt(N). Sources on balanced dynamics: Saxe, McClelland and Ganguli
(2014, arXiv 1312.6120); Arora, Cohen and Hazan (2018, arXiv 1802.06509).
"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from rankdeficit.checks import check_at_least, check_gamma, check_positive, check_temperature
from rankdeficit.toys.ufm import UfmShape

Values = Float64[Tensor, "*#batch"]


def growth_rate(classes: int, temperature: float, samples_per_class: int = 1) -> float:
    """g = 1/(c T sqrt(N)), the singular value of the loss gradient at zero logits.

    Raises ValueError for classes < 2, samples_per_class < 1 and temperatures that are not positive.
    """
    check_temperature(temperature)
    check_at_least(2, classes=classes)
    check_at_least(1, samples_per_class=samples_per_class)
    return 1 / (classes * temperature * math.sqrt(samples_per_class))


def grow(start: Values, time: Values, factors: int, rate: Values) -> Values:
    """Singular values at a time: s e^(2gt) for L = 2, (s^-b - (L-2) g t)^(-1/b) for L >= 3, b = 1 - 2/L.

    The result is infinite once the small-logits solution has blown up. Tensor arguments broadcast.
    Raises ValueError for factors < 2.
    """
    check_at_least(2, factors=factors)
    if factors == 2:
        return start * (2 * rate * time).exp()
    b = 1 - 2 / factors
    return (start.pow(-b) - (factors - 2) * rate * time).clamp(min=0).pow(-1 / b)


def escape_time(start: Values, end: Values, factors: int, rate: Values) -> Values:
    """Time from s = start to s = end, with b = 1 - 2/L.

    It is ln(end/start)/(2g) for L = 2 and (start^-b - end^-b)/((L - 2) g) for L >= 3.
    Raises ValueError for factors < 2.
    """
    check_at_least(2, factors=factors)
    if factors == 2:
        return (end / start).log() / (2 * rate)
    b = 1 - 2 / factors
    return (start.pow(-b) - end.pow(-b)) / ((factors - 2) * rate)


def ratio_at_escape(start: Values, first: Values, end: Values, factors: int) -> Values:
    """s_i / s_1 when s_1 reaches `end`, starting from s_i = start and s_1 = first.

    It is [1 + (end/first)^b ((first/start)^b - 1)]^(-1/b) with b = 1 - 2/L. For L = 2 it is constant. For
    L >= 3 it decreases with `end`, which is proportional to T, so the first mode dominates at high
    temperature. Raises ValueError for factors < 2.
    """
    check_at_least(2, factors=factors)
    if factors == 2:
        return start / first
    b = 1 - 2 / factors
    return (1 + (end / first).pow(b) * ((first / start).pow(b) - 1)).pow(-1 / b)


def dropout_temperature(
    start: Values,
    first: Values,
    factors: int,
    gamma: float,
    saturation: float = 1.0,
    samples_per_class: int = 1,
    share: float = 1.0,
) -> Values:
    """Temperature above which mode i is below gamma s_1 when s_1 reaches S = a T sqrt(N), L >= 3.

    It is T_i(q) = [(gamma^-b - q)/(start^-b - q first^-b)]^(1/b)/(a sqrt(N)) with b = 1 - 2/L, infinite
    if the denominator is not positive (proofs/rank_norm_temperature.md). saturation: a, the
    s_1/(T sqrt(N)) at which the softmax leaves its linear range. share: q, 1 in the linearised flow; if
    each mode grows at 1 - eta to 1 times its linearised rate, q = 1 - eta and 1/(1 - eta) bound the
    temperature. Raises ValueError for factors < 3, gamma outside (0, 1) and arguments that are not
    positive.
    """
    check_at_least(3, factors=factors)
    check_gamma(gamma)
    check_at_least(1, samples_per_class=samples_per_class)
    check_positive(saturation=saturation, share=share)
    b = 1 - 2 / factors
    lag = start.pow(-b) - share * first.pow(-b)
    power = (gamma**-b - share) / torch.where(lag > 0, lag, 1.0)
    limit = power.pow(1 / b) / (saturation * math.sqrt(samples_per_class))
    return torch.where(lag > 0, limit, math.inf)


def balanced_start(
    shape: UfmShape, modes: Float64[Tensor, "runs k"], seeds: list[int]
) -> Float64[Tensor, "runs parameters"]:
    """Balanced factors whose logits have the given singular values and align with the loss gradient at 0.

    Each factor has the singular values s^(1/L), and the singular vectors of adjacent factors match. The
    logits are U diag(s) V^T with random orthonormal class directions U orthogonal to 1; V repeats U for
    the samples of each class. Raises ValueError unless k <= min(c - 1, width) and the model is linear
    without bias.
    """
    k = modes.shape[1]
    linear = shape.activation == "linear" and not shape.bias and shape.counts is None
    if k > min(shape.classes - 1, shape.width) or not linear:
        raise ValueError(
            f"modes are {k}; a balanced start needs at most c - 1 = {shape.classes - 1} modes, a width "
            "of at least as many, classes of equal size, no bias and the linear activation"
        )
    parameters = torch.zeros(len(seeds), shape.parameter_count, dtype=torch.float64)
    factors = shape.unpack(parameters)
    roots = modes.pow(1 / (shape.depth + 1))
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)

        classes = _frame(shape.classes, k, generator, centred=True)
        inputs = _frame(shape.width, k, generator)
        samples = classes[shape.labels()] / shape.samples_per_class**0.5
        factors.features[i] = samples * roots[i] @ inputs.mT
        for layer, weight in enumerate(factors.weights):
            outputs = classes if layer == shape.depth - 1 else _frame(shape.width, k, generator)
            weight[i] = outputs * roots[i] @ inputs.mT
            inputs = outputs
    return parameters


def _frame(rows: int, k: int, generator: torch.Generator, centred: bool = False) -> Tensor:
    """Random orthonormal columns (rows, k), orthogonal to the vector of ones if `centred`."""
    gaussian = torch.randn(rows, k, dtype=torch.float64, generator=generator)
    return torch.linalg.qr(gaussian - gaussian.mean(dim=0) if centred else gaussian)[0]
