"""Loops that write rows and checkpoints, and resume bit-identically."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit.experiments import runs
from rankdeficit.experiments.loops import Batch, measured_steps, train_together, work_through
from rankdeficit.experiments.runs import RunFolder
from rankdeficit.experiments.settings import Row

PROGRAM = "tests.tiny"
CPU = torch.device("cpu")


class StoppedError(Exception):
    """The process ended here."""


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


def test_checkpoints_are_written_at_their_interval_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(RunFolder, "save_checkpoint", lambda _, state: saved.append(state["step"]))
    walk(RunFolder.create(tmp_path / "run", PROGRAM, {}), False)
    assert saved == [3, 6, 7]


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
    with pytest.raises(ValueError, match=r"fit.*settings\.json"):
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


def test_sigterm_saves_the_state_of_the_step_that_it_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunFolder.create(tmp_path / "whole", PROGRAM, {})
    walk(whole, False, every=100)
    folder = RunFolder.create(tmp_path / "stopped", PROGRAM, {})
    first = Walks.step

    def step(self: Walks) -> None:
        first(self)
        if self.steps == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(*_: object) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Walks, "step", step)
            with pytest.raises(StoppedError):
                walk(folder, False, every=100)
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)
    assert torch.load(folder.path / "checkpoint.pt")["state"]["step"] == 4
    walk(folder, True, every=100)
    for name in ("metrics.jsonl", "checkpoint.pt"):
        assert (folder.path / name).read_bytes() == (whole.path / name).read_bytes()
