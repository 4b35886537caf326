"""One self-contained HTML page of results: its parts as plain data, numbers as text, figures."""

from real_nets.page.page import Cell, Column, Page, Picture, Section, Table, render, write

__all__ = ["Cell", "Column", "Page", "Picture", "Section", "Table", "render", "write"]
