"""Pages and exports are written whole or not at all; damaged stores are named."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rankdeficit.experiments import cli
from real_nets import report
from real_nets.paper import export as exporting
from real_nets.paper.store import Results
from real_nets.report import Settings, run
from tests.real_nets.report.pages import (
    job_files,
    page_of,
)


def test_an_export_gives_the_same_page_without_weights(store: Path, tmp_path: Path) -> None:
    for folder in store.glob("jobs/*"):
        for name in ("weights.safetensors", "checkpoint.pt", "accuracy-0.5.safetensors"):
            (folder / name).write_bytes(b"large")
    assert run(Settings(store, export=tmp_path / "export")) == store / "report.html"
    again = run(Settings(tmp_path / "export", out=tmp_path / "new" / "page.html"))
    assert again.read_bytes() == (store / "report.html").read_bytes()
    exported = {path.suffix for path in (tmp_path / "export").rglob("*") if path.is_file()}
    assert exported == {".json", ".jsonl", ".png", ".md"}
    names = {path.name for path in (tmp_path / "export" / "figures").iterdir()}
    assert names == {"fig7-1.png"}
    shown = (tmp_path / "export" / "README.md").read_text()
    assert re.findall(r"\]\((.*)\)", shown) == ["figures/fig7-1.png"]
    for path in (tmp_path / "export").glob("jobs/*/settings.json"):
        assert json.loads(path.read_text())["settings"]["root"] is None
    results = Results(tmp_path / "export")
    for folder in store.glob("jobs/*"):
        assert results.outcome(folder.name) is not None


def test_an_export_needs_a_new_folder_and_writes_nothing_otherwise(
    store: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("mine")
    for target in (taken, taken / "mine"):
        with pytest.raises(ValueError, match=r"taken.* empty.* new"):
            run(Settings(store, export=target))
    assert [path.name for path in taken.iterdir()] == ["mine"]
    assert not (store / "report.html").exists()


def test_an_export_that_fails_leaves_nothing_and_can_be_made_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_source: Path, target: Path) -> None:
        target.mkdir(exist_ok=True)
        raise OSError(28, "No space left on device", str(target))

    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "new", tmp_path / "empty"):
        for owner, name in ((exporting.shutil, "copy"), (exporting, "export_figures")):
            with monkeypatch.context() as changed:
                changed.setattr(owner, name, full_disk)
                with pytest.raises(ValueError, match=r"No space left.* room"):
                    run(Settings(store, export=target))
            assert not target.exists() or not list(target.iterdir())
        assert target.exists() == (target.name == "empty")
        run(Settings(store, export=target))
        assert (target / "README.md").is_file()


def test_an_interrupted_export_leaves_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "export_figures", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(Settings(store, export=tmp_path / "export"))
    assert not (tmp_path / "export").exists()


def test_a_page_that_has_no_place_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"folder.* file .*folder/report\.html"):
        run(Settings(store, out=tmp_path / "folder"))
    for below in ("file/page.html", "file/deep/page.html"):
        with pytest.raises(ValueError, match=r"page\.html.* written.* .*/file "):
            run(Settings(store, out=tmp_path / below))
    assert {path.name for path in tmp_path.iterdir()} == {"store", "folder", "file"}
    assert not list((tmp_path / "folder").iterdir())


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"no results.* --out"):
            run(Settings(folder))
    assert not list(tmp_path.iterdir())


def write(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("targets/fig7.json", write("{"), ["fig7.json", "damaged"]),
        ("targets/fig7.json", write("[]"), ["fig7.json", "damaged", "again"]),
        ("targets/fig7.json", write('{"cells": [{}]}'), ["fig7.json", "damaged"]),
        ("jobs/*/summary.json", write("{"), ["summary.json", "damaged"]),
        ("jobs/*/summary.json", write("[]"), ["summary.json", "damaged"]),
        ("jobs/*/settings.json", write("{}"), ["settings.json", "damaged"]),
        ("jobs/*/settings.json", Path.unlink, ["settings.json", "No such file"]),
        ("jobs/*/metrics.jsonl", write("{}\nnonsense\n"), ["metrics.jsonl", "line 2", "damaged"]),
        ("jobs/*/metrics.jsonl", Path.unlink, ["metrics.jsonl", "No such file"]),
        ("jobs/*/diagnoses/final.json", write("nonsense"), ["final.json", "report"]),
        ("jobs/*/metrics.jsonl", write(""), ["metrics.jsonl", "damaged", "delete"]),
        ("jobs/*/environment.json", write(""), ["environment.json", "damaged", "delete"]),
        ("jobs/*/environment.json", write("[]"), ["environment.json", "damaged", "delete"]),
    ],
)
def test_a_damaged_or_missing_file_is_one_line_that_names_it(
    name: str,
    spoil: Callable[[Path], object],
    words: list[str],
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in store.glob(name):
        spoil(path)
    monkeypatch.setattr(sys, "argv", ["report", str(store)])
    with pytest.raises(SystemExit) as stop:
        cli.main(Settings, run, report.PROGRAM)
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert all(word in line for word in words), line
    assert not (store / "report.html").exists()


def test_a_network_whose_summary_is_missing_is_not_trained_yet(store: Path) -> None:
    for path in job_files(store, "summary.json")[:1]:
        path.unlink()
    assert re.search("Not trained.* ResNet-34 on CIFAR-100: 1 of 3", page_of(store))


@pytest.mark.usefixtures("drawn")
def test_the_command_writes_the_page_and_says_where(
    store: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    page = tmp_path / "page.html"
    result = command("real_nets.report", store, "--out", page)
    assert result.returncode == 0, result.stderr
    assert str(page) in result.stdout
    assert page.read_text() == page_of(store)
