"""A page as one HTML file that needs nothing else, and as Markdown, which code hosts show."""

import io
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib import rc_context
from matplotlib.figure import Figure

from rankdeficit.experiments.figure_style import any_text
from rankdeficit.experiments.runs import write_atomically
from rankdeficit.page.page import Column, Page

PIXELS_PER_INCH = 96
"""Number of CSS pixels per inch."""
LONG_NUMBER = re.compile(rb'(?<=[ "\-]\d\.\d\d)\d+|(?<=[ "\-]\d\d\.\d\d)\d+|(?<=\d\d\d\.\d\d)\d+')
"""Hundredths of a point are enough; factors, which follow a bracket, keep their digits."""
SPECIAL = re.compile(r"([\\`*_\[\]<>|&~$])")
"""Characters that Markdown interprets anywhere in a line."""
FIRST = re.compile(r"^([#+=-]|\d+(?=[.)]))")
"""What Markdown interprets at the beginning of a line."""


class Image(NamedTuple):
    """A figure as an HTML image."""

    source: str
    """A data URI."""
    width: int
    """In CSS pixels, as the height."""
    height: int

    @classmethod
    def of(cls, figure: Figure) -> "Image":
        """Render as SVG, text as outlines so that no font is needed; equal figures give equal images."""
        drawn = io.BytesIO()
        with any_text(figure), rc_context({"svg.fonttype": "path", "svg.hashsalt": "page"}):
            figure.savefig(drawn, format="svg", metadata={"Date": None})
        code = b64encode(LONG_NUMBER.sub(b"", drawn.getvalue())).decode()
        width, height = (round(inches * PIXELS_PER_INCH) for inches in figure.get_size_inches())
        return cls(f"data:image/svg+xml;base64,{code}", width, height)


def render(page: Page) -> str:
    """The page as HTML; equal pages give equal texts. Loads nothing, runs nothing."""
    return _environment().get_template("template.html").render(page=page, image=Image.of)


def render_markdown(page: Page, figures: Sequence[Sequence[str]]) -> str:
    """The page, its pictures by the names of their files: a list per section.

    Raises ValueError where figures has no name for each picture.
    """
    for section, files in zip(page.sections, figures, strict=True):
        if len(section.pictures) != len(files):
            raise ValueError(
                f"figures has {len(files)} names for section {section.identifier!r}; it must have one "
                f"for each of {len(section.pictures)} pictures"
            )
    template = _environment().get_template("template.md")
    blocks = template.render(page=page, figures=figures).split("\n\n")
    return "\n\n".join(block.strip("\n") for block in blocks if block.strip()) + "\n"


def write(page: Page, path: Path) -> None:
    """Write the page, replacing the file as a whole; its folder is made where there is none."""
    text = render(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode(errors="replace"))  # names of files may be no UTF-8


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rankdeficit.page", ""),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": _plain, "inline": _inline, "heading": _heading}
    return environment


def _inline(text: str) -> str:
    """Text escaped for use within a line of Markdown; non-breaking spaces stay."""
    return SPECIAL.sub(r"\\\1", re.sub(r"\s+", " ", text, flags=re.ASCII).strip())


def _plain(text: str) -> str:
    """Text escaped for use as a paragraph of Markdown."""
    return FIRST.sub(
        lambda found: f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}", _inline(text)
    )


def _heading(column: Column) -> str:
    """Both headings of a column as one, for tables with a single row of headings."""
    if not column.group:
        return column.title
    return f"{column.group}{' ' if column.group.endswith('=') else ': '}{column.title}"
