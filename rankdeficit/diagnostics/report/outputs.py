"""Files that reports and comparisons are written to."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from matplotlib.figure import Figure

from rankdeficit.checks import as_path, check_output_file, check_output_folder, path_errors
from rankdeficit.experiments.figure_style import save
from rankdeficit.experiments.runs import write_atomically


@runtime_checkable
class Writable(Protocol):
    """A report or a comparison."""

    def to_csv(self, path: Path | str) -> Path:
        """Write a table of all numbers."""

    def to_html(self, path: Path | str) -> Path:
        """Write a page."""

    def plot(self, folder: Path | str) -> list[Path]:
        """Write all figures."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Options of the commands that show a report or a comparison."""

    html: Path | None = None
    """File of a page to write."""
    csv: Path | None = None
    """File of a table of all numbers to write."""
    figures: Path | None = None
    """Folder for the figures."""

    def check(self) -> None:
        """Raise ValueError for a path that cannot be written, before any work."""
        for name, path in (("html", self.html), ("csv", self.csv)):
            if path is not None:
                check_output_file(name, path)
        if self.figures is not None:
            check_output_folder("figures", self.figures)

    def show(self, shown: Writable) -> None:
        """Print the report, then write the requested files."""
        print(shown, flush=True)
        if self.csv is not None:
            shown.to_csv(self.csv)
        if self.html is not None:
            shown.to_html(self.html)
        if self.figures is not None:
            shown.plot(self.figures)


def write_text(path: Path | str, text: Callable[[], str]) -> Path:
    """Write a file atomically, with its folder if missing.

    Raises ValueError for a path that cannot be a file, before the text is made.
    """
    path = as_path("path", path)
    check_output_file("path", path)
    content = text().encode(errors="replace")  # names of files may be no UTF-8
    with path_errors("path", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return path


def write_figures(folder: Path | str, figures: Iterable[tuple[str, Figure]]) -> list[Path]:
    """Save named figures as PNG files in a folder, made if missing; returns their paths.

    Raises ValueError for a path that cannot be a folder, before any figure is drawn.
    """
    folder = as_path("folder", folder)
    check_output_folder("folder", folder)
    paths = []
    with path_errors("folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures:
            paths.append(folder / f"{name}.png")
            save(figure, paths[-1])
    return paths
