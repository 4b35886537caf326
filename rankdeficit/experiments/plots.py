"""Figures from run records (rows and summaries as plain values), never from live objects."""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby, product
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import (
    FuncFormatter,
    LogFormatter,
    MaxNLocator,
    NullLocator,
    SymmetricalLogLocator,
)
from PIL import Image

from rankdeficit.experiments.runs import write_atomically

Row = Mapping[str, Any]
Colour = tuple[float, float, float, float]
THEORY_COLOUR = "black"
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


@contextmanager
def default_style() -> Iterator[None]:
    """matplotlib's default style for the figures made inside, whatever the user's matplotlibrc sets."""
    with matplotlib.style.context("default"):
        yield


@contextmanager
def any_text(figure: Figure) -> Iterator[None]:
    """The default style, in which names of users are drawn whatever characters they have.

    Dollars that enclose no formula are drawn as they are, and boxes stand for characters that the font
    lacks.
    """
    with default_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        for own in figure.findobj(Text):
            text = own.get_text().encode(errors="replace").decode()  # of names that are no UTF-8
            own.set_text(text)
            if "$" in text:
                try:
                    MathTextParser("path").parse(text)
                except ValueError:
                    own.set_parse_math(False)
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, replacing the file as a whole."""
    drawn, compact = io.BytesIO(), io.BytesIO()
    with any_text(figure):
        figure.savefig(drawn, format="png", dpi=160, backend="agg")
    Image.open(drawn).convert("RGB").save(compact, format="png", optimize=True, dpi=(160, 160))
    write_atomically(path, compact.getvalue())


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


def band(
    axes: Axes,
    rows: Iterable[Row],
    clock: str,
    field: str,
    colour: Any,
    label: str,
    line: str = "-",
) -> None:
    """Median over seeds of a field against the clock, with the range; diverged runs are left out."""
    ordered = sorted((r for r in rows if r.get(field) is not None), key=lambda r: r[clock])
    groups = [(t, [r[field] for r in same]) for t, same in groupby(ordered, lambda r: r[clock])]
    if groups:
        at = [t for t, _ in groups]
        axes.plot(at, [np.median(v) for _, v in groups], line, color=colour, label=label)
        axes.fill_between(
            at, [min(v) for _, v in groups], [max(v) for _, v in groups], color=colour, alpha=0.25
        )


def set_clock_scale(axes: Axes, clock: str) -> None:
    """A symmetric log scale for steps, since most happens early; a linear one for epochs."""
    if clock == "step":
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def set_rank_scale(axes: Axes) -> None:
    """The y axis of ranks: logarithmic with room for 0, and ticks at 0, 1, 2, 5, 10, 20, ..."""
    axes.set_yscale("symlog", linthresh=1, linscale=0.3)
    axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())


def plain_number(value: float | int) -> str:
    """A tick label without powers of ten: 0.01, 1, 2000, and 1e-5 or 1e6 for what is longer."""
    mantissa, e, exponent = f"{value:g}".partition("e")
    return mantissa + (e and f"e{int(exponent)}")


class PlainLogFormatter(LogFormatter):
    """Plain numbers at the ticks of a log axis: the more of them, the fewer decades it spans.

    Powers of ten beyond two decades, then 1, 2 and 5 times them, then more multiples.
    """

    MULTIPLES = ((2.0, ()), (0.8, (1, 2, 5)), (0.3, (1, 2, 3, 4, 6, 8)))

    def __call__(self, x: float | int, pos: int | None = None) -> str:
        """The label of a tick; empty where labels would crowd."""
        low, high = sorted(self.axis.get_view_interval())  # type: ignore[union-attr]
        decades = math.log10(high / low)
        for limit, multiples in self.MULTIPLES:
            if decades > limit:
                if not multiples:
                    return plain_number(x) if super().__call__(x, pos) else ""
                multiple = x / 10 ** math.floor(math.log10(x) + 1e-9)
                return (
                    plain_number(x) if any(map(partial(math.isclose, multiple), multiples)) else ""
                )
        return plain_number(x)


def set_log_scale(axes: Axes, names: str) -> None:
    """Make axes logarithmic, with plain numbers as tick labels. names: "x", "y" or "xy"."""
    for name in names:
        axis = {"x": axes.xaxis, "y": axes.yaxis}[name]
        axes.set(**{f"{name}scale": "log"})
        axis.set_major_formatter(PlainLogFormatter())
        axis.set_minor_formatter(PlainLogFormatter())


def temperature_colour(temperature: float | int) -> Colour:
    """The colour (red, green, blue, alpha) of a temperature, the same in every figure.

    T = 1 is dark blue. Hotter is purple at T = 2, red at 30 and yellow from 1000 on, evenly in log T;
    colder is green, paler down to T = 0.01.
    """
    decades = math.log10(temperature)
    if decades < 0:
        return colormaps["viridis"](0.45 + 0.2 * min(-decades, 2.0))
    return colormaps["plasma"](0.02 if decades == 0 else 0.24 + 0.22 * min(decades, 3.0))


def with_legend_below(figure: Figure, columns: int) -> Figure:
    """One legend for all panels, each label once, temperatures in ascending order.

    It has the given number of columns, or fewer where these are wider than the figure. All panels get
    the same font sizes, and plain numbers on logarithmic axes.
    """
    for axes in figure.axes:
        _set_style(axes)
    handles = {
        str(handle.get_label()): handle
        for axes in figure.axes
        for handle in axes.get_legend_handles_labels()[0]
    }
    if handles:
        ordered = [handles[label] for label in sorted(handles, key=_temperature_of)]
        legend = _legend(figure, ordered, columns)
        while columns > 1 and legend.get_window_extent().width > figure.bbox.width:
            columns -= 1
            legend.remove()
            legend = _legend(figure, ordered, columns)
    figure.set_layout_engine("constrained")
    return figure


def _legend(figure: Figure, handles: Sequence[Artist | Container], columns: int) -> Legend:
    return figure.legend(handles=[*handles], loc="outside lower center", fontsize=8, ncols=columns)


def _set_style(axes: Axes) -> None:
    axes.title.set_fontsize(9)
    axes.tick_params(which="both", labelsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(9)
        if axis.get_scale() == "log":
            axis.set_major_formatter(PlainLogFormatter())
            axis.set_minor_formatter(PlainLogFormatter())
        elif axis.get_scale() == "symlog":
            axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))


def _temperature_of(label: str) -> float:
    """Of labels as "T = 10, raw"; infinity for others."""
    found = re.match(r"T = ([\d.e+-]+)", label)
    return float(found[1]) if found else math.inf
