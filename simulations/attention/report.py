"""The results as a table, sentences and a figure."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from rankdeficit.experiments import figure_style, tables
from rankdeficit.experiments.settings import Row
from simulations.attention.measures import LARGE_N_SHARE


def results_table(summary: Row) -> tuple[Table, list[str]]:
    """Ranks at T = 1, at the peak and at the lowest T, and the verdicts."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians over {tables.counted(summary['seeds'], 'seed')} (range), gamma = "
        f"{summary['gamma']:g}. Ranks of softmax(Q K^T / (sqrt(d) T)) at the T nearest to 1, at the peak "
        "and at the lowest T; T to 0: number of keys with the largest logit of a query. Entropy as share "
        "of ln(keys).",
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
    for name, theory in (
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
                f"{theory} give the median rank in {exact} of {len(errors)} cases; differences are "
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
        figure_style.set_log_scale(ranks, "xy")
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
    return figure_style.with_legend_below(figure, columns=3)


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
    informative = [p for p in points if p["proven"] and p["proven"][1] < curve["tokens"]]
    proven = [(p["temperature"], *p["proven"]) for p in informative]
    if proven:
        hot, low, high = zip(*proven, strict=True)
        ranks.fill_between(
            hot, low, high, facecolor="none", edgecolor=colour, hatch="....", alpha=0.35
        )
    cold = [T for T in at if curve["peak_temperature"] >= T]
    ranks.plot(cold, [curve["low_temperature_rank"]] * len(cold), ":", color=colour)
