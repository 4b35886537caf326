"""Export of a store: its results without weights and checkpoints, small enough to share."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from rankdeficit.experiments.figure_style import save
from rankdeficit.experiments.folders import whole_or_nothing
from rankdeficit.experiments.runs import read_json, write_atomically, write_json
from rankdeficit.page import Page, render_markdown
from real_nets.paper.store import TARGETS_FOLDER, Results, TargetRecord, job_folder

FIGURES = "figures"
"""Folder of the page's figures in an export."""
KEPT = ("settings.json", "metrics.jsonl", "summary.json", "environment.json")
"""Files of a job in an export, besides its diagnoses."""


def export(store: Path, records: Sequence[TargetRecord], page: Page, target: Path) -> None:
    """Write results, figures and the page as Markdown to a new folder, atomically."""
    with whole_or_nothing(target, "export"):
        copy_results(store, records, target)
        files = export_figures(page, target / FIGURES)
        write_atomically(target / "README.md", render_markdown(page, files).encode())


def check_new(target: Path) -> None:
    """Raise ValueError if the target exists and is not an empty folder."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ValueError(f"export {target} exists and is not an empty folder; name a new one")


def copy_results(store: Path, records: Sequence[TargetRecord], target: Path) -> None:
    """Copy results without weights, and without the path of the data."""
    (target / TARGETS_FOLDER).mkdir(parents=True)
    for record in records:
        name = f"{record.name}.json"
        shutil.copy(store / TARGETS_FOLDER / name, target / TARGETS_FOLDER / name)
    for outcome in Results(store).all_outcomes(records):
        own = job_folder(target, outcome.key)
        own.mkdir(parents=True)
        for name in KEPT:
            if (outcome.path / name).is_file():
                shutil.copy(outcome.path / name, own / name)
        written = read_json(own / "settings.json")
        written["settings"]["root"] = None
        write_json(own / "settings.json", written)
        if (outcome.path / "diagnoses").is_dir():
            (own / "diagnoses").mkdir()
            for file in sorted((outcome.path / "diagnoses").glob("*.json")):
                shutil.copy(file, own / "diagnoses")


def export_figures(page: Page, folder: Path) -> list[list[str]]:
    """Write the figures of a page as SECTION-NUMBER.png; returns their names by section."""
    folder.mkdir()
    for section, files in zip(page.sections, names := figure_files(page), strict=True):
        for picture, file in zip(section.pictures, files, strict=True):
            save(picture.figure, folder.parent / file)
    return names


def figure_files(page: Page) -> list[list[str]]:
    """Names of the figures of each section in an export."""
    return [
        [f"{FIGURES}/{section.identifier}-{i}.png" for i in range(1, len(section.pictures) + 1)]
        for section in page.sections
    ]
