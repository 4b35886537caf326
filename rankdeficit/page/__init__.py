"""A page of results as HTML, as Markdown or on the terminal: its parts, numbers as text, figures."""

from rankdeficit.page.page import Column, Page, Picture, Section, Table, TableCell
from rankdeficit.page.render import render, render_markdown, write

__all__ = [
    "Column",
    "Page",
    "Picture",
    "Section",
    "Table",
    "TableCell",
    "render",
    "render_markdown",
    "write",
]
