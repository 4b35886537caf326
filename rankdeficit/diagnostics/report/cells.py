"""Tables from columns, and numbers as the text of a cell."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from rankdeficit.diagnostics.registry import Column, Row


def make_table(
    title: str,
    columns: Sequence[Column],
    items: Sequence[Any],
    *,
    words: int = 1,
    keep_empty: bool = False,
) -> Table:
    """A row per item. Columns without any value are left out, unless `keep_empty`.

    words: how many columns at the left are text, aligned to the left. The notes of the columns shown
    make the caption. Names are not interpreted as markup.
    """
    cells = [[column.cell(item) for item in items] for column in columns]
    shown = [number for number, own in enumerate(cells) if keep_empty or any(own)]
    notes = dict.fromkeys(columns[number].note for number in shown if columns[number].note)
    table = Table(
        title=title,
        title_justify="left",
        caption=" ".join(notes),
        caption_justify="left",
        box=box.SIMPLE_HEAVY,
        padding=(0, 1, 0, 0),
    )
    for number in shown:
        heading = columns[number].heading
        table.add_column(
            Text(heading),
            justify="left" if number < words else "right",
            no_wrap=heading != "layer",
            overflow="fold",
        )
    for row in zip(*(cells[number] for number in shown), strict=True):
        table.add_row(*(Text(cell or "-") for cell in row))
    return table


def percent(value: float | int | None) -> str | None:
    """A share in percent."""
    return None if value is None else f"{value:.1%}"


def number(value: float | int | None, form: str = ".3g") -> str | None:
    """A number with three significant digits, or in another format."""
    return None if value is None else f"{value:{form}}"


def text(value: Any) -> str | None:
    """A value as text."""
    return None if value is None else str(value)


def rank_text(measures: Row, kind: str = "rank") -> str:
    """A rank, with its range where rounding leaves it open."""
    low, high = measures.get(f"{kind}_interval") or (measures[kind],) * 2
    return f"{measures[kind]}" + (f" ({low}-{high})" if low < high else "")


def pair(first: Any, second: Any) -> str | None:
    """Train and test values as the text of one cell."""
    return None if first is None and second is None else f"{first or '-'}/{second or '-'}"
