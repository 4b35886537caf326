"""Figures of toy experiments, drawn from run records (plain values), never from live objects."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rankdeficit.experiments.figure_style import (
    THEORY_COLOUR,
    Row,
    band,
    set_clock_scale,
    set_log_scale,
    temperature_colour,
    with_legend_below,
)

MOST_COLUMNS = 5
"""Panels side by side; more are in further rows."""


def ranks_over_training(
    rows: Sequence[Row], classes: int, predicted: int, clock: str, facet: str
) -> Figure:
    """Ranks of the class-centred and raw logits and after the softmax, and the logits norm.

    The paper's Figure 5, with the class-centred rank, of which Neural Collapse makes a prediction.

    One panel per temperature (columns, in several rows where there are many) and value of `facet`
    (further rows, for example depth); medians over seeds with their range. predicted: the class-centred
    rank of Neural Collapse. clock: the field of the rows that is the horizontal axis.
    """
    temperatures = sorted({row["temperature"] for row in rows})
    facets = sorted({row[facet] for row in rows})
    lines = math.ceil(len(temperatures) / MOST_COLUMNS)
    columns = math.ceil(len(temperatures) / lines)
    figure = Figure(figsize=(0.6 + 3.2 * columns, 0.9 + 2.5 * lines * len(facets)))
    grid = figure.subplots(lines * len(facets), columns, sharex=True, sharey=True, squeeze=False)
    norms = grid[0, 0].twinx()
    for i, (value, j) in enumerate(product(facets, range(lines * columns))):
        axes = grid[i // columns, i % columns]
        if j >= len(temperatures):
            axes.set_axis_off()
            continue
        temperature = temperatures[j]
        own = [r for r in rows if r["temperature"] == temperature and r[facet] == value]
        _draw_ranks(axes, own, classes, predicted, clock)
        axes.set_title(f"T = {temperature:g}, {facet} {value}")
        right = norms if i == 0 else axes.twinx()
        if i:
            right.sharey(norms)
        band(right, own, clock, "logits_norm", "0.45", "logits norm (right axis)", ":")
        if any(row["logits_norm"] for row in own):
            set_log_scale(right, "y")
        last = j % columns == columns - 1
        right.tick_params(which="both", labelright=last)
        if last:
            right.set_ylabel(r"logits norm $\|M\|_F/\sqrt{n}$")
        if j % columns == 0:
            axes.set_ylabel("numerical rank")
        if value == facets[-1] and j + columns >= len(temperatures):
            axes.set_xlabel(f"training {clock}s")
            axes.tick_params(labelbottom=True)
    return with_legend_below(figure, columns=3 if columns > 1 else 1)


def _draw_ranks(axes: Axes, rows: Sequence[Row], classes: int, predicted: int, clock: str) -> None:
    band(axes, rows, clock, "rank", "C0", "raw logits", ":")
    band(axes, rows, clock, "centred_rank", "C2", "class-centred logits")
    band(axes, rows, clock, "post_softmax_rank", "C1", "after the softmax", "-.")
    label = f"Neural Collapse, class-centred: {predicted}"
    axes.axhline(predicted, color=THEORY_COLOUR, linestyle="--", linewidth=1, label=label)
    axes.set_ylim(0, 1.08 * classes)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    set_clock_scale(axes, clock)


def spectra(runs: Sequence[Row], predicted: int, gamma: float, facet: str) -> Figure:
    """Singular values of the trained network's logits relative to the largest, with the threshold.

    The axis ends two decades below the threshold: smaller values are rounding errors.
    """

    def draw(axes: Axes, own: Sequence[Row], colour: Any, label: str) -> None:
        values = [r["singular_values"] for r in own if r["singular_values"]]
        if values and all(v[0] > 0 for v in values):
            relative = np.array([np.array(v) / v[0] for v in values])
            index = np.arange(1, relative.shape[1] + 1)
            axes.plot(index, np.median(relative, axis=0), color=colour, label=label)
            axes.fill_between(
                index, relative.min(axis=0), relative.max(axis=0), color=colour, alpha=0.25
            )

    def finish(axes: Axes) -> None:
        axes.axhline(
            gamma, color=THEORY_COLOUR, linestyle="--", linewidth=1, label=f"γ = {gamma:g}"
        )
        label = f"Neural Collapse: {predicted}"
        axes.axvline(predicted, color=THEORY_COLOUR, linestyle=":", linewidth=1, label=label)
        axes.set(ylim=(gamma / 100, 2), xlabel="index i")
        set_log_scale(axes, "y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _by_temperature(
        runs, facet, r"singular value of the logits, $\sigma_i/\sigma_1$", draw, finish
    )


def alignment_over_training(rows: Sequence[Row], clock: str, facet: str) -> Figure:
    """Alignment of weights with their inputs, mean over layers (the top of the paper's Figure 3)."""

    def draw(axes: Axes, own: Sequence[Row], colour: Any, label: str) -> None:
        band(axes, own, clock, "alignment", colour, label)

    def finish(axes: Axes) -> None:
        axes.set(ylim=(0, 1.03), xlabel=f"training {clock}s")
        set_clock_scale(axes, clock)

    return _by_temperature(rows, facet, "alignment, mean over layers", draw, finish)


def layer_ranks(runs: Sequence[Row], facet: str, gammas: Sequence[float]) -> Figure:
    """Numerical rank after each weight layer of a trained network, a line style per threshold."""

    def draw(axes: Axes, own: Sequence[Row], colour: Any, label: str) -> None:
        for gamma, style in zip(gammas, ("-", "--", ":"), strict=False):
            ranks = [r["layer_ranks"][str(gamma)] for r in own if r["layer_ranks"]]
            if not ranks:
                continue
            layer = np.arange(1, len(ranks[0]) + 1)
            median = np.median(ranks, axis=0)
            name = f"{label}, γ = {gamma:g}"
            axes.plot(layer, median, style, marker="o", markersize=3, color=colour, label=name)
            axes.fill_between(
                layer, np.min(ranks, axis=0), np.max(ranks, axis=0), color=colour, alpha=0.25
            )

    def finish(axes: Axes) -> None:
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        set_log_scale(axes, "y")

    return _by_temperature(runs, facet, "numerical rank, test images", draw, finish)


def _by_temperature(
    rows: Sequence[Row],
    facet: str,
    ylabel: str,
    draw: Callable[[Axes, Sequence[Row], Any, str], None],
    finish: Callable[[Axes], None],
) -> Figure:
    """One panel per value of the facet, one colour per temperature."""
    temperatures = sorted({row["temperature"] for row in rows})
    facets = sorted({row[facet] for row in rows})
    figure = Figure(figsize=(0.6 + 4.0 * len(facets), 3.4))
    panels = figure.subplots(1, len(facets), sharey=True, squeeze=False)[0]
    for axes, value in zip(panels, facets, strict=True):
        for temperature in temperatures:
            own = [r for r in rows if r["temperature"] == temperature and r[facet] == value]
            draw(axes, own, temperature_colour(temperature), f"T = {temperature:g}")
        finish(axes)
        axes.set_title(f"{facet} {value}", fontsize=9)
    panels[0].set_ylabel(ylabel)
    return with_legend_below(figure, columns=min(2 + len(facets), 4))
