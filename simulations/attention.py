"""Numerical rank and entropy of attention, softmax(Q K^T / (sqrt(d) T)), against the temperature T.

Queries and keys are normal, so that the logits have variance 1 / T^2. Before the softmax the rank is at
most d. After it, theory tells where each singular value crosses gamma at high T (with a proven interval
of the rank), the limit of many tokens in between, and the number of attended keys at low T.

    python -m simulations.attention --tokens 64 128 --dimension 2 8 32
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import check_at_least
from rankdeficit.experiments import cli, plots, tables
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.settings import CommonSettings, Row, check_values
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


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Rank and entropy of softmax(Q K^T / (sqrt(d) T)) for random Q and K, over temperatures T."""

    seeds: int = 5
    """Random queries and keys per number of tokens and dimension."""
    tokens: tuple[int, ...] = (64, 128)
    """Numbers n of tokens: queries and keys."""
    dimension: tuple[int, ...] = (2, 8, 32)
    """Dimensions d of queries and keys."""
    least_temperature: float = 0.01
    """Lowest temperature T of the attention."""
    largest_temperature: float = 1e4
    """Highest temperature T of the attention."""
    temperatures: int = 37
    """Number of temperatures, evenly spaced in log T."""


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
    """One row per temperature: ranks before and after the softmax, entropy, and what theory says."""
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


def summarise(settings: Settings, rows: list[Row]) -> Row:
    """Curves of medians over seeds, their peaks and ends, and what theory predicts."""
    curves = []
    for (n, d), own in _groups(rows, "tokens", "dimension"):
        points = [
            _point(T, same, n, d, settings.gamma) for (T,), same in _groups(own, "temperature")
        ]
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
        "gamma": settings.gamma,
        "seeds": settings.seeds,
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
            gamma: median(row["rank_curve"][gamma] for row in same)
            for gamma in same[0]["rank_curve"]
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


def results_table(summary: Row) -> tuple[Table, list[str]]:
    """Ranks at T = 1, at the peak and at the lowest T; then the verdicts."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians over {tables.counted(summary['seeds'], 'seed')} (range), gamma = "
        f"{summary['gamma']:g}. Ranks of softmax(Q K^T / (sqrt(d) T)) at the T nearest to 1, at the peak "
        "and at the lowest T; T to 0: number of keys that are some query's largest. Entropy as share of "
        "ln(keys).",
        caption_justify="left",
    )
    headings = "tokens|d|rank of\nlogits|rank\nat T = 1|entropy|peak|at T|entropy|lowest T|T to 0"
    for heading in headings.split("|"):
        table.add_column(heading, justify="right")
    for curve in summary["curves"]:
        points = curve["points"]
        one = min(points, key=lambda point: abs(math.log(point["temperature"])))
        table.add_row(
            f"{curve['tokens']}",
            f"{curve['dimension']}",
            f"{curve['logits_rank']:g}",
            _with_range(one["rank"], one["rank_range"]),
            f"{one['entropy_share']:.2f}",
            f"{curve['peak_rank']:g}",
            f"{curve['peak_temperature']:.2g}",
            f"{curve['peak_entropy_share']:.2f}",
            _with_range(points[0]["rank"], points[0]["rank_range"]),
            _with_range(curve["low_temperature_rank"], curve["low_temperature_range"]),
        )
    return table, _verdicts(summary)


def _verdicts(summary: Row) -> list[str]:
    curves, proven = summary["curves"], summary["proven"]
    points = [point for curve in curves for point in curve["points"]]
    falls = sum(
        curve["peak_rank"] > max(curve["points"][0]["rank"], curve["points"][-1]["rank"])
        for curve in curves
    )
    shares = [curve["peak_entropy_share"] for curve in curves]
    found = [
        f"In {falls} of {len(curves)} curves the rank after the softmax is highest at a middle "
        f"temperature, where the entropy is {min(shares):.2f} to {max(shares):.2f} of ln(keys). It falls "
        "towards 1 when hot and towards the number of keys with any attention when cold.",
        f"The rank is in the proven interval in {proven['within']} of {proven['measurements']} "
        f"measurements where there is one; {proven['decided']} of these intervals are a single rank.",
    ]
    for name, told in (
        ("critical_prediction", "The critical scales, while they count at most d + 1 values,"),
        (
            "many_tokens_prediction",
            f"Many tokens' limits beyond that, up to tokens / {LARGE_N_SHARE},",
        ),
    ):
        errors = [point["rank"] - point[name] for point in points if point[name]]
        if errors:
            exact = sum(error == 0 for error in errors)
            found.append(
                f"{told} give the median rank in {exact} of {len(errors)} cases; differences are "
                f"{min(errors):+g} to {max(errors):+g}."
            )
    return found


def _with_range(value: float | int, ends: Sequence[float | int]) -> str:
    low, high = ends
    return f"{value:g}" + (f" ({low:g}-{high:g})" if low < high else "")


def draw(summary: Row) -> Figure:
    """Rank (above) and entropy (below) against temperature, a column per number of tokens."""
    sizes = sorted({curve["tokens"] for curve in summary["curves"]})
    dimensions = sorted({curve["dimension"] for curve in summary["curves"]})
    shades = colormaps["viridis"](np.linspace(0, 0.85, len(dimensions)))
    colours = dict(zip(dimensions, shades, strict=True))
    figure = Figure(figsize=(0.8 + 4.4 * len(sizes), 6.6))
    panels = figure.subplots(
        2, len(sizes), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2)
    )
    for (ranks, entropies), n in zip(panels.T, sizes, strict=True):
        for curve in (c for c in summary["curves"] if c["tokens"] == n):
            _draw_curve(ranks, entropies, curve, colours[curve["dimension"]])
        ranks.set_title(f"{n} tokens, γ = {summary['gamma']:g}")
        ranks.set_ylim(0.9, 1.4 * max(sizes))
        plots.set_log_scale(ranks, "xy")
        entropies.set(xlabel="temperature T of the attention", ylim=(0, 1.03))
    panels[0][0].set_ylabel("numerical rank")
    panels[1][0].set_ylabel("entropy / ln(keys)")
    legend = (
        ("--", "theory: critical scales, many tokens"),
        (":", "theory: T → 0"),
        ("-.", "rank of the logits"),
    )
    panels[0][0].fill_between(
        [], [], facecolor="none", edgecolor="0.5", hatch="....", label="proven interval"
    )
    for style, label in legend:
        panels[0][0].plot([], [], style, color="black", linewidth=1, label=label)
    return plots.with_legend_below(figure, columns=3)


def _draw_curve(ranks: Axes, entropies: Axes, curve: Row, colour: Any) -> None:
    points = curve["points"]
    at = [point["temperature"] for point in points]
    for axes, name in ((ranks, "rank"), (entropies, "entropy_share")):
        axes.plot(at, [p[name] for p in points], color=colour, label=f"d = {curve['dimension']}")
        low, high = zip(*(point[f"{name}_range"] for point in points), strict=True)
        axes.fill_between(at, low, high, color=colour, alpha=0.2)
    ranks.axhline(curve["logits_rank"], color=colour, linestyle="-.", linewidth=0.7)
    predictions = ("critical_prediction", "many_tokens_prediction")
    theory = [(p["temperature"], p[name]) for p in points for name in predictions if p[name]]
    if theory:
        ranks.plot(*zip(*theory, strict=True), "--", color="black", linewidth=1.2)
    told = [p for p in points if p["proven"] and p["proven"][1] < curve["tokens"]]
    proven = [(p["temperature"], *p["proven"]) for p in told]
    if proven:
        hot, low, high = zip(*proven, strict=True)
        ranks.fill_between(
            hot, low, high, facecolor="none", edgecolor=colour, hatch="....", alpha=0.35
        )
    cold = [T for T in at if curve["peak_temperature"] >= T]
    ranks.plot(cold, [curve["low_temperature_rank"]] * len(cold), ":", color=colour)


def _groups(rows: Sequence[Row], *names: str) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in names)

    for value, same in groupby(sorted(rows, key=key), key):
        yield value, list(same)


@experiment
class AttentionRank(UnitByUnit[Settings, Unit]):
    """How do rank and entropy of attention depend on its temperature?"""

    settings = Settings
    units = "matrices"

    def prepare(self, settings: Settings) -> list[Unit]:
        """All draws of queries and keys. Raises ValueError for bad sizes and temperatures."""
        check_values(tokens=settings.tokens, dimension=settings.dimension)
        check_at_least(2, tokens=min(settings.tokens), temperatures=settings.temperatures)
        check_at_least(1, dimension=min(settings.dimension))
        low, high = settings.least_temperature, settings.largest_temperature
        if not 0 < low < high < math.inf:
            raise ValueError(
                f"least_temperature is {low} and largest_temperature {high}; they must be positive, "
                "finite and in this order"
            )
        sizes = sorted(set(settings.tokens)), sorted(set(settings.dimension))
        return [Unit(*unit) for unit in product(*sizes, settings.seed_range)]

    def compute(self, settings: Settings, unit: Unit) -> Iterator[Row]:
        """One row per temperature."""
        ends = settings.least_temperature, settings.largest_temperature
        temperatures = np.geomspace(*ends, settings.temperatures)
        return measure(unit, temperatures, settings.gamma, cli.resolve_device(settings.device))

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """Medians over seeds."""
        return summarise(settings, rows)

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Ranks and entropies, and whether theory holds."""
        return results_table(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Rank and entropy against temperature."""
        return {"attention": draw(summary)}


if __name__ == "__main__":
    AttentionRank().main()
