"""A page's sections on the terminal: a table, then the sentences."""

from itertools import zip_longest

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as TerminalTable
from rich.text import Text

from rankdeficit.experiments.tables import OpenConsole
from rankdeficit.page.page import Section, Table, TableCell

FILE_COLUMNS = 160
"""Width of what is printed to a file."""
UNLIMITED = 10_000


def open_console(stderr: bool = False) -> Console:
    """As wide as the terminal, or FILE_COLUMNS where there is none."""
    console = OpenConsole(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = OpenConsole(stderr=stderr, highlight=False, width=FILE_COLUMNS)
    return console


def say(console: Console, sentence: str) -> None:
    """Wrapped at words on a terminal, in one line in a file."""
    console.print(sentence, markup=False, soft_wrap=not console.is_terminal)


def print_section(section: Section, console: Console) -> None:
    """Title, first table and sentences; the page has the rest."""
    console.rule(section.title)
    for table in [table for table in section.tables if table.rows][:1]:
        if table.caption != section.title:
            console.print(table.caption, style="bold", markup=False)
        console.print(terminal_table(table, console))
        for note, mark in table.notes.items():
            say(console, f"({mark}) {note}")
    for sentence in (*section.paragraphs, *section.notes):
        say(console, sentence)


def terminal_table(table: Table, console: Console) -> TerminalTable:
    """One line per row where all columns fit, otherwise one line per number; long texts are folded."""
    titles = ["\n".join(filter(None, (own.group, own.title))) for own in table.columns]
    rows = [[_text(cell, table) for cell in row] for row in table.rows]
    shown = _side_by_side(table, titles, rows)
    unlimited = console.options.update(width=UNLIMITED)
    if Measurement.get(console, unlimited, shown).maximum <= console.width:
        return shown
    return _below_each_other(table.labels, titles, rows)


def _side_by_side(table: Table, titles: list[str], rows: list[list[str]]) -> TerminalTable:
    """The labels of a row share one column, one below the other."""
    shown = _empty()
    shown.leading = 1
    shown.add_column(Text("\n".join(titles[: table.labels])))
    for i, title in enumerate(titles[table.labels :], start=table.labels):
        shown.add_column(Text(title), justify="right" if table.numeric[i] else "left")
    for row in rows:
        shown.add_row(Text("\n".join(row[: table.labels])), *map(Text, row[table.labels :]))
    return shown


def _below_each_other(labels: int, titles: list[str], rows: list[list[str]]) -> TerminalTable:
    """Three columns: the labels of a row, the headings of its numbers, and the numbers."""
    shown = _empty()
    for heading in ("\n".join(titles[:labels]), "", ""):
        shown.add_column(Text(heading), overflow="fold")
    for number, row in enumerate(rows):
        if number:
            shown.add_row()
        for line in zip_longest(row[:labels], titles[labels:], row[labels:], fillvalue=""):
            shown.add_row(*(Text(text.replace("\n", " ")) for text in line))
    return shown


def _empty() -> TerminalTable:
    return TerminalTable(box=box.SIMPLE_HEAVY, padding=(0, 1, 0, 0), pad_edge=False)


def _text(cell: TableCell, table: Table) -> str:
    number, *spread = cell.parts
    mark = f" ({table.notes[cell.note]})" if cell.note else ""
    return "\n".join([number + mark, *spread])
