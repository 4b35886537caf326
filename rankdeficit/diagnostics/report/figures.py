"""The figures of a report, with network, data and temperature as their title."""

import inspect
from collections.abc import Iterator
from typing import NamedTuple

from matplotlib.figure import Figure

from rankdeficit.diagnostics.registry import Measure, all_measures
from rankdeficit.diagnostics.report.records import Row
from rankdeficit.diagnostics.report.sentences import title
from rankdeficit.experiments.figure_style import default_style


class Drawing(NamedTuple):
    """A figure of a measure."""

    measure: Measure
    name: str
    """Of the file, without its ending."""
    figure: Figure
    caption: str


def drawings(record: Row) -> Iterator[Drawing]:
    """The figures that the record has the numbers for, in the order in which they are shown."""
    for measure in all_measures():
        for name, draw in measure.figures:
            with default_style():
                figure = draw(record)
                if figure is not None:
                    figure.suptitle(title(record), fontsize=10)
            if figure is not None:
                told = inspect.getdoc(draw) if inspect.isfunction(draw) else None
                yield Drawing(measure, name, figure, (told or measure.help).partition("\n\n")[0])
