"""Grids of panels with curves over seeds: medians with their range, one legend, shared axes."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, SymmetricalLogLocator

from rankdeficit.experiments.figure_style import (
    THEORY_COLOUR,
    band,
    set_rank_scale,
    temperature_colour,
    with_legend_below,
)

Points = list[tuple[float, float]]
"""(x, y); several seeds have points at the same x."""

MARKERS = "os^Dv<>P"
WIDTHS = (5.4, 7.4, 9.0)
"""Width in inches of figures with one, two and three columns of panels."""
MANY_WIDTH = 2.2
"""Width in inches of each column where there are more."""
PANEL_HEIGHT = 2.5
MARKER_DISTANCE = 0.06


class Look(NamedTuple):
    """Colour and marker of a temperature, which also differ in black and white."""

    colour: Any
    marker: str


class Curve(NamedTuple):
    """A line through the medians of points with the same x, and a band over their range."""

    points: Points
    label: str
    look: Look
    line: str = "-"
    every: int | float | None = MARKER_DISTANCE
    """Distance of markers as a share of the panel's diagonal; None: a marker at every point."""


class Rule(NamedTuple):
    """A thin line across a panel: at a value of x, or else of y."""

    at: float
    label: str
    vertical: bool = False
    line: str = "--"


class Frame(NamedTuple):
    """Labels and scales of a kind of panel."""

    x: str
    y: str
    scales: Sequence[Callable[[Axes], None]]
    """Set the scales once the curves are drawn, one after the other."""
    right: str = ""
    """Label of the axis on the right, which is logarithmic."""


@dataclass(frozen=True)
class Panel:
    """Specification of one subplot."""

    title: str
    frame: Frame
    curves: list[Curve]
    right: list[Curve] = field(default_factory=list)
    """Curves that belong to the axis on the right."""
    rules: list[Rule] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is a curve to draw."""
        return any(curve.points for curve in (*self.curves, *self.right))


def looks(temperatures: Iterable[float]) -> dict[float, Look]:
    """By temperature, in ascending order: its colour, and a marker, which is round for T = 1."""
    others = cycle(MARKERS[1:])
    return {
        temperature: Look(
            temperature_colour(temperature), MARKERS[0] if temperature == 1 else next(others)
        )
        for temperature in sorted(set(temperatures))
    }


def finite(points: Iterable[tuple[float, float]]) -> Points:
    """Points without NaN and infinity."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def positive(points: Points) -> Points:
    """Points with positive y, which a logarithmic axis can show."""
    return [(x, y) for x, y in points if y > 0]


def wrapped(panels: Iterable[Panel]) -> list[list[Panel]]:
    """The panels that have a curve, in rows of three, or of two if there are four."""
    full = [panel for panel in panels if panel]
    columns = 2 if len(full) == 4 else 3
    return [full[start : start + columns] for start in range(0, len(full), columns)]


def draw(grid: Sequence[Sequence[Panel]], shared: bool = True) -> Figure | None:
    """The panels that have a curve, with one legend below; None where there is none.

    shared: the panels of a row have one y axis.
    """
    full = [[panel for panel in row if panel] for row in grid]
    rows = [row for row in full if row]
    if not rows:
        return None
    columns = max(map(len, rows))
    figure = Figure(figsize=(figure_width(columns), 0.9 + PANEL_HEIGHT * len(rows)))
    sharing: Any = "row" if shared else False
    axes = figure.subplots(len(rows), columns, sharey=sharing, squeeze=False)
    for row, own in zip(rows, axes, strict=True):
        _draw_row([*own[: len(row)]], row)
        for empty in own[len(row) :]:
            empty.set_axis_off()
    return with_legend_below(figure, columns=3 if columns < 3 else 5)


def figure_width(columns: int) -> float:
    """In inches."""
    return WIDTHS[columns - 1] if columns <= len(WIDTHS) else MANY_WIDTH * columns


def _draw_row(row: Sequence[Axes], panels: Sequence[Panel]) -> None:
    twins: list[Axes] = []
    for axes, panel in zip(row, panels, strict=True):
        _draw_panel(axes, panel)
        if panel.right:
            twins.append(_right_axes(axes, panel.right, twins))
    for axes, panel in zip(row, panels, strict=True):  # scales, once all that share them are drawn
        for scale in panel.frame.scales:
            scale(axes)
    row[0].set_ylabel(panels[0].frame.y)
    for twin in twins:
        twin.set_ylabel(panels[-1].frame.right)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for curve in panel.curves:
        draw_curve(axes, curve)
    for rule in panel.rules:
        mark = axes.axvline if rule.vertical else axes.axhline
        mark(rule.at, color=THEORY_COLOUR, linestyle=rule.line, linewidth=1, label=rule.label)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.frame.x)


def _right_axes(axes: Axes, curves: Sequence[Curve], before: Sequence[Axes]) -> Axes:
    twin = axes.twinx()
    if before:
        twin.sharey(before[0])
    twin.set_yscale("log")
    for curve in curves:
        draw_curve(twin, curve._replace(points=positive(curve.points)))
    return twin


def draw_curve(axes: Axes, curve: Curve) -> None:
    """With small markers, not too many of them."""
    rows = [{"x": x, "y": y} for x, y in curve.points]
    band(axes, rows, "x", "y", curve.look.colour, curve.label, curve.line)
    if rows:
        axes.lines[-1].set(
            linewidth=1.3, marker=curve.look.marker, markersize=3.5, markevery=curve.every
        )


def epoch_axis(axes: Axes) -> None:
    """Linear up to epoch 1, in which most changes happen, and logarithmic after it."""
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 3)))
    axes.xaxis.set_minor_locator(NullLocator())


def from_zero(axes: Axes, room: float = 1.06) -> None:
    """The y axis from 0 to the largest value in the row of panels, and some room."""
    row = axes.get_shared_y_axes().get_siblings(axes)
    axes.set_ylim(0, room * max(own.dataLim.y1 for own in row) or 1)


def from_zero_to_one(axes: Axes) -> None:
    """The y axis for shares and cosines."""
    axes.set_ylim(0, 1.03)


def logarithmic(axes: Axes) -> None:
    """The y axis, with room around the curves."""
    axes.set_yscale("log")


def layer_axis(axes: Axes) -> None:
    """Layers are numbered from 1."""
    axes.set_xlim(0.5, max(axes.get_xlim()[1], 1.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def in_percent(axis: Axis) -> None:
    """Tick labels of shares in percent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))


def rank_axis(axes: Axes) -> None:
    """Logarithmic, but with room for rank 0."""
    set_rank_scale(axes)
    from_zero(axes, room=1.7)
