"""A report as a page: the verdict, then every measure's sentences, tables and figures."""

import re
from collections.abc import Sequence

import rich.table
from rich.text import Text

from rankdeficit.diagnostics.registry import Measure, all_measures
from rankdeficit.diagnostics.report.advice import advice
from rankdeficit.diagnostics.report.figures import Drawing, drawings
from rankdeficit.diagnostics.report.glossary import TERMS, Term, glossary_section
from rankdeficit.diagnostics.report.records import Row
from rankdeficit.diagnostics.report.sentences import heading, layer_sentences, limits, title
from rankdeficit.diagnostics.report.tables import data_table, layer_table
from rankdeficit.diagnostics.report.verdicts import Verdict, verdicts
from rankdeficit.page import Column, Page, Picture, Section, Table, TableCell

HEADLINE = 4
"""Verdicts shown at the top of the page."""


def report_page(record: Row) -> Page:
    """The page of a record."""
    found, common = verdicts(record), [data_table(record), layer_table(record)]
    parts = [_measure_section(own, record, drawn) for own, drawn in _figures(record)]
    taken = [(own, section) for own, section in parts if section is not None]
    advised = [str(own) for own in advice(record)]
    sections = [
        Section(
            "verdict",
            "Verdict",
            tables=[verdict_table(found)],
            notes=limits(record),
            headline="; ".join(f"{own.name} {own.value}" for own in found[:HEADLINE]) + ".",
        ),
        *([Section("what-to-try", "What to try", notes=advised)] if advised else []),
        Section(
            "data-and-layers",
            "Data and layers",
            [heading(record) + "."],
            [page_table(own) for own in common],
            notes=[*_notes(common), *layer_sentences(record)],
        ),
        *(section for _, section in taken),
        glossary_section(
            term for term in TERMS.values() if _about(term, [own.name for own, _ in taken])
        ),
    ]
    if notes := record.get("notes"):
        sections.append(Section("notes", "Notes", notes=[f"{note}." for note in notes]))
    return Page(title(record), [], sections, conditions(record))


def verdict_table(found: Sequence[Verdict]) -> Table:
    """A row per number."""
    headings = ("number", "value", "judgement", "how to read it")
    rows = [
        [
            TableCell(own.name),
            TableCell(own.value, kind="measured"),
            TableCell(own.judgement),
            TableCell(own.reading),
        ]
        for own in found
    ]
    caption = "Values with 95% intervals over samples; ranks with what rounding leaves open."
    return Table(caption, [Column(text) for text in headings], rows)


def page_table(table: rich.table.Table) -> Table:
    """A table for the terminal as one of a page."""
    columns = [Column(_plain(own.header).replace("\n", " ")) for own in table.columns]
    cells = [[_plain(cell) for cell in own.cells] for own in table.columns]
    rows = [
        [TableCell("" if text == "-" else text) for text in row] for row in zip(*cells, strict=True)
    ]
    return Table(_plain(table.title), columns, rows)


def _notes(tables: Sequence[rich.table.Table]) -> list[str]:
    """What stands below tables, each once."""
    return list(dict.fromkeys(text for own in tables if (text := _plain(own.caption))))


def conditions(record: Row) -> list[tuple[str, str]]:
    """Name and value of the settings that the numbers depend on."""
    found = {**record["network"], **record["conditions"]}
    return [
        (name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
        for name, value in found.items()
        if isinstance(value, (str, int, float))
    ]


def slug(text: str) -> str:
    """A measure's name as the identifier of its section; different names have different ones."""
    return "measure-" + re.sub(r"[^a-z0-9_]", lambda found: f"-{ord(found[0])}-", text).replace(
        "_", "-"
    )


def _figures(record: Row) -> list[tuple[Measure, list[Drawing]]]:
    drawn: dict[str, list[Drawing]] = {}
    for own in drawings(record):
        drawn.setdefault(own.measure.name, []).append(own)
    return [(own, drawn.get(own.name, [])) for own in all_measures()]


def _measure_section(
    own: Measure, record: Row, drawn: Sequence[Drawing]
) -> tuple[Measure, Section | None]:
    sentences, tables = own.sentences(record), own.tables(record)
    if not (sentences or tables or drawn):
        return own, None
    name = own.name.replace("_", " ").replace("ood", "OOD")
    return own, Section(
        slug(own.name),
        name[0].upper() + name[1:],
        [own.help, *sentences],
        [page_table(table) for table in tables],
        [Picture(item.figure, item.caption, f"{name}: {item.caption}") for item in drawn],
        _notes(tables),
    )


def _about(term: Term, taken: Sequence[str]) -> bool:
    """Whether one of these measures gives the number, or all reports have it."""
    return not term.measures or any(name in term.measures for name in taken)


def _plain(text: object) -> str:
    return text.plain if isinstance(text, Text) else str(text or "")
