"""The results in the repository: complete, drawn from their files, and as the README tells them."""

from collections.abc import Iterable
from pathlib import Path
from statistics import median

import pytest

from real_nets.cells import BASELINE, LOW_NORM, Cell
from real_nets.outcomes import Outcome, Results
from real_nets.page import render_markdown
from real_nets.report import build_page, figure_files
from real_nets.store import read_targets
from real_nets.targets import TARGETS
from tests.conftest import ROOT

STORE = ROOT / "real_nets" / "results"
README = (ROOT / "README.md").read_text()
OOD = "tiny-imagenet-100"


def networks(condition: str) -> list[Outcome]:
    (table1,) = (record for record in read_targets(STORE, list(TARGETS)) if record.name == "table1")
    cells: list[Cell] = [
        cell for cell in table1.cells if (cell.name, cell.condition) == ("CIFAR-10/MLP", condition)
    ]
    return Results(STORE).outcomes(cells[0])


def readme_row(start: str) -> list[str]:
    (line,) = (line for line in README.splitlines() if line.startswith(f"| {start}"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    return [cells[2], cells[4]]


def spelled(values: Iterable[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    return f"{median(known):.2f} ({known[0]:.2f}-{known[-1]:.2f})"


def test_three_seeds_of_both_conditions_interpolate() -> None:
    for condition in (BASELINE, LOW_NORM):
        found = networks(condition)
        assert [one.job["seed"] for one in found] == [0, 1, 2]
        assert all(one.summary["outcome"] == "interpolated" for one in found)


def test_the_readme_says_what_the_results_hold() -> None:
    cold, hot = networks(BASELINE), networks(LOW_NORM)
    depths, drops = readme_row("effective depth kappa"), readme_row("OOD drop rho")
    alignments, deviations = readme_row("alignment, mean"), readme_row("OrthoDev")
    for column, found in enumerate((cold, hot)):
        depth = median(one.effective_depth or 0 for one in found)
        assert depths[column].startswith(f"{100 * depth} %")
        drop = median(one.ood_drop(OOD) or 0 for one in found)
        assert drops[column].startswith(f"{100 * drop:.0f} %")
        assert alignments[column] == spelled(one.measure("alignment") for one in found)
        assert deviations[column] == spelled(one.measure(f"ortho_dev.{OOD}") for one in found)


def test_the_page_is_drawn_from_them() -> None:
    page = build_page(STORE, read_targets(STORE, list(TARGETS)))
    files = figure_files(page)
    assert (STORE / "README.md").read_text() == render_markdown(page, files)
    named = {STORE / file for section in files for file in section}
    assert named == set((STORE / "figures").iterdir())


def test_they_tell_no_place_of_the_machine_they_come_from() -> None:
    files: list[Path] = [path for path in STORE.rglob("*.json*") if path.is_file()]
    assert len(files) > 30
    for path in files:
        assert '"/' not in path.read_text(), path


@pytest.mark.parametrize("path", sorted(STORE.rglob("*.png")), ids=lambda path: path.name)
def test_figures_are_small(path: Path) -> None:
    assert path.stat().st_size < 200_000
