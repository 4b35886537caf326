"""A page of results as HTML or Markdown: its parts as plain data, numbers as text, figures."""

from real_nets.page.markdown import render_markdown
from real_nets.page.page import Cell, Column, Page, Picture, Section, Table, render, write

__all__ = [
    "Cell",
    "Column",
    "Page",
    "Picture",
    "Section",
    "Table",
    "render",
    "render_markdown",
    "write",
]
