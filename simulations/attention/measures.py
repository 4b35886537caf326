"""Ranks and entropies of random attention over temperatures, and what theory predicts of them."""

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from rankdeficit.experiments import tables
from rankdeficit.experiments.settings import Row
from rankdeficit.scaled_logits import (
    critical_scales,
    gaussian_large_n_rank,
    large_scale_rank,
    small_scale_ranks,
)
from rankdeficit.softmax import softmax
from rankdeficit.spectrum import GAMMAS, numerical_rank, resolved_spectrum

ENTRIES_AT_ONCE = 1_000_000
"""Entries of the matrices that are decomposed in one batch, about."""
LARGE_N_SHARE = 8
"""The limit of many tokens is for dimensions and ranks of at most tokens / LARGE_N_SHARE."""


class Unit(NamedTuple):
    """One draw of queries and keys, at all temperatures."""

    tokens: int
    dimension: int
    seed: int


def attention_logits(tokens: int, dimension: int, seed: int) -> Float64[Tensor, "n n"]:
    """Q K^T / sqrt(d) of standard normal queries and keys."""
    generator = torch.Generator().manual_seed(seed)
    queries, keys = torch.randn(2, tokens, dimension, dtype=torch.float64, generator=generator)
    return queries @ keys.mT / math.sqrt(dimension)


def measure(
    unit: Unit, temperatures: Sequence[float] | np.ndarray, gamma: float, device: torch.device
) -> Iterator[Row]:
    """One row per temperature: ranks before and after the softmax, entropy, and predictions of theory."""
    logits = attention_logits(*unit).to(device)
    gammas = sorted({*GAMMAS, gamma})
    critical = critical_scales(logits, gamma)
    limit, before = int(large_scale_rank(logits, gamma)), int(numerical_rank(logits, gamma))
    spread = logits.std(dim=-1, correction=0).mean().item()
    at_once = max(1, ENTRIES_AT_ONCE // unit.tokens**2)
    for chunk in torch.as_tensor(temperatures, dtype=torch.float64, device=device).split(at_once):
        weights = softmax(logits / chunk[:, None, None])
        values = resolved_spectrum(weights, gammas)
        low, high = values.rank_interval(gamma)
        ranks = values.rank_curve(gammas)
        entropies = torch.special.entr(weights).sum(dim=-1).mean(dim=-1)
        for i, T in enumerate(chunk.tolist()):
            yield {
                **unit._asdict(),
                "temperature": T,
                "logits_rank": before,
                "rank": int(values.rank(gamma)[i]),
                "rank_interval": [int(low[i]), int(high[i])],
                "rank_curve": dict(zip(map(str, gammas), ranks[i].tolist(), strict=True)),
                "spread": spread / T,
                "entropy": entropies[i].item(),
                "entropy_share": entropies[i].item() / math.log(unit.tokens),
                "critical_prediction": 1 + int((critical < 1 / T).sum()),
                "proven": small_scale_ranks(logits, 1 / T, gamma),
                "low_temperature_prediction": limit,
            }


def summarise(gamma: float, seeds: int, rows: Sequence[Row]) -> Row:
    """Curves of medians over seeds, their peaks and ends, and what theory predicts."""
    curves = []
    for (n, d), own in tables.rows_by(rows, "tokens", "dimension"):
        points = [_point(T, same, n, d, gamma) for (T,), same in tables.rows_by(own, "temperature")]
        peak = max(points, key=lambda point: point["rank"])
        limits = [row["low_temperature_prediction"] for row in own]
        curves.append(
            {
                "tokens": n,
                "dimension": d,
                "logits_rank": median(row["logits_rank"] for row in own),
                "peak_rank": peak["rank"],
                "peak_temperature": peak["temperature"],
                "peak_entropy_share": peak["entropy_share"],
                "low_temperature_rank": median(limits),
                "low_temperature_range": [min(limits), max(limits)],
                "points": points,
            }
        )
    proven = [row for row in rows if row["proven"] is not None]
    within = sum(row["proven"][0] <= row["rank"] <= row["proven"][1] for row in proven)
    decided = sum(row["proven"][0] == row["proven"][1] for row in proven)
    return {
        "gamma": gamma,
        "seeds": seeds,
        "proven": {"measurements": len(proven), "within": within, "decided": decided},
        "curves": curves,
    }


def _point(T: float, same: list[Row], n: int, d: int, gamma: float) -> Row:
    limit = gaussian_large_n_rank(1 / (T * math.sqrt(d)), d, gamma)
    first_order = limit is not None and limit <= d + 1
    many = limit is not None and not first_order and max(d, limit) <= n / LARGE_N_SHARE
    names = ("rank", "entropy", "entropy_share")
    return {
        "temperature": T,
        **{name: median(row[name] for row in same) for name in names},
        "rank_range": _range(same, "rank"),
        "entropy_share_range": _range(same, "entropy_share"),
        "rank_curve": {
            threshold: median(row["rank_curve"][threshold] for row in same)
            for threshold in same[0]["rank_curve"]
        },
        "critical_prediction": median(row["critical_prediction"] for row in same)
        if first_order
        else None,
        "many_tokens_prediction": limit if many else None,
        "proven": _hull([row["proven"] for row in same]),
    }


def _hull(intervals: Sequence[Sequence[int] | None]) -> list[int] | None:
    """From the least to the largest end; None where a seed has no interval."""
    known = [own for own in intervals if own is not None]
    if len(known) < len(intervals):
        return None
    return [min(low for low, _ in known), max(high for _, high in known)]


def _range(rows: Sequence[Row], name: str) -> list[float | int]:
    values = [row[name] for row in rows]
    return [min(values), max(values)]
