"""Sections on the terminal: nothing is cut off, whatever the width."""

from io import StringIO
from itertools import pairwise

import pytest
from rich.console import Console

from real_nets.page import Column, Section, Table, TableCell
from real_nets.page.terminal import open_console, print_section, terminal_tables

COLUMNS = [
    Column("data"),
    Column("network"),
    *(Column(name, group) for group in ("paper", "measured") for name in ("κ", "ρ", "rank")),
    Column("alone"),
]


def row(data: str, note: str | None = None) -> list[TableCell]:
    return [
        TableCell(data),
        TableCell("ResNet-18"),
        *(TableCell(text, "paper") for text in ("75%", "67%", "9")),
        *(TableCell(f"{i}1.5% (60.1–73.5), n = 3", "measured", note) for i in (5, 6, 7)),
        TableCell("", "missing"),
    ]


TABLE = Table("Caption", COLUMNS, [row("my [red] set", "a note"), row("glyphs:50 for CIFAR-100")])
SECTION = Section("name", "Title", ["A claim [of the paper]."], [TABLE, TABLE], [], ["Something."])


def printed(section: Section, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width, highlight=False)
    print_section(section, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def tables(width: int) -> list[list[str]]:
    """Lines of each table that the wide one is cut into."""
    console = Console(file=StringIO(), width=width)
    found = []
    for table in terminal_tables(TABLE, width):
        with console.capture() as capture:
            console.print(table)
        found.append(capture.get().splitlines())
    return found


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_all_numbers_are_there_in_lines_that_fit(width: int) -> None:
    found = tables(width)
    everything = "\n".join(line for lines in found for line in lines)
    assert max(len(line) for lines in found for line in lines) <= width
    assert "…" not in everything
    for cell in (cell for own in TABLE.rows for cell in own):
        for part in cell.parts:
            assert everything.count(part) >= 1
    for heading in ("data", "network", "κ", "ρ", "rank", "paper", "measured", "alone"):
        assert heading in everything


def test_wider_terminals_need_fewer_tables_and_one_is_enough() -> None:
    counts = [len(tables(width)) for width in (50, 80, 100, 160)]
    assert counts[-1] == 1
    assert all(more >= fewer for more, fewer in pairwise(counts))
    assert counts[0] > 2


def test_every_table_says_what_its_rows_are_about() -> None:
    for lines in tables(60):
        text = "\n".join(lines)
        assert text.count("ResNet-18") == 2
        assert "glyphs:50 for CIFAR-100" in text


def test_groups_of_columns_stay_together_where_they_fit() -> None:
    heads = [" ".join(" ".join(lines[:4]).split()) for lines in tables(80)]
    assert sum("paper" in head for head in heads) == 1
    assert sum("measured" in head for head in heads) == 1


def test_range_and_n_stand_below_their_number() -> None:
    (lines,) = tables(160)
    at = next(i for i, line in enumerate(lines) if "51.5%" in line)
    position = lines[at].index("51.5% (a)") + len("51.5% (a)")
    assert lines[at + 1][:position].endswith("(60.1–73.5)")
    assert lines[at + 2][:position].endswith("n = 3")


def test_sections_show_their_first_table_notes_and_sentences() -> None:
    lines = printed(SECTION, 160)
    assert "─ Title ─" in lines[0]
    assert lines[1] == "Caption"
    assert sum("75%" in line for line in lines) == 2
    assert lines[-3:] == ["(a) a note", "A claim [of the paper].", "Something."]


def test_captions_that_repeat_the_title_and_tables_without_rows_are_not_shown() -> None:
    empty = Table("Empty", COLUMNS, [])
    lines = printed(Section("name", "Caption", [], [empty, TABLE]), 160)
    assert "Empty" not in "\n".join(lines)
    assert sum("Caption" in line for line in lines) == 1
    assert len(printed(Section("name", "Title", ["Words."], [empty]), 160)) == 2


def test_files_get_lines_of_a_fixed_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert open_console().width == 160
