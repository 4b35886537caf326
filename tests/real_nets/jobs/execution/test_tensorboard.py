"""Measures during training as TensorBoard shows them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rankdeficit.experiments import runs
from real_nets.jobs.data import JobData
from real_nets.jobs.execute import Execution, Work, train_here
from tests.real_nets.jobs.execution.jobs import OTHER_JOB, works
from tests.real_nets.tiny import CPU, contents


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def expected_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for row in runs.read_rows(folder):
        for name, value in row.items():
            if name not in ("step", "epoch") and isinstance(value, int | float):
                found.setdefault(name, []).append((row["step"], pytest.approx(value, rel=1e-6)))
    return found


def watched(item: Work, how: Execution) -> None:
    """Train with files for TensorBoard."""
    train_here(item, JobData(item.job, how.source, CPU), replace(how, tensorboard=True))


def without_events(folder: Path) -> dict[str, bytes]:
    return {k: v for k, v in contents(folder).items() if not k.startswith("tensorboard/")}


def test_tensorboard_shows_the_rows_and_changes_no_result(
    how: Execution, done: Path, tmp_path: Path
) -> None:
    item = replace(works(tmp_path)[1], snapshots=())
    watched(item, how)
    expected = expected_scalars(item.path)
    assert {"accuracy", "loss", "test_accuracy", "rank", "logits_norm", "alignment"} <= set(
        expected
    )
    assert scalars(item.path) == expected
    assert without_events(item.path) == contents(done / OTHER_JOB.key)
    before = sorted((item.path / "tensorboard").iterdir())
    watched(item, how)
    assert sorted((item.path / "tensorboard").iterdir()) == before
    assert not (done / OTHER_JOB.key / "tensorboard").exists()


def test_tensorboard_shows_each_measurement_of_a_resumed_job_once(
    how: Execution, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = replace(works(tmp_path)[1], snapshots=())
    real, written = runs.RunFolder.save_checkpoint, []

    def killed(folder: runs.RunFolder, state: dict[str, Any]) -> None:
        written.append(state)
        if len(written) == 3:  # the third row is written, but no checkpoint knows of it
            raise KeyboardInterrupt
        real(folder, state)

    monkeypatch.setattr(runs.RunFolder, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        watched(item, how)
    monkeypatch.undo()
    assert len(runs.read_rows(item.path)) == 3
    watched(item, how)
    assert without_events(item.path) == contents(done / OTHER_JOB.key)
    assert scalars(item.path) == expected_scalars(item.path)
