"""`python -m real_nets.dial`: pilots are the beginnings of trainings, and the answer comes from them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdeficit.control.dial import Target, stored_predictor
from rankdeficit.control.dial.networks import pilot_of, read_run
from rankdeficit.experiments.runs import read_json, read_rows
from real_nets import dial
from real_nets.dial import Settings
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.run import train_job
from real_nets.training.loop import DivergedError, Training
from tests.real_nets.tiny import contents, data_of, write_root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("root"))


def small(root: Path, out: Path | None, **options: Any) -> Settings:
    """Pilots of 4 of 40 steps, which measure at 0, 1 and 4."""
    usual = {
        "data": str(root / "own"), "out": out, "width": 8, "depth": 3, "epochs": 5, "batch_size": 16,
        "lr": 0.1, "followed_images": 60, "device": "cpu", "temperature": (1.0, 20.0), "target_rank": 2,
    }  # fmt: skip
    return Settings(**usual | options)


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all trainings and depths."""
    out = tmp_path_factory.mktemp("dial") / "run"
    options: dict[str, Any] = {"target_rank": None, "target_depth": 0.7}
    return dial.run(small(root, out, **options, train_all=True))


def test_a_training_after_its_pilot_is_the_training_without_one(
    whole: Path, root: Path, tmp_path: Path
) -> None:
    own = JobFolder(whole / "T20-seed0")
    plain = tmp_path / "T20-seed0"
    train_job(own.job, data_of(own.job, root), plain)
    found = contents(own.path)
    assert {name for name in found if name not in contents(plain)} == {"pilot.json", "end.json"}
    for name, content in contents(plain).items():
        assert found[name] == content, name


def test_a_pilot_tells_what_the_rows_and_the_network_show(whole: Path, root: Path) -> None:
    folder = JobFolder(whole / "T20-seed0")
    pilot = pilot_of(read_json(folder.path / "pilot.json")["pilot"])
    assert [point.step for point in pilot.points] == [0, 1, 4]
    for point, row in zip(pilot.points, folder.rows, strict=False):
        assert (point.step, point.loss, point.accuracy) == (
            row["step"],
            row["loss"],
            row["accuracy"],
        )
        assert list(point.ranks) == list(row["centred_rank_curve"].values())
        assert point.norm == row["effective_logits_norm"]
    assert (pilot.temperature, pilot.classes, pilot.width, pilot.layers) == (20, 4, 8, 3)
    assert pilot.depth in (1 / 3, 2 / 3, 1)


def test_answer_and_ends_are_told(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = read_json(whole / "summary.json")
    assert [own["temperature"] for own in summary["trained"]] == [1, 20]
    for own in summary["trained"]:
        end = read_json(whole / own["folder"] / "end.json")
        last = read_rows(whole / own["folder"])[-1]
        assert own["value"] == end["depth"] in (1 / 3, 2 / 3, 1)
        assert end["ranks"] == list(last["centred_rank_curve"].values())
    assert {one.pilot.temperature for one in read_run(whole)} == {1, 20}
    predictor = stored_predictor(Target("depth"))
    for own in summary["answer"]["tries"]:
        assert own["predicted"] == list(predictor(pilot_of(own["pilot"])))


def test_a_chosen_pilot_is_resumed_and_test_images_change_nothing(
    root: Path, tmp_path: Path
) -> None:
    """Other test images: the same pilots and answer."""
    other = tmp_path / "root"
    shutil.copytree(root / "own", other / "own")
    for file in sorted((other / "own" / "test").rglob("*.png"))[::2]:
        file.unlink()
    found = []
    for number, source in enumerate((root, other)):
        out = dial.run(small(source, tmp_path / f"run{number}", train=number == 0))
        found.append((read_json(out / "summary.json")["answer"], out))
    assert found[0][0] == found[1][0]
    temperature = found[0][0]["temperature"]
    folders = sorted(path.name for path in found[0][1].iterdir() if path.is_dir())
    assert f"T{temperature:g}-seed0" in folders
    assert len(folders) == 2 + (temperature not in (1, 20))


def test_stopped_pilots_go_on_where_they_were(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(root, tmp_path / "run")
    steps: list[float] = []
    take = Training._take_step

    def counted(self: Training, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        if len(steps) == 6:
            steps.append(0)
            raise KeyboardInterrupt
        steps.append(self.temperature)
        take(self, inputs, labels)

    monkeypatch.setattr(Training, "_take_step", counted)
    with pytest.raises(KeyboardInterrupt):
        dial.run(settings)
    dial.run(Settings(resume=settings.out))
    assert steps[:6] == [1.0] * 4 + [20.0] * 2
    assert set(steps[7:]) == {20.0}
    tries = read_json(tmp_path / "run" / "summary.json")["answer"]["tries"]
    assert [own["temperature"] for own in tries] == [1, 20]


def test_several_processes_are_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.distributed.is_torchelastic_launched", lambda: True)
    with pytest.raises(ValueError, match="torchrun"):
        dial.run(small(root, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_diverged_pilots_are_left_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Training.run_until

    def diverging(self: Training, step: int, advance: Any) -> None:
        if self.temperature == 20 and step > 1:
            raise DivergedError("T = 20: the loss is not finite")
        run(self, step, advance)

    monkeypatch.setattr(Training, "run_until", diverging)
    out = dial.run(small(root, tmp_path / "run"))
    summary = read_json(out / "summary.json")
    assert summary["answer"]["temperature"] == 1
    assert any("T = 20 diverged" in line for line in summary["lines"])
    assert json.loads((out / "T20-seed0" / "pilot.json").read_text())["pilot"] is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"target_rank": None}, "one of"), ({"target_depth": 0.5}, "one of"),
        ({"target_rank": 4}, "3 at most"), ({"target_rank": 0}, "target_rank"),
        ({"target_rank": None, "target_depth": 1.5}, "target_depth"),
        ({"temperature": (0.0,)}, "temperature"), ({"temperature": (2.0, 2.0)}, "once"),
        ({"temperature": ()}, "temperatures"), ({"pilot_share": 0.5}, "pilot_share"),
        ({"stop_accuracy": 0.9}, "stop_accuracy"), ({"epochs": 0}, "epochs"),
        ({"temperature_schedule": "hot"}, "temperature_schedule"), ({"gamma": 0.5}, "gamma"),
        ({"data": None}, "--data"), ({"seed": -1}, "seed"), ({"width": 2, "target_rank": 3}, "2 at most"),
    ],
)  # fmt: skip
def test_impossible_wishes_are_refused_before_anything_is_written(
    options: dict[str, Any], word: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=word):
        dial.run(small(root, tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()
