"""The figure of random matrices, which takes no network."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from rankdeficit.experiments.plots import with_legend_below
from real_nets.page.figures.panels import MARKERS


def softmax_of_random(rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Rank after the softmax against the scale of random logits of rank k (the paper's Figure 6).

    rows: k, scale, rank (the median over matrices), low and high (its range).
    """
    if not rows:
        return None
    figure = Figure(figsize=(5.4, 3.6))
    axes = figure.subplots()
    ranks = sorted({row["k"] for row in rows})
    colours = colormaps["viridis"](np.linspace(0, 0.85, len(ranks)))
    for i, (k, colour) in enumerate(zip(ranks, colours, strict=True)):
        own = sorted((row for row in rows if row["k"] == k), key=lambda row: row["scale"])
        scales, medians, low, high = (
            [row[name] for row in own] for name in ("scale", "rank", "low", "high")
        )
        marker = MARKERS[i % len(MARKERS)]
        look: dict[str, Any] = {"marker": marker, "markersize": 3.5, "markevery": 0.08}
        axes.plot(scales, medians, color=colour, linewidth=1.3, label=f"rank of M: {k}", **look)
        axes.fill_between(scales, low, high, color=colour, alpha=0.2)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("factor s")
    axes.set_ylabel("numerical rank of softmax(sM)")
    return with_legend_below(figure, columns=3)
