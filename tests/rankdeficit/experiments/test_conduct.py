"""What all experiments share: the order of a run, and loops that resume bit-identically."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from rankdeficit.experiments import runs
from rankdeficit.experiments.conduct import (
    Batch,
    CommonSettings,
    Row,
    check_values,
    conduct,
    measured_steps,
    train_together,
    work_through,
)
from rankdeficit.experiments.runs import RunFolder

PROGRAM = "tests.tiny"
CPU = torch.device("cpu")


class StoppedError(Exception):
    """The process ended here."""


@dataclass(frozen=True)
class Settings(CommonSettings):
    """A tiny experiment."""

    size: int = 3


class Tiny:
    """Records the order in which its parts are called; each of them can be made to fail."""

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
        return {"result": prepared + 1}

    def draw(self, path: Path) -> None:
        self.note("draw", runs.read_json(path / "summary.json"))

    def report(self, summary: Row) -> tuple[Table, Sequence[str]]:
        self.note("report", summary)
        return Table("column"), ["All is said."]

    def conduct(self, settings: Settings) -> Path:
        return conduct(settings, PROGRAM, self.prepare, self.work, self.draw, self.report)


def test_a_run_goes_from_settings_to_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = Tiny()
    folder = tiny.conduct(Settings(size=4, out=tmp_path / "run"))
    assert folder == tmp_path / "run"
    summary = {"result": 41}
    assert tiny.calls == [
        ("prepare", 4), ("work", 4, 40, False), ("report", summary), ("draw", summary)
    ]  # fmt: skip
    assert runs.read_json(folder / "summary.json") == summary
    assert runs.read_json(folder / "environment.json")["device"] == (
        "cuda" if torch.cuda.is_available() else "cpu"
    )
    output = capsys.readouterr().out
    assert "All is said." in output
    assert str(folder) in output


def test_a_resumed_run_has_the_settings_of_its_folder(tmp_path: Path) -> None:
    tiny = Tiny("work")
    with pytest.raises(ValueError, match="work failed"):
        tiny.conduct(Settings(size=7, out=tmp_path / "run"))
    assert not (tmp_path / "run" / "summary.json").exists()
    tiny = Tiny()
    assert tiny.conduct(Settings(resume=tmp_path / "run")) == tmp_path / "run"
    assert tiny.calls[:2] == [("prepare", 7), ("work", 7, 70, True)]
    with pytest.raises(ValueError, match="leave out --size"):
        Tiny().conduct(Settings(size=8, resume=tmp_path / "run"))


def test_prepare_fails_before_a_folder_exists(tmp_path: Path) -> None:
    tiny = Tiny("prepare")
    with pytest.raises(ValueError, match="prepare failed"):
        tiny.conduct(Settings(out=tmp_path / "runs" / "run"))
    assert tiny.calls == [("prepare", 3)]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("part", ["prepare", "work", "draw", "report"])
def test_whatever_fails_leaves_a_folder_that_can_be_resumed(part: str, tmp_path: Path) -> None:
    Tiny().conduct(Settings(out=tmp_path / "run"))
    before = (tmp_path / "run" / "settings.json").read_bytes()
    tiny = Tiny(part)
    with pytest.raises(ValueError, match=f"{part} failed"):
        tiny.conduct(Settings(resume=tmp_path / "run"))
    assert not any(folder.lock.is_locked for folder in tiny.folders)
    Tiny().conduct(Settings(resume=tmp_path / "run"))
    assert (tmp_path / "run" / "settings.json").read_bytes() == before


def all_stops(
    write: Callable[[RunFolder, bool], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Stop `write` before and after each write to its folder, resume, compare; how many stops."""

    def files(folder: RunFolder) -> list[bytes]:
        return [(folder.path / name).read_bytes() for name in ("metrics.jsonl", "checkpoint.pt")]

    whole = RunFolder.create(tmp_path / "whole", PROGRAM, {})
    write(whole, False)
    stop = 0
    while True:
        events = 0

        def stopping(original: Callable[..., Any], at: int = stop) -> Callable[..., Any]:
            def method(self: RunFolder, content: Any) -> None:
                nonlocal events
                for act in (lambda: None, lambda: original(self, content)):
                    act()
                    if events == at:
                        raise StoppedError
                    events += 1

            return method

        folder = RunFolder.create(tmp_path / f"stopped{stop}", PROGRAM, {})
        with monkeypatch.context() as patched:
            for name in ("append_rows", "save_checkpoint"):
                patched.setattr(RunFolder, name, stopping(getattr(RunFolder, name)))
            try:
                write(folder, False)
            except StoppedError:
                stop += 1
            else:
                return stop
        write(folder, True)
        assert files(folder) == files(whole)


def test_work_that_stops_anywhere_goes_on_after_the_last_unit_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = ["a", "b", "c"]

    def compute(unit: str) -> Iterator[Row]:
        for i in range(2):
            yield {"unit": unit, "i": i}

    def write(folder: RunFolder, resumed: bool) -> None:
        work_through(units, compute, folder, resumed, "letters")
        rows = [(row["unit"], row["i"]) for row in runs.read_rows(folder.path)]
        assert rows == [(unit, i) for unit in units for i in range(2)]

    assert all_stops(write, tmp_path, monkeypatch) == 3 * 2 * 2


def test_units_that_are_done_are_not_done_again(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", PROGRAM, {})
    computed = []

    def compute(unit: int) -> Iterable[Row]:
        if unit == 2 and len(computed) == 2:
            raise StoppedError
        computed.append(unit)
        return [{"unit": unit}]

    with pytest.raises(StoppedError):
        work_through(range(4), compute, folder, False, "numbers")
    assert computed == [0, 1]
    computed.append(-1)
    work_through(range(4), compute, folder, True, "numbers")
    work_through(range(4), compute, folder, True, "numbers")
    assert computed == [0, 1, -1, 2, 3]
    assert [row["unit"] for row in runs.read_rows(folder.path)] == [0, 1, 2, 3]


def test_rows_of_a_unit_that_fails_half_way_are_not_written(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", PROGRAM, {})

    def compute(unit: int) -> Iterator[Row]:
        yield {"unit": unit}
        if unit == 1:
            raise StoppedError
        yield {"unit": unit}

    with pytest.raises(StoppedError):
        work_through([0, 1], compute, folder, False, "numbers")
    assert [row["unit"] for row in runs.read_rows(folder.path)] == [0, 0]


class Walks:
    """Two chaotic walks, so that a step too many or too few shows."""

    def __init__(self, start: float) -> None:
        self.runs = ["left", "right"]
        self.places = torch.tensor([start, 1 - start / 2], dtype=torch.float64)
        self.steps = 0

    def step(self) -> None:
        self.places.mul_(3.9 * (1 - self.places))
        self.steps += 1

    def measure(self, step: int) -> list[Row]:
        assert step == self.steps
        return [
            {"step": step, "run": run, "place": place, "bulky": [place] * 9}
            for run, place in zip(self.runs, self.places.tolist(), strict=True)
        ]

    def state(self) -> Row:
        return {"places": self.places, "steps": self.steps}

    def restore(self, state: Row) -> None:
        self.places.copy_(state["places"])
        self.steps = state["steps"]


def walk(
    folder: RunFolder, resumed: bool, *, steps: int = 7, every: int = 3, starts: int = 2
) -> list[Walks]:
    batches = [Walks(0.3 + i / 10) for i in range(starts)]
    assert isinstance(batches[0], Batch)
    train_together(
        batches, folder, resumed, steps=steps, measured={0, 2, 5, steps}, checkpoint_every=every,
        device=CPU, leave_out=["bulky"],
    )  # fmt: skip
    return batches


def test_training_that_stops_anywhere_ends_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four measurements of two batches each, and checkpoints at 3, 6 and 7.
    def write(folder: RunFolder, resumed: bool) -> None:
        assert all(batch.steps == 7 for batch in walk(folder, resumed))

    assert all_stops(write, tmp_path, monkeypatch) == 2 * (4 * 2 + 3)


def test_batches_train_in_step_and_are_measured_when_asked(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", PROGRAM, {})
    batches = walk(folder, False)
    rows = runs.read_rows(folder.path)
    assert [(row["step"], row["run"]) for row in rows] == [
        (step, run) for step in (0, 2, 5, 7) for _ in range(2) for run in ("left", "right")
    ]
    assert rows[0].keys() == {"step", "run", "place"}
    for i, batch in enumerate(batches):
        alone = Walks(0.3 + i / 10)
        for _ in range(7):
            alone.step()
        assert torch.equal(batch.places, alone.places)
        assert [row["place"] for row in rows[-4:]][2 * i : 2 * i + 2] == alone.places.tolist()
    state = torch.load(folder.path / "checkpoint.pt")["state"]
    assert state["step"] == 7
    assert torch.equal(state["batches"][1]["places"], batches[1].places)


def fail_if_called(_: Walks) -> None:
    raise AssertionError("there was nothing left to train")


def test_a_finished_training_only_takes_up_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create(tmp_path / "run", PROGRAM, {})
    first, rows = walk(folder, False), runs.read_rows(folder.path)
    monkeypatch.setattr(Walks, "step", fail_if_called)
    again = walk(folder, True)
    assert all(torch.equal(a.places, b.places) for a, b in zip(first, again, strict=True))
    assert runs.read_rows(folder.path) == rows


def test_the_start_is_measured_only_when_asked(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", PROGRAM, {})
    train_together(
        [Walks(0.3)], folder, False, steps=2, measured=[2], checkpoint_every=5, device=CPU
    )
    rows = runs.read_rows(folder.path)
    assert {row["step"] for row in rows} == {2}
    assert "bulky" in rows[0]


def test_a_checkpoint_of_other_batches_is_refused_and_the_folder_unchanged(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", PROGRAM, {})
    walk(folder, False)
    folder.append_rows([{"step": 8}])
    before = runs.read_rows(folder.path)
    with pytest.raises(ValueError, match=r"does not fit its settings\.json"):
        walk(folder, True, starts=3)
    assert runs.read_rows(folder.path) == before


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_measured_steps_are_dense_early_and_regular_later(steps: int, every: int) -> None:
    between = {
        step
        for step in range(1, steps)
        if step % every == 0 or (step < every and step.bit_count() == 1)
    }
    assert measured_steps(steps, every) == {0, steps} | between


def test_measured_steps_of_small_runs() -> None:
    assert measured_steps(60, 20) == {0, 1, 2, 4, 8, 16, 20, 40, 60}
    assert measured_steps(5, 100) == {0, 1, 2, 4, 5}
    assert measured_steps(3, 1) == {0, 1, 2, 3}
    assert measured_steps(1, 8) == {0, 1}


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"depth": (1,), "width": ()}, "width is empty"),
        ({"temperature": ()}, "temperature is empty"),
        ({"temperature": (1.0, 0.0)}, r"temperature is 0\.0"),
        ({"temperature": (1.0, float("nan"))}, "temperature is nan"),
        ({"temperature": (-2.0,)}, r"temperature is -2\.0"),
        ({"temperature": (float("inf"),)}, "temperature is inf"),
    ],
)
def test_bad_lists(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_values(**values)


def test_lists_other_than_temperatures_may_hold_anything() -> None:
    values = {"depth": (0, -1), "start": ["any"]}
    check_values(temperature=(1e-9, 1.0), **values)
    with pytest.raises(ValueError, match="temperature is 0"):
        check_values(temperature=(1e-9, 0.0), **values)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32 - 3}, "seed is 4294967293"),
        ({"gamma": 0.0}, "gamma is 0"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"device": "abacus"}, "device is 'abacus'"),
    ],
)
def test_bad_common_settings(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(CommonSettings(), **change).check_common()


def test_seeds_follow_the_first() -> None:
    settings = CommonSettings(seed=5, seeds=3)
    settings.check_common()
    assert [*settings.seed_range] == [5, 6, 7]
