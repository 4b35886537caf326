"""Reports side by side: as text, as a table of all numbers, as a page and as figures."""

import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rankdeficit.diagnostics.comparison.differences import (
    Difference,
    Line,
    is_main,
    is_rank,
    lines,
    paired_test,
    unlike,
)
from rankdeficit.diagnostics.comparison.figures import drawings
from rankdeficit.diagnostics.registry import Column
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.report.cells import make_table
from rankdeficit.diagnostics.report.numbers import Number, to_csv
from rankdeficit.diagnostics.report.outputs import write_figures, write_text
from rankdeficit.diagnostics.report.page import conditions, page_table
from rankdeficit.diagnostics.report.records import Row
from rankdeficit.diagnostics.report.sentences import title
from rankdeficit.diagnostics.report.verdicts import with_range
from rankdeficit.page import Page, Picture, Section, render
from rankdeficit.page.numbers import SPACE, format_percentage_points

WIDTH = 160
"""Columns of the text."""
SHARES = (".accuracy", ".ece", ".smooth_ece", "nearest_centre_agreement")
"""Suffixes of the names of numbers that are shown in percent."""


LISTED = 5
"""Names of missing numbers that a note lists."""
POINTS = f"{SPACE}pp"


def compare(*reports: Any, names: Sequence[str] | None = None) -> "Comparison":
    """Two or more reports side by side; differences are from the first one.

    reports: reports, or files that `Report.to_json` wrote.
    names: of the reports, for headings and legends [default: network, data and temperature].
    Accuracies on the same test samples, which a hash of samples and labels verifies, are compared by
    McNemar's exact test, AUROCs on the same samples by DeLong's. All other intervals of differences
    take samples to be independent.
    Raises ValueError for fewer than two reports, files that hold none, networks with different numbers
    of classes, and names that are not one per report.
    """
    if len(reports) < 2:
        raise ValueError(f"reports has {len(reports)} entries; give at least two to compare")
    loaded = [_load(report, f"reports[{i}]") for i, report in enumerate(reports)]
    classes = [report["network.classes"] for report in loaded]
    for i, own in enumerate(classes):
        if own != classes[0]:
            raise ValueError(
                f"reports[{i}] is of a network with {own} classes and reports[0] of one with "
                f"{classes[0]}; compare networks with the same classes"
            )
    if names is None:
        names = _unique([title(report.record) for report in loaded])
    names = [names] if isinstance(names, str) else list(names)
    texts = all(isinstance(name, str) for name in names)
    if not texts or len(names) != len(loaded) or len(set(names)) < len(names):
        raise ValueError(f"names is {names}; give {len(loaded)} different names, one per report")
    return Comparison([report.record for report in loaded], names)


class Comparison:
    """Reports side by side; print(comparison) shows the main numbers and what the samples allow."""

    def __init__(self, records: Sequence[Row], names: Sequence[str]) -> None:
        """Of records of networks with the same number of classes; `compare` makes one from reports."""
        self.records, self.names = list(records), list(names)
        self.lines = lines(self.records)
        self._dimensions = {
            line.name.removesuffix("dimension"): line.numbers
            for line in self.lines
            if line.name.endswith(".dimension")
        }

    def differences(self, other: int = 1) -> dict[str, Difference]:
        """Differences by name: numbers of reports[other] minus those of the first report.

        Raises ValueError unless 1 <= other < the number of reports.
        """
        if other not in range(1, len(self.records)):
            raise ValueError(
                f"other is {other!r}; it must lie in 1..{len(self.records) - 1}, a report's place"
            )
        return {
            line.name: found
            for line in self.lines
            if (found := line.differences[other - 1]) is not None
        }

    def left_out(self) -> list[str]:
        """Which numbers have no difference, and why."""
        told = []
        for name, numbers in zip(self.names, self._columns(), strict=True):
            lacking = [own for own, number in numbers.items() if number is None and is_main(own)]
            if lacking:
                some = ", ".join(lacking[:LISTED]) + (", ..." if len(lacking) > LISTED else "")
                told.append(
                    f"Not measured in {name}, and so without a difference: {some} ({len(lacking)})."
                )
        layers = [[layer["name"] for layer in record["layers"]] for record in self.records]
        if any(own != layers[0] for own in layers):
            told.append(
                "Layers have different names: numbers of layers have a difference where a layer of that "
                "name is in both networks, and figures put layers beside each other by their place."
            )
        gammas = [record["conditions"]["gamma"] for record in self.records]
        if len(set(gammas)) > 1:
            listed = ", ".join(f"{gamma:g}" for gamma in gammas)
            told.append(f"Ranks and NC1 have no differences, as their gamma differ: {listed}.")
        conventions = [record["conditions"].get("convention", "matrix") for record in self.records]
        if len(set(conventions)) > 1:
            listed = ", ".join(conventions)
            told.append(
                f"Ranks of layers have no differences, as their conventions differ: {listed}."
            )
        return told

    def _columns(self) -> list[dict[str, Number | None]]:
        """The numbers of each report by name."""
        return [{line.name: line.numbers[i] for line in self.lines} for i in range(len(self.names))]

    def sentences(self) -> list[str]:
        """Whether samples are the same, the result of the paired test, and what was left out."""
        found = []
        for name, record in zip(self.names[1:], self.records[1:], strict=True):
            test = paired_test(self.records[0], record)
            if test is None:
                found.append(
                    f"{name} and {self.names[0]} are not known to have the same test samples in the same "
                    "form: their accuracies are compared as of independent samples."
                )
                continue
            found.append(
                f"{name} and {self.names[0]} have the same test samples. Only {name} is right on "
                f"{test.only_second} of them, only {self.names[0]} on {test.only_first}: exact McNemar "
                f"p = {test.p:.2g}."
            )
        found.append(
            "Without a paired test, the interval of a difference combines those of both values as of "
            "independent samples; on shared samples it is as a rule too wide. No interval includes the "
            "spread over seeds, and no p-value is corrected for the number of tests."
        )
        return [*found, *unlike(self.records), *self.left_out()]

    def tables(self) -> list[Table]:
        """The main numbers of the first report and each other one, a row each."""
        shown = [line for line in self.lines if is_main(line.name)]
        return [self._table(shown, other) for other in range(1, len(self.records))]

    def to_csv(self, path: Path | str) -> Path:
        """Write all numbers of measures, a row each: values, differences, intervals, p-values.

        Columns of a report end with its name. Returns the path. Raises ValueError for a path that
        cannot be a file.
        """
        columns = ["name", "measure", "split", "layer", "convention"]
        columns += [f"{part}: {name}" for name in self.names for part in ("value", "low", "high")]
        parts = ("difference", "difference low", "difference high", "samples", "p")
        columns += [f"{part}: {name}" for name in self.names[1:] for part in parts]
        return write_text(path, lambda: to_csv([_row(line) for line in self.lines], columns))

    def to_html(self, path: Path | str) -> Path:
        """Write one self-contained page: table, tests, figures and conditions.

        Returns the path. Raises ValueError for a path that cannot be a file.
        """
        return write_text(path, lambda: render(self.page()))

    def page(self) -> Page:
        """The page of the comparison."""
        pictures = [
            Picture(figure, caption, caption)
            for _, figure, caption in drawings(self.records, self.names)
        ]
        told, left_out = self.sentences(), self.left_out()
        sections = [
            Section(
                "comparison",
                "Comparison",
                tables=[page_table(table) for table in self.tables()],
                notes=[sentence for sentence in told[1:] if sentence not in left_out],
                headline=told[0],
            )
        ]
        if left_out:
            sections.append(Section("left-out", "Left out", notes=left_out))
        if pictures:
            sections.append(Section("figures", "Figures", pictures=pictures))
        return Page(" and ".join(self.names), [], sections, self._conditions())

    def plot(self, folder: Path | str) -> list[Path]:
        """Draw the figures of all reports in common axes, a colour per report, into a folder.

        Returns the paths of the PNG files. Raises ValueError for a path that cannot be a folder.
        """
        drawn = drawings(self.records, self.names)
        return write_figures(folder, ((name, figure) for name, figure, _ in drawn))

    def _table(self, shown: Sequence[Line], other: int) -> Table:
        columns = [
            Column("number", self._label),
            Column("A", partial(_value, 0)),
            Column("B", partial(_value, other)),
            Column("B - A", partial(_change, other)),
            Column("95% interval", partial(_ends, other)),
            Column("paired test", partial(_test, other)),
        ]
        own = [line for line in shown if line.numbers[0] or line.numbers[other]]
        return make_table(f"A: {self.names[0]}. B: {self.names[other]}", columns, own)

    def _label(self, line: Line) -> str:
        """The name of a number; with d beside it where it is NECO's."""
        dimensions = self._dimensions.get(line.name.removesuffix("auroc"), ())
        told = dict.fromkeys(str(number.value) for number in dimensions if number)
        return f"{line.name} (d = {', '.join(told)})" if told else line.name

    def __repr__(self) -> str:
        return f"<Comparison of {' and '.join(self.names)}; print it to read it>"

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
        with console.capture() as captured:
            for table in self.tables():
                console.print(table)
        shown = [line.rstrip() for line in captured.get().splitlines()]
        return "\n".join([*shown, *self.sentences()])

    def _conditions(self) -> list[tuple[str, str]]:
        """Settings of all reports; equal ones once."""
        own = [dict(conditions(record)) for record in self.records]
        keys = dict.fromkeys(key for found in own for key in found)
        values = {key: [found.get(key, "–") for found in own] for key in keys}
        return [
            (key, found[0] if len(set(found)) == 1 else " | ".join(found))
            for key, found in values.items()
        ]


def _load(report: Any, what: str) -> Report:
    if isinstance(report, Report):
        return report
    if not isinstance(report, (str, Path)):
        raise ValueError(
            f"{what} is a {type(report).__name__}; give a report, or the path of a report.json"
        )
    if Path(report).is_dir():
        raise ValueError(f"{what}, {report}, is a folder; name the file, such as report.json in it")
    return Report.from_json(report)


def _unique(names: Sequence[str]) -> list[str]:
    """Names, with their place where another one is the same."""
    return [
        name if names.count(name) == 1 else f"{name} ({place})"
        for place, name in enumerate(names, start=1)
    ]


def _form(name: str) -> str:
    return "d" if is_rank(name) else ".1%" if name.endswith(SHARES) else ".3g"


def _value(report: int, line: Line) -> str | None:
    found = line.numbers[report]
    if found is None:
        return None
    ends = None if found.low is None else (found.low, found.high)
    return with_range(found.value, ends, _form(line.name))


def _signed(name: str, value: float | int) -> str:
    form = _form(name)
    return format_percentage_points(value) if form == ".1%" else f"{value:+{form}}"


def _change(other: int, line: Line) -> str | None:
    found = line.differences[other - 1]
    return None if found is None else _signed(line.name, found.value)


def _ends(other: int, line: Line) -> str | None:
    found = line.differences[other - 1]
    if found is None or found.interval is None:
        return None
    low, high = (_signed(line.name, end) for end in found.interval)
    return f"{low.removesuffix(POINTS)} to {high}"


def _test(other: int, line: Line) -> str | None:
    found = line.differences[other - 1]
    return None if found is None or found.p is None else f"p = {found.p:.2g}"


def _row(line: Line) -> tuple[Any, ...]:
    first = line.first
    cells: list[Any] = [line.name, first.measure, first.split, first.layer, first.convention]
    cells += _flat(_number_cells(number) for number in line.numbers)
    return (*cells, *_flat(_difference_cells(found) for found in line.differences))


def _flat(parts: Iterator[tuple[Any, ...]]) -> list[Any]:
    return [cell for part in parts for cell in part]


def _number_cells(number: Number | None) -> tuple[Any, ...]:
    return (None,) * 3 if number is None else (number.value, number.low, number.high)


def _difference_cells(found: Difference | None) -> tuple[Any, ...]:
    if found is None:
        return (None,) * 5
    return (found.value, *(found.interval or (None, None)), found.method, found.p)
