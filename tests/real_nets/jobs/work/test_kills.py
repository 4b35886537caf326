"""A job that is cut anywhere ends with the same bytes."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdeficit.experiments.runs import RunFolder
from real_nets.data.opening import DataSource
from real_nets.jobs import run as work
from real_nets.jobs.data import JobData
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.jobs.run import train_job
from tests.real_nets.jobs.work.jobs import DIVERGING, HOT, CutError, diagnose, train
from tests.real_nets.tiny import CPU, contents, tiny_job


def test_a_finished_job_is_not_touched(root: Path, copy: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.name != ".lock"}

    before = times()
    heard: list[Any] = []
    summary = train(HOT, root, copy, on_step=heard.append, on_row=heard.append)
    report = diagnose(HOT, root, copy)
    assert summary == JobFolder(copy).summary
    assert report.record == JobFolder(copy).report
    assert heard == []
    assert times() == before


def test_a_job_leaves_the_same_bytes_in_another_folder(
    root: Path, hot: Path, tmp_path: Path
) -> None:
    torch.manual_seed(3)  # what was drawn elsewhere does not count
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    train(HOT, moved, tmp_path / "job")
    diagnose(HOT, moved, tmp_path / "job")
    ours, theirs = contents(tmp_path / "job"), contents(hot)
    settings = [json.loads(found.pop("settings.json")) for found in (ours, theirs)]
    assert ours == theirs
    assert set(ours) == {
        "metrics.jsonl", "summary.json", "weights.safetensors", "diagnoses/final.json",
        "accuracy-0.5.safetensors", "accuracy-0.9.safetensors", "accuracy-0.99.safetensors",
    }  # fmt: skip
    assert settings[0]["settings"].pop("root") == str(moved)
    assert settings[1]["settings"].pop("root") == str(root)
    assert settings[0] == settings[1]


def end(job: Job, root: Path, path: Path, cut: Callable[[int], None]) -> int:
    """Train with as many starts as it takes; how many those were."""
    source = DataSource(root)  # whose images are read once
    for start in range(1, 200):
        try:
            train_job(job, JobData(job, source, CPU), path, on_step=cut)
        except CutError:
            continue
        return start
    raise AssertionError("no end in sight")


CUT_JOBS = {
    "plain": tiny_job(epochs=2, batch_size=60, augmentation="crop-flip"),
    "adamw": tiny_job(
        epochs=2, batch_size=60, optimizer="adamw", lr=3e-3, schedule="step", norm="batch"
    ),
    "stopping": tiny_job(batch_size=60, stop_accuracy=0.5, followed_images=120),
    "scheduled with interventions": tiny_job(
        epochs=2,
        batch_size=60,
        temperature=20.0,
        temperature_schedule="down",
        temperature_ramp=1.0,
        intervention=("encoder-entropy", "learnable-temperature=2"),
    ),
    "diverging": DIVERGING,
    "untrained": tiny_job(epochs=0),
}


@pytest.mark.parametrize("name", CUT_JOBS)
@pytest.mark.parametrize("seconds", [60.0, 0.0], ids=["rare", "at-every-step"])
def test_a_training_cut_after_each_of_its_steps_ends_with_the_same_bytes(
    seconds: float, name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = CUT_JOBS[name]
    train(job, root, tmp_path / "whole")
    monkeypatch.setattr(work, "CHECKPOINT_SECONDS", seconds)
    last = JobFolder(tmp_path / "whole").summary["step"]
    due = {0, 17, 38, 41} if job is DIVERGING else set(range(last + 1))

    def cut(step: int) -> None:
        if step in due:
            due.remove(step)
            raise CutError

    cuts = len(due)
    assert end(job, root, tmp_path / "cut", cut) == cuts + 1
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_job_on_a_gpu_goes_on_where_it_was_cut(
    root: Path, tmp_path: Path, stand_in_device: torch.device
) -> None:
    job = tiny_job(
        epochs=2, batch_size=60, optimizer="adamw", augmentation="crop-flip", ood=("other",)
    )

    def cut(step: int) -> None:
        if step == 3:
            raise CutError

    def end_on(device: torch.device, path: Path, on_step: Callable[[int], object]) -> Path:
        train_job(job, JobData(job, DataSource(root), device), path, on_step=on_step)
        return path / "weights.safetensors"

    with pytest.raises(CutError):
        end_on(stand_in_device, tmp_path / "cut", cut)
    ours = end_on(stand_in_device, tmp_path / "cut", lambda step: None)
    theirs = end_on(CPU, tmp_path / "whole", lambda step: None)
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_job_cut_at_each_of_its_writes_ends_with_the_same_bytes(
    after: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It stops at the end of its second epoch, where it is looked at but not measured otherwise.
    job = tiny_job(
        epochs=26, batch_size=60, followed_images=120, stop_accuracy=0.7, milestones=(0.01,)
    )
    assert train(job, root, tmp_path / "whole")["step"] == 4
    monkeypatch.setattr(work, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "cut"
    steps, cuts = [0], set()

    def is_due(write: str) -> bool:
        due = (write, steps[-1]) not in cuts
        cuts.add((write, steps[-1]))
        return due

    real_replace, real_append = os.replace, RunFolder.append_rows

    def replace_file(source: Path, target: Path) -> None:
        due = is_due(target.name)
        if after or not due:
            real_replace(source, target)
        if due:
            raise CutError

    def append_rows(folder: RunFolder, added: list[dict[str, Any]]) -> None:
        due = is_due("metrics.jsonl")
        if after or not due:
            real_append(folder, added)
        else:
            with (path / "metrics.jsonl").open("a") as file:
                file.write('{"step": 1, "acc')
        if due:
            raise CutError

    monkeypatch.setattr(os, "replace", replace_file)
    monkeypatch.setattr(RunFolder, "append_rows", append_rows)
    assert end(job, root, path, steps.append) == len(cuts) + 1
    assert {step for write, step in cuts if write == "checkpoint.pt"} == {0, 1, 2, 3, 4}
    assert {step for write, step in cuts if write == "metrics.jsonl"} == {0, 1, 4}
    assert {write for write, _ in cuts} == {
        "settings.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt",
        "accuracy-0.01.safetensors", "weights.safetensors", "environment.json", "summary.json",
    }  # fmt: skip
    assert contents(path) == contents(tmp_path / "whole")


def test_a_diagnosis_cut_while_it_is_written_is_made_again(
    root: Path, hot: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "diagnoses" / "final.json").unlink()

    def kill(*_: object) -> None:
        raise CutError

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", kill)
        with pytest.raises(CutError):
            diagnose(HOT, root, copy)
    assert not (copy / "diagnoses" / "final.json").exists()
    diagnose(HOT, root, copy)
    assert contents(copy) == contents(hot)
