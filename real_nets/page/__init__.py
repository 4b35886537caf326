"""A page of results as HTML, as Markdown or on the terminal: its parts, numbers as text, figures."""

from real_nets.page.page import Column, Page, Picture, Section, Table, TableCell
from real_nets.page.render import render, render_markdown, write

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
