"""The page as Markdown, which code hosts show where they show no HTML."""

import re
from collections.abc import Iterator, Sequence

from real_nets.page.numbers import NOTHING
from real_nets.page.page import Column, Page, Picture, Section, TableCell

SPECIAL = re.compile(r"([\\`*_\[\]<>|&~$])|^([#+=-]|\d+(?=[.)]))")
"""What means something to Markdown: anywhere, and at the beginning of a line."""


def render_markdown(page: Page, figures: Sequence[Sequence[str]]) -> str:
    """The page, its pictures by the names of their files: a list per section."""
    lines = [f"# {_plain(page.title)}"]
    lines += [_plain(text) for text in page.summary]
    for section, files in zip(page.sections, figures, strict=True):
        lines += _section(section, files)
    if page.conditions:
        rows = [[TableCell(name), TableCell(value)] for name, value in page.conditions]
        lines += ["## Conditions", _rows([Column("what"), Column("value")], rows, {})]
    return "\n\n".join(lines) + "\n"


def _section(section: Section, files: Sequence[str]) -> Iterator[str]:
    yield f"## {_plain(section.title)}"
    yield from (_plain(text) for text in section.paragraphs)
    for table in section.tables:
        yield f"**{_plain(table.caption)}**"
        yield _rows(table.columns, table.rows, table.notes)
        if table.notes:
            yield "\n".join(f"- {mark}: {_plain(note)}" for note, mark in table.notes.items())
    for picture, file in zip(section.pictures, files, strict=True):
        yield _picture(picture, file)
    if section.notes:
        yield "\n".join(f"- {_plain(note)}" for note in section.notes)


def _rows(
    columns: Sequence[Column], rows: Sequence[Sequence[TableCell]], marks: dict[str, str]
) -> str:
    titles = [_plain(_title(column)) for column in columns]
    texts = [[_cell(cell, marks) for cell in row] for row in rows]
    lines = [titles, ["---"] * len(titles), *texts]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _title(column: Column) -> str:
    """Both headings in one: there is a single row of them."""
    if not column.group:
        return column.title
    return f"{column.group}{' ' if column.group.endswith('=') else ': '}{column.title}"


def _cell(cell: TableCell, marks: dict[str, str]) -> str:
    text = _plain(cell.text or NOTHING)
    return f"{text}<sup>{marks[cell.note]}</sup>" if cell.note else text


def _picture(picture: Picture, file: str) -> str:
    caption = f"\n\n{_plain(picture.caption)}" if picture.caption else ""
    return f"![{_plain(picture.alt)}]({file}){caption}"


def _plain(text: str) -> str:
    """Text that Markdown takes as it is."""
    return SPECIAL.sub(_escaped, " ".join(text.split()))


def _escaped(found: re.Match[str]) -> str:
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"
