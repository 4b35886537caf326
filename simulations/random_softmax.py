"""Numerical rank after the softmax of random low-rank logits, against their scale (the paper's Figure 6).

M = A B^T with uniform n x k factors; S = softmax(s M). Dashes are theory: where each
singular value crosses gamma at small s, the limit of large n in between, and the number of distinct
argmaxes at large s. Dots are ranks that `rank_bounds` proves.

    python -m simulations.random_softmax --n 100 400
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from rankdeficit.bounds import gap_bound
from rankdeficit.checks import check_at_least
from rankdeficit.experiments import cli, figure_style, tables
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.settings import CommonSettings, Row, check_values
from rankdeficit.scaled_logits import (
    critical_scales,
    large_n_rank,
    large_scale_rank,
    random_logits,
    rank_bounds,
)
from rankdeficit.softmax import softmax
from rankdeficit.spectrum import GAMMAS, resolved_spectrum

ENTRIES_AT_ONCE = 4_000_000
"""Entries of the matrices that are decomposed in one batch, about."""
LARGE_N_SHARE = 10
"""The limit of large n is drawn up to the scale n / LARGE_N_SHARE: it holds for s << n."""


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Rank of softmax(s A B^T) for random A and B, over scales s, sizes n and ranks k."""

    seeds: int = 7
    """Random matrices per size and rank, each with its own seed."""
    n: tuple[int, ...] = (100,)
    """Sizes n of the square logits matrices."""
    logits_rank: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Ranks k of the logits."""
    least_scale: float = 1e-4
    """Smallest scale s."""
    largest_scale: float = 1e4
    """Largest scale s."""
    scales: int = 49
    """Number of scales, evenly spaced in log s."""


class Unit(NamedTuple):
    """One random matrix at all scales."""

    n: int
    logits_rank: int
    seed: int


def measure(
    unit: Unit,
    scales: Sequence[float] | np.ndarray,
    gammas: Sequence[float],
    gamma: float,
    device: torch.device,
) -> Iterator[Row]:
    """One row per scale: rank curve, rank interval at the run's gamma, the gap and its bound."""
    (logits,) = random_logits(unit.n, unit.logits_rank, [unit.seed]).to(device)
    critical = critical_scales(logits, gamma)
    limit = int(large_scale_rank(logits, gamma))
    size = logits.norm().item() / math.sqrt(unit.n)
    at_once = max(1, ENTRIES_AT_ONCE // unit.n**2)
    for chunk in torch.as_tensor(scales, dtype=torch.float64, device=device).split(at_once):
        S = softmax(chunk[:, None, None] * logits)
        values = resolved_spectrum(S, gammas)
        low, high = values.rank_interval(gamma)
        ranks = values.rank_curve(gammas)
        gap = values.singular_values[:, 0] - values.singular_values[:, -1]
        bound = gap_bound(S.mT)
        proven = rank_bounds(logits, 1 / chunk, gamma)
        for i, scale in enumerate(chunk.tolist()):
            yield {
                **unit._asdict(),
                "scale": scale,
                "logits_norm": scale * size,
                "rank": int(values.rank(gamma)[i]),
                "rank_interval": [int(low[i]), int(high[i])],
                "rank_curve": dict(zip(map(str, gammas), ranks[i].tolist(), strict=True)),
                "small_scale_prediction": 1 + int((critical < scale).sum()),
                "large_scale_prediction": limit,
                "proven_rank": [int(proven.lower[i]), int(proven.upper[i])],
                "gap": gap[i].item(),
                "gap_bound": bound[i].item(),
            }


def summarise(settings: Settings, rows: list[Row]) -> Row:
    """Curves of medians over seeds, their peaks and tails, and the predictions."""
    curves = []
    for (n, k), own in tables.rows_by(rows, "n", "logits_rank"):
        points = [
            {
                "scale": scale,
                **{
                    name: median(row[name] for row in same)
                    for name in ("rank", "small_scale_prediction", "gap", "gap_bound")
                },
                "proven_rank": [median(row["proven_rank"][end] for row in same) for end in (0, 1)],
                "rank_range": [min(r["rank"] for r in same), max(r["rank"] for r in same)],
                "rank_curve": {
                    gamma: median(row["rank_curve"][gamma] for row in same)
                    for gamma in same[0]["rank_curve"]
                },
                "large_n_prediction": large_n_rank(scale, k, settings.gamma)
                if scale <= n / LARGE_N_SHARE
                else None,
            }
            for (scale,), same in tables.rows_by(own, "scale")
        ]
        peak = max(points, key=lambda point: point["rank"])
        limits = [row["large_scale_prediction"] for row in own]
        curves.append(
            {
                "n": n,
                "logits_rank": k,
                "peak_rank": peak["rank"],
                "peak_scale": peak["scale"],
                "large_scale_rank": median(limits),
                "large_scale_range": [min(limits), max(limits)],
                "points": points,
            }
        )
    return {"gamma": settings.gamma, "seeds": settings.seeds, "curves": curves}


def peaks_table(summary: Row) -> tuple[Table, list[str]]:
    """Peak and tail per size and rank, and what the bound of Proposition 3.1 does."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians over {tables.counted(summary['seeds'], 'seed')}, "
        f"gamma = {summary['gamma']:g}. Ranks of softmax(s M): where they peak, at "
        "the largest s, and in the limit of large s (with its range). "
        "Bound: Proposition 3.1's on sigma_1 - sigma_n of softmax(s M), at the least and the largest s.",
        caption_justify="left",
    )
    for name in (
        "n",
        "rank of M",
        "peak",
        "at s",
        "at largest s",
        "limit",
        "bound, least s",
        "bound, largest s",
    ):
        table.add_column(name, justify="right")
    for curve in summary["curves"]:
        points = curve["points"]
        low, high = curve["large_scale_range"]
        table.add_row(
            str(curve["n"]),
            str(curve["logits_rank"]),
            f"{curve['peak_rank']:g}",
            f"{curve['peak_scale']:.3g}",
            f"{points[-1]['rank']:g}",
            f"{curve['large_scale_rank']:g}" + (f" ({low}-{high})" if low < high else ""),
            f"{points[0]['gap_bound']:.2f}",
            f"{points[-1]['gap_bound']:.2f}",
        )
    falling = sum(c["peak_rank"] > c["points"][-1]["rank"] for c in summary["curves"])
    return table, [
        f"In {falling} of {len(summary['curves'])} curves the rank after the softmax falls again at "
        "large scales, towards the number of distinct argmaxes.",
        "Where the bound of Proposition 3.1 grows with the scale it allows a lower rank; it does not by "
        "itself explain the rise.",
    ]


def draw_ranks(summary: Row) -> Figure:
    """Rank against scale, a panel per n and a colour per rank of the logits, theory in dashes."""
    sizes = sorted({curve["n"] for curve in summary["curves"]})
    ranks = sorted({curve["logits_rank"] for curve in summary["curves"]})
    colours = dict(zip(ranks, colormaps["viridis"](np.linspace(0, 0.9, len(ranks))), strict=True))
    figure = Figure(figsize=(0.8 + 4.4 * len(sizes), 4.2))
    panels = figure.subplots(1, len(sizes), squeeze=False)[0]
    for axes, n in zip(panels, sizes, strict=True):
        for curve in (c for c in summary["curves"] if c["n"] == n):
            colour, points = colours[curve["logits_rank"]], curve["points"]
            scales = [point["scale"] for point in points]
            label = f"rank of M: {curve['logits_rank']}"
            axes.plot(scales, [p["rank"] for p in points], color=colour, label=label)
            low, high = zip(*(point["rank_range"] for point in points), strict=True)
            axes.fill_between(scales, low, high, color=colour, alpha=0.2)
            _draw_theory(axes, curve, colour)
        axes.set(ylim=(0.9, 1.3 * n), xlabel="scale s of the logits")
        figure_style.set_log_scale(axes, "xy")
        axes.set_title(f"n = {n}, γ = {summary['gamma']:g}", fontsize=9)
    panels[0].set_ylabel("numerical rank of softmax(sM)")
    for style, label in (
        ("--", "theory, small s and large n"),
        (":", "theory, s → ∞"),
        (".", "proven"),
    ):
        panels[0].plot([], [], style, color="black", label=label)
    return figure_style.with_legend_below(figure, columns=3)


def _draw_theory(axes: Axes, curve: Row, colour: Any) -> None:
    points = curve["points"]
    early = [p for p in points if p["small_scale_prediction"] <= curve["logits_rank"]]
    middle = [p for p in points if p["large_n_prediction"] and p not in early]
    middle = [p for p in middle if p["large_n_prediction"] <= curve["n"] / 2]
    theory = [(p["scale"], p["small_scale_prediction"]) for p in early]
    theory += [(p["scale"], p["large_n_prediction"]) for p in middle]
    if theory:
        axes.plot(*zip(*theory, strict=True), "--", color=colour)
    certain = [p for p in points if p["proven_rank"][0] == p["proven_rank"][1]]
    axes.plot([p["scale"] for p in certain], [p["rank"] for p in certain], ".", color=colour)
    late = [p["scale"] for p in points if p["scale"] > curve["peak_scale"]]
    if late:
        axes.plot(late, [curve["large_scale_rank"]] * len(late), ":", color=colour)


def draw_gammas(summary: Row) -> Figure:
    """Rank against scale at the largest n, a panel per rank of the logits, a colour per threshold."""
    n = max(curve["n"] for curve in summary["curves"])
    curves = [curve for curve in summary["curves"] if curve["n"] == n]
    gammas = list(curves[0]["points"][0]["rank_curve"])
    colours = colormaps["plasma"](np.linspace(0, 0.85, len(gammas)))
    columns = min(len(curves), 3)
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(0.8 + 2.6 * columns, 0.9 + 2.5 * rows))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    for axes, curve in zip(grid.flat, curves, strict=False):
        scales = [point["scale"] for point in curve["points"]]
        for gamma, colour in zip(gammas, colours, strict=True):
            ranks = [point["rank_curve"][gamma] for point in curve["points"]]
            axes.plot(scales, ranks, color=colour, label=f"γ = {float(gamma):g}")
        axes.axhline(
            curve["logits_rank"], color="black", linestyle="--", linewidth=1, label="rank of M"
        )
        axes.set_ylim(0.9, 1.3 * n)
        figure_style.set_log_scale(axes, "xy")
        axes.set_title(f"rank of M: {curve['logits_rank']}, n = {n}", fontsize=9)
    for axes in grid.flat[max(0, len(curves) - columns) : len(curves)]:
        axes.set_xlabel("scale s of the logits")
    for axes in grid[:, 0]:
        axes.set_ylabel("numerical rank\nof softmax(sM)")
    return figure_style.with_legend_below(figure, columns=3)


@experiment
class RandomSoftmax(UnitByUnit[Settings, Unit]):
    """How does the rank after the softmax depend on the scale of random low-rank logits?"""

    settings = Settings
    units = "matrices"

    def prepare(self, settings: Settings) -> list[Unit]:
        """All matrices to look at."""
        check_values(n=settings.n, logits_rank=settings.logits_rank)
        check_at_least(2, n=min(settings.n), scales=settings.scales)
        check_at_least(1, logits_rank=min(settings.logits_rank))
        if max(settings.logits_rank) > min(settings.n):
            raise ValueError(
                f"logits_rank is {max(settings.logits_rank)}; it must not exceed n, {min(settings.n)}"
            )
        if not 0 < settings.least_scale < settings.largest_scale < math.inf:
            raise ValueError(
                f"least_scale is {settings.least_scale} and largest_scale {settings.largest_scale}; "
                "they must be positive, finite and in this order"
            )
        sizes, ranks = sorted(set(settings.n)), sorted(set(settings.logits_rank))
        return [Unit(*unit) for unit in product(sizes, ranks, settings.seed_range)]

    def compute(self, settings: Settings, unit: Unit) -> Iterator[Row]:
        """One row per scale."""
        scales = np.geomspace(settings.least_scale, settings.largest_scale, settings.scales)
        gammas = sorted({*GAMMAS, settings.gamma})
        device = cli.resolve_device(settings.device)
        return measure(unit, scales, gammas, settings.gamma, device)

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """Medians over seeds."""
        return summarise(settings, rows)

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Peak and tail per size and rank."""
        return peaks_table(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Rank against scale, at the run's threshold and at several."""
        return {"ranks": draw_ranks(summary), "gammas": draw_gammas(summary)}


if __name__ == "__main__":
    RandomSoftmax().main()
