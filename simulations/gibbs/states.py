"""Gibbs states of given logits: sampled energies and entropies beside the exact ones."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from rankdeficit import gibbs
from rankdeficit.experiments.settings import Row
from rankdeficit.softmax import entropy, free_energy, softmax

STEP = 1e-4
"""Relative step in T of the central differences."""
SEEN = 100
"""Least expected number of draws outside the largest logits for errors to count as Gaussian."""
LEAST_ERROR = 1e-10
"""Bounds below this are not compared with errors that are mostly rounding."""

Kind = Literal["one ahead", "two ahead", "ladder", "random"]


def _top(count: int) -> Callable[[int, int], Tensor]:
    return lambda classes, seed: (torch.arange(classes) < count).double()


def _random(classes: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(classes, dtype=torch.float64, generator=generator)


KINDS: dict[Kind, Callable[[int, int], Tensor]] = {
    "one ahead": _top(1),
    "two ahead": _top(2),
    "ladder": lambda classes, seed: torch.arange(classes, dtype=torch.float64),
    "random": _random,
}
"""Logits by number of classes and seed; `logits_of` standardises them over classes."""


def logits_of(kind: Kind, classes: int, seed: int) -> Float64[Tensor, " c"]:
    """Logits of a kind, with mean 0 and variance 1 over classes."""
    z = KINDS[kind](classes, seed)
    return (z - z.mean()) / z.std(correction=0)


def measure(
    kind: Kind,
    logits: Float64[Tensor, " c"],
    temperatures: Sequence[float],
    samples: int,
    generator: torch.Generator,
) -> Iterator[Row]:
    """One row per temperature: sampled and exact values, and the errors of the identities."""
    for T in temperatures:
        yield {
            "kind": kind,
            "temperature": T,
            **sampled(logits, T, draw(logits, T, samples, generator)),
            "entropy": entropy(logits, T).item(),
            "free_energy": free_energy(logits, T).item(),
            "energy": gibbs.mean_energy(logits, T).item(),
            "variance": gibbs.logits_variance(logits, T).item(),
            **identity_errors(logits, T, generator),
        }


def draw(
    logits: Float64[Tensor, " c"], temperature: float, samples: int, generator: torch.Generator
) -> Int64[Tensor, " samples"]:
    """Classes drawn by perturbation: argmax_k (z_k + T g_k) with Gumbel noise g follows softmax(z / T).

    It needs no softmax, so it is an independent measurement (Gumbel, 1954; Maddison et al., 2014).
    """
    waiting = torch.empty(samples, len(logits), dtype=torch.float64)
    noise = -waiting.exponential_(generator=generator).log().to(logits.device)
    return (logits + temperature * noise).argmax(dim=-1)


def sampled(
    logits: Float64[Tensor, " c"], temperature: float, drawn: Int64[Tensor, " samples"]
) -> Row:
    """Energy, variance, entropy and free energy of the draws, and errors in units of their own spread.

    The entropy is the plug-in estimate with the Miller-Madow correction (K - 1) / (2 m) for K classes
    seen in m draws. It has the variance Var_p(ln p) / m + (c - 1) / (2 m^2).
    """
    m = len(drawn)
    counts = torch.nn.functional.one_hot(drawn, len(logits)).sum(dim=0).double()
    shares = counts / m
    mean = (shares * logits).sum()
    variance = (shares * (logits - mean).square()).sum() * m / (m - 1)
    plug_in = torch.special.entr(shares).sum() + ((counts > 0).sum() - 1) / (2 * m)
    p = softmax(logits, temperature)
    exact = gibbs.logits_variance(logits, temperature)
    fourth = (p * (logits - (p * logits).sum()).pow(4)).sum()
    seen = m * off_top(logits, temperature).item() >= SEEN
    entropy_spread = (
        gibbs.heat_capacity(logits, temperature) / m + (len(logits) - 1) / (2 * m**2)
    ).sqrt()
    entropy_error = (plug_in - entropy(logits, temperature)) / entropy_spread
    energy_error = (mean + gibbs.mean_energy(logits, temperature)) / (exact / m).sqrt()
    variance_error = (variance - exact) / ((fourth - exact.square()) / m).sqrt()
    return {
        "sampled_entropy": plug_in.item(),
        "sampled_free_energy": (-mean - temperature * plug_in).item(),
        "sampled_energy": -mean.item(),
        "sampled_variance": variance.item(),
        "entropy_error": entropy_error.item() if seen else None,
        "energy_error": energy_error.item() if seen else None,
        "variance_error": variance_error.item() if seen else None,
    }


def off_top(logits: Float64[Tensor, " c"], temperature: float) -> Float64[Tensor, ""]:
    """Probability of all but the largest logits."""
    top = gibbs.cold_limit(logits) > 0
    return torch.where(top, 0.0, softmax(logits, temperature)).sum()


def identity_errors(
    logits: Float64[Tensor, " c"], temperature: float, generator: torch.Generator
) -> Row:
    """Errors of Gibbs' identity for random probabilities, of the slopes in T, and of both limits.

    Errors of the limits are shares of their bounds, so at most 1; None if rounding dominates.
    """
    T, c = temperature, len(logits)
    q = torch.empty(c, dtype=torch.float64).exponential_(generator=generator).to(logits.device)
    q = q / q.sum()  # uniform over all probabilities
    excess = gibbs.variational_free_energy(q, logits, T) - free_energy(logits, T)
    heat = T * gibbs.kl_divergence(q, logits, T)
    above, below = T * (1 + STEP), T * (1 - STEP)
    entropy_slope = (entropy(logits, above) - entropy(logits, below)) / (2 * STEP)
    energy_slope = (free_energy(logits, above) - free_energy(logits, below)) / (2 * STEP * T)
    bound = gibbs.cold_bound(logits, T).item()
    hot = gibbs.hot_entropy(logits, T)
    return {
        "gibbs_error": abs(excess / heat - 1).item(),
        "entropy_slope_error": abs(entropy_slope - gibbs.heat_capacity(logits, T)).item(),
        "free_energy_slope_error": abs(energy_slope + entropy(logits, T)).item(),
        "cold_share": off_top(logits, T).item() / bound if bound > 0 else None,
        "hot_share": abs((entropy(logits, T) - hot.value) / hot.error).item()
        if hot.error > LEAST_ERROR
        else None,
        "hot_entropy": hot.value.item(),
        "cold_entropy": torch.special.entr(gibbs.cold_limit(logits)).sum().item(),
    }
