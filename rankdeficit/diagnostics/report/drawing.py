"""Figures of values by layer, from a record alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rankdeficit.diagnostics.registry import Row
from rankdeficit.diagnostics.report import records
from rankdeficit.experiments.figure_style import THEORY_COLOUR, set_rank_scale, with_legend_below

NAMED_LAYERS = 24
"""Layers are named on the axis if there are at most this many, with names of at most NAME_LENGTH."""
NAME_LENGTH = 24
CHARACTERS_PER_INCH = 12
"""Tick labels that would take more room are turned by 90 degrees."""


@dataclass(frozen=True)
class Curve:
    """Values of all layers; NaN where a layer has none."""

    label: str
    values: Sequence[float | int]
    style: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of matplotlib's plot."""
    errors: Sequence[float | int] | None = None


def by_layer(
    record: Row,
    curves: Sequence[Curve],
    ylabel: str,
    *,
    scale: str = "linear",
    columns: int = 2,
    more: Callable[[Axes], None] | None = None,
) -> Figure | None:
    """Curves over the layers, numbered from 1; None where no curve has a value.

    scale: of the values, "linear", "share" (0 to 1), or "rank" (logarithmic with room for 0).
    more: draws anything else into the axes. Layers are named where there is room.
    """
    if all(np.isnan(curve.values).all() for curve in curves):
        return None
    figure, axes = _layer_axes([layer["name"] for layer in record["layers"]])
    for curve in curves:
        style: dict[str, Any] = {"marker": "o", "markersize": 3} | curve.style
        at = numbers(curve.values)
        if curve.errors is None:
            axes.plot(at, curve.values, label=curve.label, **style)
        else:
            axes.errorbar(at, curve.values, curve.errors, capsize=2, label=curve.label, **style)
    if more is not None:
        more(axes)
    if scale == "share":
        axes.set_ylim(0, 1.03)
    elif scale == "rank":
        set_rank_scale(axes)
        axes.set_ylim(bottom=0)
    axes.set_ylabel(ylabel)
    return with_legend_below(figure, columns=columns)


def numbers(values: Sequence[Any]) -> range:
    """Positions of values, from 1."""
    return range(1, len(values) + 1)


def get(node: Any, *keys: str) -> float:
    """The number below the keys; NaN where there is none."""
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return math.nan if node is None else float(node)


def mark_prediction(line: Callable[..., Any], record: Row, style: str, data: str = "train") -> None:
    """Draw the rank that Neural Collapse predicts, with `axhline` or `axvline`."""
    predicted = records.predicted_rank(record, data)
    label = f"Neural Collapse: {predicted}"
    line(predicted, color=THEORY_COLOUR, linestyle=style, linewidth=1, label=label)


def _layer_axes(names: Sequence[str]) -> tuple[Figure, Axes]:
    named = len(names) <= NAMED_LAYERS and max(map(len, names)) <= NAME_LENGTH
    width = min(6.4 + 0.08 * max(0, len(names) - 18), 12)
    figure = Figure(figsize=(width, 4.8 if named else 4))
    axes = figure.subplots()
    if named:
        labels = [f'{number} "{name}"' for number, name in enumerate(names, start=1)]
        upright = len(names) * (max(map(len, labels)) + 2) <= CHARACTERS_PER_INCH * width
        axes.set_xticks(numbers(names), labels, rotation=0 if upright else 90, fontsize=7)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="layer", xlim=(0.5, len(names) + 0.5))
    return figure, axes
