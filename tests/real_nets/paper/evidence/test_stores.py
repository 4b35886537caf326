"""The results in the repository: complete, drawn from their files, and small."""

import re
from pathlib import Path

import pytest

from rankdeficit.page import render_markdown
from real_nets.paper.export import figure_files
from real_nets.paper.store import read_targets
from real_nets.paper.targets import TARGETS
from real_nets.report import build_page
from tests.real_nets.paper.evidence.telling import STORE, STORES


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)
def test_the_page_is_drawn_from_them(store: Path) -> None:
    page = build_page(store, read_targets(store, list(TARGETS)))
    files = figure_files(page)
    assert (store / "README.md").read_text() == render_markdown(page, files)
    named = {store / file for section in files for file in section}
    assert named == set((store / "figures").iterdir())


def test_they_tell_no_place_of_the_machine_they_come_from() -> None:
    files: list[Path] = [path for path in STORE.rglob("*.json*") if path.is_file()]
    assert len(files) > 30
    for path in files:
        assert not re.search(r'"/(home|root|mnt|tmp|usr|var|work)/', path.read_text()), path


@pytest.mark.parametrize("path", sorted(STORE.rglob("*.png")), ids=lambda path: path.name)
def test_figures_are_small(path: Path) -> None:
    assert path.stat().st_size < 200_000
