"""Sections on the terminal: nothing is cut off, whatever the width."""

import sys
from io import StringIO

import pytest
from rich.console import Console

from rankdeficit.page import Column, Section, Table, TableCell
from rankdeficit.page.terminal import open_console, print_section, terminal_table

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


def lines_of(table: Table, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width)
    with console.capture() as capture:
        console.print(terminal_table(table, console))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_all_numbers_are_there_in_lines_that_fit(width: int) -> None:
    lines = lines_of(TABLE, width)
    everything = "\n".join(lines)
    assert max(len(line) for line in lines) <= width
    assert "…" not in everything
    for cell in (cell for own in TABLE.rows for cell in own[2:]):
        for part in cell.parts:
            assert part in everything
    for text in ("ResNet-18", "glyphs:50", "data", "κ", "ρ", "rank", "paper", "measured", "alone"):
        assert text in everything


def test_a_table_that_fits_has_a_line_per_row_and_another_one_per_number() -> None:
    def numbers_beside_each_other(width: int) -> int:
        return sum("75%" in line and "51.5%" in line for line in lines_of(TABLE, width))

    assert numbers_beside_each_other(160) == 2
    assert numbers_beside_each_other(60) == 0
    narrow = [" ".join(line.split()) for line in lines_of(TABLE, 60)]
    assert sum("paper κ 75%" in line for line in narrow) == 2
    assert sum("measured κ 51.5% (a)" in line for line in narrow) == 1


@pytest.mark.parametrize("width", [30, 60, 90])
def test_texts_fold_and_nothing_of_them_is_lost(width: int) -> None:
    long = Table("c", [Column("a"), Column("b")], [[TableCell("x" * 40), TableCell("1" * 40)]])
    lines = lines_of(long, width)
    assert max(map(len, lines)) <= width
    assert [sum(line.count(letter) for line in lines) for letter in "x1"] == [40, 40]


def test_range_and_n_stand_below_their_number() -> None:
    lines = lines_of(TABLE, 160)
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


def test_a_closed_output_raises_instead_of_ending_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Closed(StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        print_section(SECTION, open_console())
