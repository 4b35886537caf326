"""The parts of a page as plain data."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, product
from string import ascii_lowercase
from typing import Literal

from matplotlib.figure import Figure

from rankdeficit.page.numbers import MINUS, NOTHING

Kind = Literal["plain", "paper", "measured", "difference", "missing"]

KINDS: dict[Kind, str] = {
    "paper": "the paper’s",
    "measured": "measured here",
    "difference": "difference, measured minus the paper’s",
    "missing": "not measured",
}
"""Meaning of each kind of cell, as the key below a table gives it."""

IDENTIFIER = re.compile(r"[a-z][a-z0-9-]*")
SHORT = 16
"""Longest text of a cell, in characters, that is not broken into lines."""
PORTRAIT_COLUMNS = 12
RESERVED = ("contents", "summary", "conditions")
NUMBER = re.compile(rf"[+{MINUS}-]?\.?\d.*|{NOTHING}|")
SPREAD = re.compile(r"(\S+?)(?: (\(\S+\)))?(?:, (n\s=\s\d+))?")


@dataclass(frozen=True)
class TableCell:
    """A text in a table. The range and the n that follow a number go to a line of their own."""

    text: str
    kind: Kind = "plain"
    note: str | None = None
    """Printed below the table, with a mark at the cell."""

    @property
    def short(self) -> bool:
        """Whether the text is a name or a number rather than a sentence, not to be broken."""
        return len(self.text) <= SHORT

    @property
    def parts(self) -> list[str]:
        """The number, then its range and n: "67% (66–68), n = 3" has "67%", "(66–68)" and "n = 3"."""
        found = SPREAD.fullmatch(self.text) if self.kind != "plain" else None
        return [part for part in found.groups() if part] if found else [self.text or NOTHING]


@dataclass(frozen=True)
class Column:
    """A heading, and the heading above it, which neighbours may share."""

    title: str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells. Raises ValueError for rows that do not have a cell per column."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[TableCell]]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"rows[{number}] of table {self.caption!r} has {len(row)} cells; it must have one "
                    f"for each of {len(self.columns)} columns"
                )

    @property
    def wide(self) -> bool:
        """Whether the table is printed on a page of landscape format."""
        return len(self.columns) > PORTRAIT_COLUMNS

    @property
    def groups(self) -> list[tuple[str, list[int]]]:
        """Headings of the upper level, each with the columns below it; "" for columns without."""
        runs = groupby(range(len(self.columns)), lambda i: self.columns[i].group)
        return [(group, list(columns)) for group, columns in runs]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers, which are set flush right."""
        return [
            bool(self.rows)
            and all(row[i].kind != "plain" or NUMBER.fullmatch(row[i].text) for row in self.rows)
            for i in range(len(self.columns))
        ]

    @property
    def labels(self) -> int:
        """Number of columns that label a row: those of words before the first column of numbers.

        One where no column holds numbers, and where the first does.
        """
        return max(1, next((i for i, numeric in enumerate(self.numeric) if numeric), 1))

    def column_class(self, column: int) -> str:
        """Classes of a column's cells: labels, numbers, and a rule where a group of columns starts."""
        group, before = self.columns[column].group, self.columns[column - 1].group if column else ""
        found = {
            "label": column < self.labels,
            "number": self.numeric[column],
            "start": group != before,
        }
        return " ".join(name for name, has in found.items() if has)

    @property
    def notes(self) -> dict[str, str]:
        """Marks of the cells' notes: a, b, ..., z, aa, ab, ... in the order of their first place."""
        found = dict.fromkeys(cell.note for row in self.rows for cell in row if cell.note)
        marks = ("".join(letters) for n in (1, 2) for letters in product(ascii_lowercase, repeat=n))
        return dict(zip(found, marks, strict=False))

    @property
    def key(self) -> list[tuple[Kind, str]]:
        """Meaning of the kinds of cells in the table; empty where all are of one kind."""
        used = {cell.kind for row in self.rows for cell in row}
        found = [(kind, text) for kind, text in KINDS.items() if kind in used]
        return found if len(found) > 1 else []


@dataclass(frozen=True)
class Picture:
    """A figure with its caption and alternative text. Raises ValueError where alt is empty."""

    figure: Figure
    caption: str
    alt: str
    """Description for readers who cannot see the figure."""

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError(f"alt of picture {self.caption!r} is empty; say what the figure shows")


@dataclass(frozen=True)
class Section:
    """A part of the page with its place in the list of results at the top."""

    identifier: str
    """Lower-case letters, digits and hyphens; the part of a link after #."""
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    headline: str = ""
    """The result in a sentence, for the list at the top of the page; the section does not repeat it."""

    def __post_init__(self) -> None:
        if not IDENTIFIER.fullmatch(self.identifier) or self.identifier in RESERVED:
            raise ValueError(
                f"identifier is {self.identifier!r}; it must be of lower-case letters, digits and "
                f"hyphens, start with a letter, and be none of {', '.join(RESERVED)}"
            )


@dataclass(frozen=True)
class Page:
    """The whole page. Raises ValueError where two sections have the same identifier."""

    title: str
    summary: Sequence[str]
    """What was measured, and on what; shown below the list of results."""
    sections: Sequence[Section]
    conditions: Sequence[tuple[str, str]]
    """(name, value) of everything that the numbers depend on."""

    def __post_init__(self) -> None:
        counts = Counter(section.identifier for section in self.sections)
        for name, count in counts.items():
            if count > 1:
                raise ValueError(f"identifier {name!r} is of {count} sections; give each its own")
