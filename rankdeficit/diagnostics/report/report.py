"""Reports on one network: saved as files, looked up by name, shown as text and figures."""

import difflib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, overload

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.advice import Advice, advice
from rankdeficit.diagnostics.report.figures import drawings
from rankdeficit.diagnostics.report.numbers import Number, numbers, to_csv
from rankdeficit.diagnostics.report.outputs import write_figures, write_text
from rankdeficit.diagnostics.report.page import report_page
from rankdeficit.diagnostics.report.records import Row
from rankdeficit.diagnostics.report.sentences import heading, sentences
from rankdeficit.diagnostics.report.tables import tables
from rankdeficit.page import render

WIDTH = 130
"""Columns of the text."""


class Report(Mapping[str, Any]):
    """A mapping from dotted names to measures: report["test.logits.rank"].

    Layers go by name, report["layers.layer1.0.conv1.train.rank"], or by their position from 0 where
    no layer's name starts with a number. Names of whole sections work too, report["calibration"].
    print(report) shows tables, what they mean, and the notes on what could not be measured.
    """

    def __init__(self, record: Row) -> None:
        """A report on a copy of the record; what is NaN or infinite becomes None.

        Raises ValueError for a record that is not of plain values or lacks the essential ones.
        """
        self.record: Row = records.plain(record)

    @classmethod
    def from_json(cls, path: Path | str) -> "Report":
        """The report that `to_json` wrote. Raises ValueError naming a file that holds none."""
        try:
            return cls(records.plain(json.loads(Path(path).read_text(encoding="utf-8"))))
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror or error})") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not the file of a report ({error})") from error

    @overload
    def to_json(self, path: None = None) -> str: ...

    @overload
    def to_json(self, path: Path | str) -> Path: ...

    def to_json(self, path: Path | str | None = None) -> str | Path:
        """The record as strict JSON; equal records give equal texts.

        path: of a file to write, or to replace as a whole; its folder is made where there is none.
        Returns the text, or the file's path where one is given. Raises ValueError for a path that
        cannot be a file.
        """
        text = json.dumps(self.record, indent=1, sort_keys=True, allow_nan=False) + "\n"
        if path is None:
            return text
        return write_text(path, lambda: text)

    def numbers(self) -> list[Number]:
        """All single numbers with their data set, layer, interval and convention."""
        return numbers(self.record)

    def to_csv(self, path: Path | str) -> Path:
        """Write the numbers as a table, a row each; the columns are the fields of `Number`.

        Returns the path. Raises ValueError for a path that cannot be a file.
        """
        return write_text(path, lambda: to_csv(self.numbers(), Number._fields))

    def to_html(self, path: Path | str) -> Path:
        """Write one self-contained page: the verdict, then all tables, figures and notes.

        Returns the path. Raises ValueError for a path that cannot be a file.
        """
        return write_text(path, lambda: render(report_page(self.record)))

    def names(self) -> list[str]:
        """Dotted names of all single measures."""
        return list(records.leaves(self.record))

    def tables(self) -> list[Table]:
        """Tables of the data sets and the layers, and those of the measures that were taken."""
        return tables(self.record)

    def sentences(self) -> list[str]:
        """What the measures mean, in words, with notes on what could not be measured."""
        return sentences(self.record)

    def advice(self) -> list[Advice]:
        """What to try where the measures show signs of trouble."""
        return advice(self.record)

    def plot(self, folder: Path | str) -> list[Path]:
        """Draw the measures' figures into a folder, made where there is none.

        Returns the paths of the PNG files. Raises ValueError for a path that cannot be a folder.
        """
        drawn = drawings(self.record)
        return write_figures(folder, ((own.name, own.figure) for own in drawn))

    def __getitem__(self, name: str) -> Any:
        """Raises KeyError with close names for an unknown one."""
        found = records.find(self.record, name)
        if found is records.MISSING:
            known = self.names()
            sections = {name.rsplit(".", depth)[0] for name in known for depth in (1, 2)}
            close = difflib.get_close_matches(name, sorted({*known, *sections}), n=5)
            raise KeyError(
                f"no measure is called {name!r}; close names: {', '.join(close or self.record)}"
            )
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and records.find(self.record, name) is not records.MISSING

    def __iter__(self) -> Iterator[str]:
        return records.leaves(self.record)

    def __len__(self) -> int:
        return len(self.names())

    def __repr__(self) -> str:
        return f"<Report on {heading(self.record)}; print it to read it>"

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
        with console.capture() as captured:
            for table in self.tables():
                console.print(table)
                console.print()
        lines = [line.rstrip() for line in captured.get().splitlines()]
        return "\n".join([heading(self.record), *lines, *self._closing()])

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        yield Text(heading(self.record))
        for table in self.tables():
            yield table
            yield Text()
        yield from map(Text, self._closing())

    def _closing(self) -> list[str]:
        """Sentences, and what to try."""
        found = [f"- {own}" for own in self.advice()]
        return [*self.sentences(), *(["", "What to try", *found] if found else [])]
