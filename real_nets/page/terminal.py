"""A page's sections on the terminal: tables cut to its width, then the sentences."""

from collections.abc import Iterator, Sequence
from itertools import chain

from rich import box
from rich.console import Console
from rich.table import Table as TerminalTable
from rich.text import Text

from real_nets.page import Section, Table, TableCell

FILE_COLUMNS = 160
"""Width of what is printed to a file."""
GAP, EDGE = 3, 1
"""Characters between two columns of a table, and left over at its end."""


def open_console(stderr: bool = False) -> Console:
    """As wide as the terminal, or FILE_COLUMNS where there is none."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=FILE_COLUMNS)
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
        for part in terminal_tables(table, console.width):
            console.print(part)
        for note, mark in table.notes.items():
            say(console, f"({mark}) {note}")
    for sentence in (*section.paragraphs, *section.notes):
        say(console, sentence)


def terminal_tables(table: Table, width: int) -> Iterator[TerminalTable]:
    """The table, or one after the other with as many of its columns as fit in the width.

    What a row is about, its first columns as far as they are words, stands in one column of each.
    """
    labels = next((i for i, numeric in enumerate(table.numeric) if numeric), len(table.columns))
    lead = [_stacked([column.title for column in table.columns[:labels]])]
    lead += [_stacked([cell.text for cell in row[:labels]]) for row in table.rows]
    columns = [_texts(table, i) for i in range(labels, len(table.columns))]
    groups = [[i - labels for i in own if i >= labels] for _, own in table.groups]
    room = width - EDGE - _width(lead) - GAP
    for part in _fitting(groups, [_width(column) + GAP for column in columns], room):
        shown = TerminalTable(box=box.SIMPLE_HEAVY, leading=1)
        head, *rows = zip(lead, *(columns[i] for i in part), strict=True)
        for i, title in enumerate(head):
            shown.add_column(title, justify="right" if i else "left", no_wrap=True)
        for row in rows:
            shown.add_row(*map(Text, row))
        yield shown


def _texts(table: Table, column: int) -> list[str]:
    """Heading and cells: number, range and n below each other."""
    heading = table.columns[column]
    cells = (row[column] for row in table.rows)
    return [_stacked([heading.group, heading.title]), *(_text(cell, table) for cell in cells)]


def _text(cell: TableCell, table: Table) -> str:
    number, *others = cell.parts
    mark = f" ({table.notes[cell.note]})" if cell.note else ""
    return _stacked([number + mark, *others])


def _stacked(lines: Sequence[str]) -> str:
    return "\n".join(line for line in lines if line)


def _width(texts: Sequence[str]) -> int:
    return max(len(line) for text in texts for line in text.splitlines() or [""])


def _fitting(
    groups: Sequence[Sequence[int]], widths: Sequence[int], width: int
) -> Iterator[list[int]]:
    """Columns that stand side by side: whole groups, or parts of those that are too wide."""

    def taken(columns: Sequence[int]) -> int:
        return sum(widths[i] for i in columns)

    units = chain.from_iterable(
        [list(own)] if taken(own) <= width else [[i] for i in own] for own in groups
    )
    part: list[int] = []
    for unit in units:
        if part and taken([*part, *unit]) > width:
            yield part
            part = []
        part += unit
    yield part
