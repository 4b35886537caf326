"""Experiments: the order of a run, what the frame adds, and how they are found."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.table import Table

import simulations
from rankdeficit.experiments import runs
from rankdeficit.experiments.experiment import Experiment, experiment, find_experiments
from rankdeficit.experiments.runs import RunFolder
from rankdeficit.experiments.settings import CommonSettings, Row
from tests.conftest import ROOT, Run, assert_one_line_error


@dataclass(frozen=True)
class Settings(CommonSettings):
    """A tiny experiment."""

    size: int = 3
    """A size."""


class Tiny(Experiment[Settings, int]):
    """Records the order in which its parts are called; each of them can be made to fail."""

    settings = Settings
    program = "tests.tiny"

    def __init__(self, failing: str = "") -> None:
        self.calls: list[Any] = []
        self.failing = failing
        self.folders: list[RunFolder] = []

    def note(self, name: str, *details: Any) -> None:
        self.calls.append((name, *details))
        if name == self.failing:
            raise ValueError(f"{name} failed")

    def prepare(self, settings: Settings) -> int:
        self.note("prepare", settings.size)
        return 10 * settings.size

    def work(self, settings: Settings, prepared: int, folder: RunFolder, resumed: bool) -> Row:
        assert (folder.path / "settings.json").exists()
        assert folder.lock.is_locked
        self.folders.append(folder)
        self.note("work", settings.size, prepared, resumed)
        folder.append_rows([{"row": 1}])
        return {"result": prepared + 1}

    def report(self, summary: Row) -> tuple[Table, Sequence[str]]:
        self.note("report", summary)
        return Table("column"), ["All is said."]

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        self.note("figures", summary)
        assert {row["row"] for row in rows} == {1}
        figure = Figure()
        figure.subplots().plot([1, 2])
        return {"line": figure}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_run_goes_from_settings_to_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = Tiny()
    folder = tiny.run(Settings(size=4, out=tmp_path / "run"))
    assert folder == tmp_path / "run"
    summary = {"result": 41}
    assert tiny.calls == [
        ("prepare", 4), ("work", 4, 40, False), ("report", summary), ("figures", summary)
    ]  # fmt: skip
    assert runs.read_json(folder / "summary.json") == summary
    assert runs.read_json(folder / "environment.json")["device"] == (
        "cuda" if torch.cuda.is_available() else "cpu"
    )
    assert pixels(folder / "line.png").std() > 0
    output = capsys.readouterr().out
    assert "All is said." in output
    assert str(folder) in output


def test_a_resumed_run_has_the_settings_of_its_folder(tmp_path: Path) -> None:
    tiny = Tiny("work")
    with pytest.raises(ValueError, match="work failed"):
        tiny.run(Settings(size=7, out=tmp_path / "run"))
    assert not (tmp_path / "run" / "summary.json").exists()
    tiny = Tiny()
    assert tiny.run(Settings(resume=tmp_path / "run")) == tmp_path / "run"
    assert tiny.calls[:2] == [("prepare", 7), ("work", 7, 70, True)]
    with pytest.raises(ValueError, match="--size"):
        Tiny().run(Settings(size=8, resume=tmp_path / "run"))


def test_prepare_fails_before_a_folder_exists(tmp_path: Path) -> None:
    tiny = Tiny("prepare")
    with pytest.raises(ValueError, match="prepare failed"):
        tiny.run(Settings(out=tmp_path / "runs" / "run"))
    with pytest.raises(ValueError, match="gamma is 2"):
        tiny.run(Settings(gamma=2.0, out=tmp_path / "runs" / "run"))
    assert tiny.calls == [("prepare", 3)]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("part", ["prepare", "work", "report", "figures"])
def test_whatever_fails_leaves_a_folder_that_can_be_resumed(part: str, tmp_path: Path) -> None:
    Tiny().run(Settings(out=tmp_path / "run"))
    before = (tmp_path / "run" / "settings.json").read_bytes()
    tiny = Tiny(part)
    with pytest.raises(ValueError, match=f"{part} failed"):
        tiny.run(Settings(resume=tmp_path / "run"))
    assert not any(folder.lock.is_locked for folder in tiny.folders)
    Tiny().run(Settings(resume=tmp_path / "run"))
    assert (tmp_path / "run" / "settings.json").read_bytes() == before


def test_an_incomplete_class_is_no_experiment() -> None:
    class Half(Experiment[Settings, int]):
        """Half of one."""

        settings = Settings

    with pytest.raises(TypeError, match="Half needs figures, prepare, report, work"):
        experiment(Half)


def test_all_simulations_are_found() -> None:
    found = find_experiments(simulations)
    folder = ROOT / "simulations"
    files = {path.stem for path in folder.glob("[a-z]*.py")}
    folders = {path.parent.name for path in folder.glob("*/__main__.py")}
    assert {name.removeprefix("simulations.") for name in found} == files | folders
    assert all(name == kind.program for name, kind in found.items())


WALK = '''
"""Random walks, an experiment in a file of its own."""

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from rich.table import Table

from rankdeficit.experiments.experiment import StepByStep, experiment
from rankdeficit.experiments.settings import TrainingSettings


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """Follow random walks."""

    steps: int = 12
    measure_every: int = 4
    checkpoint_every: int = 5
    stop_after: int = 100
    """The step that fails, for a test."""


class Walks:
    def __init__(self, settings):
        self.runs, self.settings = list(settings.seed_range), settings
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.places = torch.zeros(len(self.runs))

    def step(self):
        self.places += torch.randn(len(self.runs), generator=self.generator)

    def measure(self, step):
        if step >= self.settings.stop_after:
            raise OSError(28, "No space left on device", "metrics.jsonl")
        return [{"step": step, "run": r, "place": p} for r, p in zip(self.runs, self.places.tolist())]

    def state(self):
        return {"places": self.places, "generator": self.generator.get_state()}

    def restore(self, state):
        self.places.copy_(state["places"])
        self.generator.set_state(state["generator"])


@experiment
class Walk(StepByStep[Settings, Walks]):
    """Where does a random walk end?"""

    settings = Settings

    def prepare(self, settings):
        return [Walks(settings)]

    def summarise(self, settings, batches, path):
        return {"ends": [row["place"] for row in batches[0].measure(0)]}

    def report(self, summary):
        table = Table("run", "end")
        for run, end in enumerate(summary["ends"]):
            table.add_row(str(run), f"{end:.3f}")
        return table, ["The walks have ended."]

    def figures(self, rows, summary):
        figure = Figure()
        figure.subplots().plot([row["place"] for row in rows])
        return {"places": figure}


if __name__ == "__main__":
    Walk().main()
'''


def test_a_file_of_its_own_is_an_experiment(tmp_path: Path, command: Run) -> None:
    """--help, run folder, table, figure and resume come from the frame, outside this package too.

    Neither the user's style nor his backend changes a pixel.
    """
    file = tmp_path / "walk.py"
    file.write_text(WALK)
    shown = command(file, "--help").stdout
    assert "Follow random walks." in shown
    assert "--seeds INT" in shown
    assert_one_line_error(command(file, "--steps", "0", "--out", tmp_path / "none"), "steps is 0")
    assert not (tmp_path / "none").exists()
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    style = "axes.facecolor: red\nlines.linewidth: 9\ntext.usetex: True\n"
    (tmp_path / "matplotlibrc").write_text(style)
    own = {"MPLBACKEND": "TkAgg", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    result = subprocess.run(
        [sys.executable, str(file), "--out", str(whole), "--stop-after", "99"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **own},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "The walks have ended." in result.stdout
    assert (whole / "places.png").exists()
    assert_one_line_error(
        command(file, "--out", stopped, "--stop-after", 8), "No space left", "metrics.jsonl"
    )
    settings = stopped / "settings.json"
    settings.write_text(settings.read_text().replace('"stop_after": 8', '"stop_after": 99'))
    result = command(file, "--resume", stopped)
    assert result.returncode == 0, result.stderr
    for name in ("settings.json", "summary.json", "metrics.jsonl", "checkpoint.pt"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert np.array_equal(pixels(whole / "places.png"), pixels(stopped / "places.png"))


def test_an_experiment_in_a_package_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "excursions"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "walk.py").write_text(WALK)
    (package / "helpers.py").write_text("from excursions.walk import Walk\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_experiments(__import__("excursions"))
    assert [*found] == ["excursions.walk"]
    assert (found["excursions.walk"].__doc__ or "").startswith("Where does")


def test_the_list_of_simulations_has_a_line_each(command: Run) -> None:
    result = command("simulations")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [*find_experiments(simulations)]
    assert all(line.endswith("?") for line in lines)
