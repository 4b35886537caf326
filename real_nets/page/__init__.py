"""A page of results as HTML or Markdown: its parts as plain data, numbers as text, figures."""

from real_nets.page.markdown import render_markdown
from real_nets.page.page import Column, Page, Picture, Section, Table, TableCell, render, write

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
