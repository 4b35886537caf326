"""The page: structure, texts, figures within it, files."""

import re
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.figure import Figure

from rankdeficit.page import Column, Page, Picture, Section, Table, TableCell, render, write
from rankdeficit.page.render import LONG_NUMBER

VOID = {"meta", "link", "br", "hr", "img", "input", "col"}
"""HTML elements without an end."""


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list["Element"] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def all(self, tag: str = "") -> list["Element"]:
        below = [found for child in self.children for found in child.all(tag)]
        return ([self] if tag in ("", self.tag) else []) + below

    def text(self) -> str:
        return "".join(self.texts)

    def __getitem__(self, name: str) -> str:
        return self.attributes.get(name, "")

    def classes(self) -> set[str]:
        return set(self["class"].split())


class Reader(HTMLParser):
    """A tree of elements; ends that fit no beginning are an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("document", {})]

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(self.open[-1].children[-1])

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.open[-1].children.append(Element(tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.texts.append(data)


def read(text: str) -> Element:
    reader = Reader()
    reader.feed(text)
    reader.close()
    (document,) = reader.open
    return document


def drawn(title: str = "ranks") -> Figure:
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot([1, 2, 3], [1, 4, 9], "-o", label=r"$\|M\|_F$")
    axes.fill_between([1, 2, 3], [0, 3, 8], [2, 5, 10], alpha=0.2)
    axes.set_title(title)
    axes.legend()
    return figure


def table(**changes: Any) -> Table:
    columns = [
        Column("Network"),
        Column("T"),
        Column("paper", "κ"),
        Column("measured", "κ"),
        Column("difference", "κ"),
        Column("paper", "Rank"),
        Column("measured", "Rank"),
    ]
    rows = [
        [
            TableCell("ResNet-34"),
            TableCell("100"),
            TableCell("68%", "paper"),
            TableCell("67.3% (66.1–68.0), n = 3", "measured", note="SVHN"),
            TableCell("−0.7 pp", "difference"),
            TableCell("72", "paper", note="of 99"),
            TableCell("", "missing", note="SVHN"),
        ],
        [
            TableCell("MLP"),
            TableCell("1"),
            *[TableCell("75%", "paper"), TableCell("", "missing"), TableCell("", "missing")],
            *[TableCell("9", "paper"), TableCell("9", "measured")],
        ],
    ]
    return Table(**{"caption": "Depth & ranks", "columns": columns, "rows": rows} | changes)


def page(**changes: Any) -> Page:
    pictures = [Picture(drawn("a"), "First", "Ranks rise"), Picture(drawn("b"), "Second", 'A "b"')]
    sections = [
        Section("table-1", "Table 1", ["One.", "Two."], [table(), table()], pictures, ["A note."]),
        Section("more", "More", pictures=[Picture(drawn("a"), "Third", "As the first")]),
    ]
    whole: dict[str, Any] = {
        "title": "Softmax & temperature",
        "summary": ["Ranks fall."],
        "sections": sections,
        "conditions": [("torch", "2.15"), ("seeds", "3")],
    }
    return Page(**whole | changes)


@cache
def rendered() -> str:
    """The page above, rendered once for all tests that only read it."""
    return render(page())


def test_the_page_is_well_formed_and_names_are_unique() -> None:
    document = read(rendered())
    (html,) = document.children
    assert html["lang"] == "en-GB"
    ids = [element["id"] for element in document.all() if "id" in element.attributes]
    assert Counter(ids).most_common(1)[0][1] == 1
    assert {"summary", "table-1", "more", "conditions", "table-1-table-2"} <= set(ids)
    referred = [link[1:] for element in document.all() if (link := element["href"])[:1] == "#"]
    referred += [name for e in document.all() for name in e["aria-labelledby"].split()]
    assert set(referred) <= set(ids)


def test_nothing_is_loaded_and_nothing_runs() -> None:
    text = re.sub(r'src="data:image[^"]*"', 'src=""', rendered())
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    document = read(text)
    assert not document.all("script")
    for element in document.all():
        assert element["src"] == ""
        assert element["href"][:1] in ("", "#") or element["href"] == "data:,"
        assert not any(name.startswith("on") for name in element.attributes)
    policy = [e for e in document.all("meta") if e["http-equiv"] == "Content-Security-Policy"]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_headings_and_contents_agree() -> None:
    document = read(rendered())
    (contents,) = document.all("nav")
    links = [(link["href"], link.text()) for link in contents.all("a")]
    expected = [("table-1", "Table 1"), ("more", "More"), ("conditions", "Conditions")]
    assert links == [(f"#{name}", title) for name, title in expected]
    sections = [(s["id"], s.all("h2")[0].text()) for s in document.all("section")]
    assert sections == [("summary", "In short"), *expected]
    assert [e.text() for e in document.all("dt")] == ["torch", "seeds"]
    assert [e.text() for e in document.all("dd")] == ["2.15", "3"]


def test_results_come_first_each_with_a_link_to_its_section() -> None:
    own = [Section("a", "A", headline="κ falls."), Section("b", "B", ["Words."])]
    document = read(render(page(sections=own)))
    first = document.all("section")[0]
    assert first["id"] == "summary"
    items = first.all("li")
    assert [item.all("a")[0]["href"] for item in items] == ["#a", "#b", "#conditions"]
    assert items[0].text() == "Aκ falls."
    assert items[1].text() == "B"
    assert first.text().index("κ falls.") < first.text().index("Ranks fall.")


def test_parts_without_content_do_not_appear() -> None:
    document = read(render(page(summary=[], conditions=[], sections=[Section("only", "Only")])))
    assert [section["id"] for section in document.all("section")] == ["summary", "only"]
    assert [link.text() for link in document.all("a")] == ["Only"]
    assert not document.all("figure") + document.all("ul") + document.all("dl")


def spans(cells: list[Element], name: str) -> list[int]:
    return [int(cell[name] or 1) for cell in cells]


def test_groups_of_columns_have_a_heading_above_theirs() -> None:
    found = read(rendered()).all("table")[0]
    upper, lower = (row.all("th") for row in found.all("thead")[0].all("tr"))
    assert [cell.text() for cell in upper] == ["Network", "T", "κ", "Rank"]
    assert spans(upper, "rowspan") == [2, 2, 1, 1]
    assert spans(upper, "colspan") == [1, 1, 3, 2]
    assert [cell["scope"] for cell in upper] == ["col", "col", "colgroup", "colgroup"]
    assert [cell.text() for cell in lower] == (
        ["paper", "measured", "difference", "paper", "measured"]
    )
    plain = table(columns=[Column("a"), Column("b")], rows=[[TableCell("x"), TableCell("1")]])
    (head,) = read(render(page(sections=[Section("s", "S", tables=[plain])]))).all("thead")
    assert len(head.all("tr")) == 1
    assert spans(head.all("th"), "rowspan") == [1, 1]


def test_rows_have_a_cell_per_column_with_its_kind() -> None:
    found = read(rendered()).all("table")[0]
    for row in found.all("tbody")[0].all("tr"):
        first, *others = row.children
        assert (first.tag, first["scope"]) == ("th", "row")
        assert [cell.tag for cell in others] == ["td"] * 6
        assert "number" not in first.classes()
        assert all("number" in cell.classes() for cell in others)
        assert ["start" in cell.classes() for cell in others] == (
            [False, True, False, False, True, False]
        )
    cells = found.all("tbody")[0].all("tr")[0].all("td")
    assert [(cell.classes() - {"number", "start", "short", "label"}).pop() for cell in cells] == (
        ["plain", "paper", "measured", "difference", "paper", "missing"]
    )
    assert cells[2].all("span")[0].text() == "(66.1–68.0), n = 3"
    assert cells[2].text().split()[0] == "67.3%a"
    assert cells[5].text() == "–a"


def test_on_a_phone_one_column_says_what_a_row_is_about() -> None:
    """The first cell repeats the other labels, and either these or the repetition are shown."""
    columns = [Column("data"), Column("network"), Column("paper", "κ"), Column("remark")]
    rows = [[TableCell("CIFAR-10"), TableCell("MLP", note="b"), TableCell("75%"), TableCell("x")]]
    own = table(columns=columns, rows=rows)
    document = read(render(page(sections=[Section("s", "S", tables=[own])])))
    for row in (document.all("thead")[0].all("tr")[0], document.all("tbody")[0].all("tr")[0]):
        first, second, *others = row.children
        (merged,) = first.all("span")
        assert "label" in first.classes() & second.classes()
        assert merged.classes() == {"merged"}
        assert merged.text() == second.text()
        assert not any("label" in cell.classes() for cell in others)
    wide, narrow = document.all("style")[0].text().split("@media (max-width: 40rem) {")
    assert ".merged { display: none; }" in wide
    narrow = narrow.split("@media")[0]
    assert ".label ~ .label { display: none; }" in narrow
    assert ".merged { display: block;" in narrow


def test_columns_of_labels_are_those_of_words_before_the_first_numbers() -> None:
    def labels(*texts: str) -> int:
        own = table(columns=[Column("c")] * len(texts), rows=[[TableCell(text) for text in texts]])
        return own.labels

    assert labels("a", "b", "1", "c") == 2
    assert labels("1", "a") == 1
    assert labels("a", "b") == 1


def test_columns_of_words_are_not_set_as_numbers() -> None:
    columns = [Column(name) for name in ("words", "numbers", "mixed", "signed", "empty")]
    rows = [
        [TableCell("MLP"), TableCell("1"), TableCell("1"), TableCell("+0.5 pp"), TableCell("")],
        [TableCell("VGG-19"), TableCell("100"), TableCell("none"), TableCell("−3"), TableCell("–")],
    ]
    found = table(columns=columns, rows=rows)
    assert found.numeric == [False, True, False, True, True]
    assert table(columns=columns, rows=[]).numeric == [False] * 5


def test_notes_stand_once_below_their_table_with_marks_at_the_cells() -> None:
    document = read(rendered())
    for number, figure in enumerate([f for f in document.all("figure") if f.all("table")], start=1):
        (notes,) = figure.all("ol")
        assert [note.text().split() for note in notes.all("li")] == [
            ["a", "SVHN"],
            ["b", "of", "99"],
        ]
        marks = [(link["href"], link.text()) for link in figure.all("table")[0].all("a")]
        name = f"#table-1-table-{number}-note-"
        assert marks == [(f"{name}a", "a"), (f"{name}b", "b"), (f"{name}a", "a")]
        assert [note["id"] for note in notes.all("li")] == [f"{name[1:]}a", f"{name[1:]}b"]


def test_many_notes_have_marks_of_two_letters() -> None:
    rows = [[TableCell("1", note=f"note {i}")] for i in range(28)]
    marks = list(table(columns=[Column("a")], rows=rows).notes.values())
    assert marks[24:] == ["y", "z", "aa", "ab"]


def test_looks_are_explained_where_they_differ() -> None:
    assert [kind for kind, _ in table().key] == ["paper", "measured", "difference", "missing"]
    assert table(columns=[Column("a")], rows=[[TableCell("1", "measured")]]).key == []


def test_every_figure_is_an_image_of_its_own_that_can_be_heard() -> None:
    images = read(rendered()).all("img")
    assert [image["alt"] for image in images] == ["Ranks rise", 'A "b"', "As the first"]
    assert [(image["width"], image["height"]) for image in images] == [("384", "288")] * 3
    for image in images:
        kind, code = image["src"].split(";base64,")
        assert kind == "data:image/svg+xml"
        root = ElementTree.fromstring(b64decode(code))
        assert root.get("viewBox") == "0 0 288 216"
        links = [value for e in root.iter() for name, value in e.attrib.items() if "href" in name]
        assert links
        assert all(link.startswith("#") for link in links)
    assert images[0]["src"] == images[2]["src"] != images[1]["src"]


def test_images_do_not_depend_on_what_is_set_for_matplotlib() -> None:
    whole = rendered()
    with rc_context({"svg.fonttype": "none", "savefig.dpi": 7, "savefig.facecolor": "red"}):
        assert render(page()) == whole


def test_shortened_numbers_of_an_image_move_nothing() -> None:
    """Coordinates keep two digits after the point, factors all of theirs."""
    drawn = b'<path d="M 12.345678 -0.129999 L 100.5 3.14159" transform="scale(0.015625)"/>'
    assert LONG_NUMBER.sub(b"", drawn) == (
        b'<path d="M 12.34 -0.12 L 100.5 3.14" transform="scale(0.015625)"/>'
    )


def test_equal_pages_are_equal_texts() -> None:
    first = page()
    assert render(first) == render(page())
    assert render(first) == render(first)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)


@given(TEXTS)
@example("<b title=\"1\">&amp;</b> 'x'")
def test_any_text_is_shown_as_it_is(text: str) -> None:
    short = Table(text, [Column(text, text)], [[TableCell(text, note=text)]])
    sections = [Section("s", text, [text], [short], [], [text], text)]
    whole = Page(text, [text], sections, [(text, text)])
    document = read(render(whole))
    shown = [
        e.text().split() for tag in ("title", "h1", "p", "dt", "dd") for e in document.all(tag)
    ]
    assert shown == [text.split()] * 6
    head, group, cell = (e.text().split() for e in document.all("th"))
    assert head == group == text.split()
    assert "".join(cell) == "".join(text.split()) + "a"
    assert [e.text().split() for e in document.all("figcaption")] == [text.split()]
    items = ["".join(e.text().split()) for e in document.all("li")]
    own = "".join(text.split())
    assert items == [own + own, "Conditions", f"a{own}", own]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "page.html"
    write(page(), path)
    assert path.read_text(encoding="utf-8") == rendered()
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    shown = rendered()

    def broken(*arguments: Any, **options: Any) -> None:
        raise ArithmeticError

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(ArithmeticError):
        write(page(), path)
    assert path.read_text(encoding="utf-8") == shown


def test_rows_that_do_not_fit_their_table_are_named() -> None:
    with pytest.raises(ValueError, match=r"rows\[1\].*'c'.* 2 .* 1 columns"):
        Table("c", [Column("a")], [[TableCell("1")], [TableCell("1"), TableCell("2")]])


def test_sections_need_names_that_links_can_use() -> None:
    for name in ("", "Table 1", "1-table", "conditions", "a_b"):
        with pytest.raises(ValueError, match=f"identifier is {name!r}"):
            Section(name, "Title")
    with pytest.raises(ValueError, match=r"identifier 'a'.* 2 sections"):
        page(sections=[Section("a", "A"), Section("a", "B")])


def test_pictures_need_words_for_those_who_do_not_see_them() -> None:
    with pytest.raises(ValueError, match=r"alt.*'Ranks'.*empty"):
        Picture(drawn(), "Ranks", " ")


def test_wide_tables_are_printed_on_landscape_pages() -> None:
    def printed(columns: int) -> bool:
        own = Table("c", [Column("a")] * columns, [[TableCell("1")] * columns])
        document = read(render(page(sections=[Section("s", "S", tables=[own])])))
        return "wide" in document.all("figure")[0].classes()

    assert [printed(columns) for columns in (12, 13)] == [False, True]
