"""What all figures share: scales, colours, bands over seeds, titles, legends, text of users, saving."""

import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
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
PANEL_SHARE = 0.85
"""Share of a panel's column that its title may take; labels of axes take the rest."""


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
    the same font sizes, plain numbers on logarithmic axes, and titles broken into lines that fit.
    """
    for axes in figure.axes:
        _set_style(axes)
    handles = {
        str(handle.get_label()): handle
        for axes in figure.axes
        for handle in axes.get_legend_handles_labels()[0]
    }
    with _measuring(figure):
        for axes in figure.axes:
            _fit_title(axes)
    if handles:
        ordered = [handles[label] for label in sorted(handles, key=_temperature_of)]
        legend = _legend(figure, ordered, columns)
        while columns > 1 and _width(legend, figure) > figure.bbox.width:
            columns -= 1
            legend.remove()
            legend = _legend(figure, ordered, columns)
    figure.set_layout_engine("constrained")
    return figure


@contextmanager
def _measuring(figure: Figure) -> Iterator[None]:
    """Text of any characters, set without LaTeX, which a user's style may ask for and a machine lack."""
    asked = {own: own.get_usetex() for own in figure.findobj(Text)}
    try:
        for own in asked:
            own.set_usetex(False)
        with any_text(figure):
            yield
    finally:
        for own, usetex in asked.items():
            own.set_usetex(usetex)


def _width(legend: Legend, figure: Figure) -> float:
    with _measuring(figure):
        return legend.get_window_extent().width


def _fit_title(axes: Axes) -> None:
    """Break a title that is wider than its panel into lines, unless it holds a formula."""
    place, figure, title = axes.get_subplotspec(), axes.get_figure(), axes.title
    if place is None or figure is None or "$" in title.get_text():
        return
    columns = place.get_gridspec().ncols / len(place.colspan)
    room = PANEL_SHARE * figure.bbox.width / columns
    lines = title.get_text().split("\n")
    width = title.get_window_extent().width
    if width > room:
        longest = max(1, int(max(map(len, lines)) * room / width))
        broken = [textwrap.wrap(line, longest, break_long_words=False) or [""] for line in lines]
        title.set_text("\n".join(part for line in broken for part in line))


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
