"""The page as Markdown, as a reader of Markdown understands it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from matplotlib.figure import Figure

from rankdeficit.page import Column, Page, Picture, Section, Table, TableCell, render_markdown

READER = MarkdownIt("commonmark").enable("table").enable("strikethrough")

TABLE = Table(
    "Ranks | of *logits*",
    [Column("network"), Column("0.1", "rank at γ ="), Column("κ", "paper")],
    [
        [
            TableCell("mlp_8"),
            TableCell("10 (9–10), n = 3", "measured", "on <test> images"),
            TableCell("67%", "paper"),
        ],
        [TableCell("vgg|19"), TableCell("", "missing"), TableCell("", "missing", "on <test> images")],
    ],
)  # fmt: skip
SECTION = Section(
    "ranks", "Ranks_1", ["# no heading", "1. no list"], [TABLE],
    [Picture(Figure(), "What is *seen*.", "A [curve].")], ["Left out: a & b."], "All *fall*.",
)  # fmt: skip
PAGE = Page("A page", ["About."], [SECTION], [("seed", "0, 1")])


def tokens(text: str) -> list[Token]:
    """All of it, flat."""
    return [part for token in READER.parse(text) for part in (token, *(token.children or []))]


def texts(text: str) -> list[str]:
    """What is read of each block."""
    return [
        "".join(
            part.content for child in token.children or [] for part in (child.children or [child])
        )
        for token in READER.parse(text)
        if token.type == "inline"
    ]


def kinds(text: str) -> list[str]:
    return [token.type for token in READER.parse(text) if token.nesting >= 0]


def test_all_parts_are_there_in_their_order() -> None:
    assert texts(render_markdown(PAGE, [["figures/ranks-1.png"]])) == [
        "A page", "Ranks_1: All *fall*.", "About.", "Ranks_1",
        "# no heading", "1. no list", "Ranks | of *logits*",
        "network", "rank at γ = 0.1", "paper: κ",
        "mlp_8", "10 (9–10), n = 3<sup>a</sup>", "67%", "vgg|19", "–", "–<sup>a</sup>",
        "a: on <test> images", "A [curve].", "What is *seen*.", "Left out: a & b.",
        "Conditions", "what", "value", "seed", "0, 1",
    ]  # fmt: skip


def test_headings_and_pictures_are_such() -> None:
    found = tokens(render_markdown(PAGE, [["figures/ranks-1.png"]]))
    assert [token.tag for token in found if token.type == "heading_open"] == ["h1", "h2", "h2"]
    (picture,) = (token for token in found if token.type == "image")
    assert picture.attrs["src"] == "figures/ranks-1.png"
    assert sum(token.type == "table_open" for token in found) == 2


@given(st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1))
@example("- a")
@example("1) b")
@example("12. c")
@example("+ d")
@example("===")
@example("&amp; ~~x~~ `y` <z> \\")
@example("***")
@example("https://a.b <http://c.d>")
@example("![e](f)")
@example("~~~")
def test_texts_mean_what_they_say(text: str) -> None:
    shown = " ".join(text.split())
    page = Page("Title", [text] if shown else [], [], [])
    markdown = render_markdown(page, [])
    assert texts(markdown) == ["Title", *([shown] if shown else [])]
    assert kinds(markdown) == [
        "heading_open",
        "inline",
        *["paragraph_open", "inline"] * bool(shown),
    ]
    assert all(
        part.type in ("text", "text_special")
        for token in READER.parse(markdown)
        for part in token.children or []
    )


def test_every_picture_needs_a_file() -> None:
    with pytest.raises(ValueError, match=r"figures.* 0 .*'ranks'"):
        render_markdown(PAGE, [[]])
