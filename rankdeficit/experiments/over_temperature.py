"""Final rank against temperature, and the temperature at which it halves."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, TypedDict

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rankdeficit.experiments.figure_style import (
    THEORY_COLOUR,
    band,
    set_log_scale,
    with_legend_below,
)

Row = dict[str, Any]

RANKS = {
    "rank": "raw",
    "centred_rank": "class-centred",
    "post_softmax_rank": "after the softmax",
}
"""Kinds of ranks in the records of runs, in words."""
STYLES = {"rank": ("C0", "-"), "centred_rank": ("C2", "-"), "post_softmax_rank": ("C1", "-.")}


class Halving(TypedDict):
    """Where a rank falls to half of its value at the lowest temperature."""

    depth: int
    kind: str
    """One of RANKS."""
    rank: float
    """At the lowest temperature; a median over seeds."""
    temperature: float | None
    """None where no temperature of the sweep reaches it."""


def halving_temperature(
    temperatures: Sequence[float | int], ranks: Sequence[float | int]
) -> float | None:
    r"""The temperature at which a rank first falls to half of its value at the lowest temperature.

    Between two temperatures the rank is taken as linear in log T:
    $\log T^* = \log T_i + (r_i - r_0 / 2) / (r_i - r_{i+1}) (\log T_{i+1} - \log T_i)$.

    temperatures: positive, ascending. ranks: one per temperature.
    Returns None where the rank stays above half. Raises ValueError for temperatures that are not
    ascending and positive, and for another number of ranks.
    """
    if len(ranks) != len(temperatures) or not ranks:
        raise ValueError(
            f"ranks has {len(ranks)} values; pass one per temperature ({len(temperatures)})"
        )
    if temperatures[0] <= 0 or any(b <= a for a, b in pairwise(temperatures)):
        raise ValueError(
            f"temperatures are {list(temperatures)}; pass positive ones in ascending order"
        )
    half = ranks[0] / 2
    for i in range(len(ranks) - 1):
        before, after = ranks[i], ranks[i + 1]
        if after <= half < before:
            low, high = math.log(temperatures[i]), math.log(temperatures[i + 1])
            return math.exp(low + (before - half) / (before - after) * (high - low))
    return None


def halvings(runs: Iterable[Row]) -> list[Halving]:
    """For every depth and kind of rank, from the records of runs; diverged runs do not count.

    Depths with fewer than two temperatures are left out.
    """
    kept = [run for run in runs if run["rank"] is not None]
    found: list[Halving] = []
    for depth in sorted({run["depth"] for run in kept}):
        own = [run for run in kept if run["depth"] == depth]
        temperatures = sorted({run["temperature"] for run in own})
        if len(temperatures) < 2:
            continue
        for kind in RANKS:
            ranks = [
                float(median(run[kind] for run in own if run["temperature"] == T))
                for T in temperatures
            ]
            halved = halving_temperature(temperatures, ranks)
            found.append({"depth": depth, "kind": kind, "rank": ranks[0], "temperature": halved})
    return found


def halving_sentences(found: Iterable[Halving], highest: float | int) -> list[str]:
    """A sentence per depth. highest: the highest temperature of the sweep."""
    by_depth: dict[int, list[str]] = {}
    for one in found:
        reached = one["temperature"]
        at = f"T > {highest:g}" if reached is None else f"T = {reached:.3g}"
        by_depth.setdefault(one["depth"], []).append(f"{at} ({RANKS[one['kind']]})")
    return [
        f"Depth {depth}, temperature at which the rank has halved from its value at the lowest one: "
        f"{', '.join(told)}."
        for depth, told in by_depth.items()
    ]


def rank_over_temperature(runs: Sequence[Row], predicted: int, gamma: float) -> Figure | None:
    """Final rank against temperature, a panel per depth; medians over seeds with their range.

    predicted: the rank of Neural Collapse (dashed). Vertical dots mark where the raw rank halves.
    None where there are fewer than two temperatures.
    """
    if len({run["temperature"] for run in runs}) < 2:
        return None
    depths = sorted({run["depth"] for run in runs})
    figure = Figure(figsize=(1.0 + 3.6 * len(depths), 3.6))
    panels = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for axes, depth in zip(panels, depths, strict=True):
        own = [run for run in runs if run["depth"] == depth]
        for kind, (colour, line) in STYLES.items():
            band(axes, own, "temperature", kind, colour, f"rank, {RANKS[kind]}", line)
            if axes.lines:
                axes.lines[-1].set(marker="o", markersize=3)
        axes.axhline(
            predicted,
            color=THEORY_COLOUR,
            linestyle="--",
            linewidth=1,
            label=f"Neural Collapse: {predicted}",
        )
        for one in halvings(own):
            if one["kind"] == "rank" and one["temperature"] is not None:
                axes.axvline(
                    one["temperature"],
                    color=STYLES["rank"][0],
                    linestyle=":",
                    linewidth=1,
                    label="raw rank is half of that at the lowest T",
                )
        set_log_scale(axes, "x")
        axes.set(title=f"depth {depth}", xlabel="temperature T")
    panels[0].set_ylim(0, 1.08 * max(axes.dataLim.y1 for axes in panels))
    panels[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel(f"numerical rank at the end, γ = {gamma:g}")
    return with_legend_below(figure, columns=min(1 + len(depths), 3))
