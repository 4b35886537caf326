"""Runs read from their folders, and the tables of their summaries."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import rankdeficit as rd
from rankdeficit.checks import as_path
from rankdeficit.experiments.records import csv_text, units
from simulations import ufm
from tests.rankdeficit.experiments.test_experiment import Settings, Tiny

SMALL = ufm.Settings(
    temperature=(1.0, 30.0), seeds=2, classes=4, samples_per_class=2, width=4, depth=(2,), steps=8,
    device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def small() -> rd.Run:
    return ufm.Ufm().results(SMALL)


def test_results_of_settings_are_those_of_a_folder(
    small: rd.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ufm.Ufm().run(replace(SMALL, out=tmp_path / "run"))
    printed, run = capsys.readouterr().out, rd.load_run(str(folder))
    assert (run.settings, run.rows, run.summary) == (small.settings, small.rows, small.summary)
    assert not small.path.exists()
    assert run.program == "simulations.ufm"
    assert run.settings["temperature"] == [1.0, 30.0]
    assert {row["step"] for row in run.rows} == {0, 1, 2, 4, 8}
    assert printed.startswith(run.report())
    with (folder / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(run.runs) == 4
    for line, own in zip(lines, run.runs, strict=True):
        assert float(line["loss"]) == own["loss"]
        assert int(line["rank_curve.0.01"]) == own["rank_curve"]["0.01"]
        assert line["outcome"] == own["outcome"]
        assert "singular_values" not in line


def test_the_example_of_the_readme_runs(small: rd.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rd, "load_run", {"runs/small": small}.__getitem__)
    monkeypatch.setattr(ufm.Ufm, "results", lambda self, settings: small)
    text = (Path(rd.__file__).parent / "experiments" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["ranks"] == {
        (own["temperature"], own["seed"]): own["centred_rank"] for own in small.runs
    }


def test_results_take_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="load_run"):
        Tiny().results(Settings(out=tmp_path / "run"))
    assert not list(tmp_path.iterdir())


def test_records_are_runs_cells_or_the_summary_itself() -> None:
    assert units({"cells": [{"a": 1}], "curves": [{"b": 2}]}) == [{"a": 1}]
    assert units({"loss": 2.0, "ranks": [3]}) == [{"loss": 2.0, "ranks": [3]}]
    assert units({"runs": [{"a": 1}], "folders": ["T1"]}) == [{"folder": "T1", "a": 1}]


def test_tables_have_a_column_for_whatever_a_record_has() -> None:
    found = csv_text([{"a": 1, "curve": {"0.1": 2}}, {"b": 'say "x", y', "a": None, "list": [1]}])
    assert list(csv.reader(found.splitlines())) == [
        ["a", "curve.0.1", "b"], ["1", "2", ""], ["", "", 'say "x", y'],
    ]  # fmt: skip
    assert csv_text([{"ends": [1, 2]}]) == ""


def test_networks_with_folders_of_their_own_have_rows_that_name_them(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"program": "real_nets.train", "settings": {}}')
    for name in ("T1", "T20"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps({"epoch": len(name)}) + "\n")
    run = rd.load_run(tmp_path)
    assert run.rows == [{"folder": "T1", "epoch": 2}, {"folder": "T20", "epoch": 3}]
    assert (run.summary, run.runs) == (None, [])
    with pytest.raises(ValueError, match="resume"):
        run.report()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no settings.json"), ("[]", "settings.json"), ("{", "damaged")],
)
def test_folders_that_hold_no_run_are_named(
    content: str | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=message) as found:
        rd.load_run(tmp_path)
    assert str(tmp_path) in str(found.value)


def test_what_is_no_path_of_a_folder_is_refused() -> None:
    for folder in ("run\0", "a" * 5000):
        with pytest.raises(ValueError, match="folder"):
            rd.load_run(folder)
    for value in (None, 3, b"run", []):
        with pytest.raises(ValueError, match="folder"):
            as_path("folder", value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("settings.json", b'{"program": 1, "settings": {}}'),
        ("settings.json", b'{"program": "simulations.ufm", "settings": 2}'),
        ("metrics.jsonl", b"\xff\xfe\n"),
        ("metrics.jsonl", b'{"step": 1}\n[1]\n'),
        *(
            ("summary.json", content)
            for content in (b"[1]", b'{"runs": 3}', b'{"runs": [1]}', b'{"folders": 3}')
        ),
        ("summary.json", b'{"runs": [{"a": 1}], "folders": ["T1", "T2"]}'),
        ("summary.json", b'{"runs": [{"a": 1}]}'),
    ],
)
def test_damaged_files_of_a_run_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    settings = {"program": "simulations.ufm", "settings": {}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        rd.load_run(tmp_path).report()


@pytest.mark.parametrize("program", ["real_nets.job", "none.such", "json"])
def test_programs_without_a_report_are_named(program: str, tmp_path: Path) -> None:
    settings = {"program": program, "settings": {}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match=program):
        rd.load_run(tmp_path).report()
