"""A job from start to end: what it learns, measures and leaves."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from rankdeficit.experiments import image_splits, runs
from real_nets.data.opening import DataSource
from real_nets.jobs.data import JobData
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.run import diagnose_job, initial_network, train_job
from tests.real_nets.jobs.work.jobs import DIVERGING, diagnose, network, train
from tests.real_nets.tiny import CPU, contents, data_of, tiny_job


def test_runs_stop_at_ends_of_epochs_alone(root: Path, tmp_path: Path) -> None:
    job = tiny_job(
        batch_size=2, epochs=2, lr=0.02, stop_accuracy=0.3, milestones=(0.3,), followed_images=120
    )
    summary = train(job, root, tmp_path / "job")
    rows = runs.read_rows(tmp_path / "job")
    assert any(row["accuracy"] >= 0.3 for row in rows if 0 < row["epoch"] < 1)
    assert (summary["epoch"], summary["stopped_early"], summary["milestones"]) == (1, True, [0.3])
    kept = JobFolder(tmp_path / "job")
    assert kept.weights_file.read_bytes() == kept.at("accuracy-0.3").weights_file.read_bytes()


def test_temperatures_share_start_and_batches(root: Path, tmp_path: Path) -> None:
    rows = []
    for temperature in (1.0, 20.0):
        job = tiny_job(temperature=temperature, epochs=1)
        train(job, root, tmp_path / job.key)
        rows.append(runs.read_rows(tmp_path / job.key)[0])
    cold, hot = rows
    for name in ("logits_norm", "layer_singular_values", "layer_alignments"):
        assert cold[name] == hot[name]
    assert hot["effective_logits_norm"] == pytest.approx(cold["logits_norm"] / 20)


def test_milestones_are_where_a_run_to_that_accuracy_stops(root: Path, tmp_path: Path) -> None:
    # 26 epochs are measured at every third end, but looked at for milestones at every end.
    job = tiny_job(
        epochs=26, batch_size=30, lr=0.02, milestones=(0.5, 0.9, 1.0), followed_images=120
    )
    whole = train(job, root, tmp_path / "whole")
    rows = runs.read_rows(tmp_path / "whole")
    ends = []
    for goal in (0.5, 0.9):
        path = tmp_path / str(goal)
        summary = train(replace(job, stop_accuracy=goal), root, path)
        kept = tmp_path / "whole" / f"accuracy-{goal:g}.safetensors"
        assert kept.read_bytes() == (path / "weights.safetensors").read_bytes()
        assert summary["stopped_early"]
        assert summary["accuracy"] >= goal
        assert runs.read_rows(path)[-1]["step"] == summary["step"] < whole["step"]
        earlier = [row for row in rows if 0 < row["step"] < summary["step"]]
        assert earlier
        assert all(row["accuracy"] < goal for row in earlier)
        ends.append(summary["epoch"])
    assert any(epoch % 3 for epoch in ends)
    assert set(whole["milestones"]) >= {0.5, 0.9}
    assert not whole["stopped_early"]


def test_a_run_stops_once_all_images_reach_its_goal_not_only_those_it_follows(
    root: Path, tmp_path: Path
) -> None:
    job = tiny_job(
        epochs=26, batch_size=30, lr=0.01, milestones=(1.0,), stop_accuracy=1.0, followed_images=2
    )
    summary = train(job, root, tmp_path / "job")
    assert (summary["stopped_early"], summary["accuracy"]) == (True, 1.0)
    data = data_of(job, root)
    early = network(job, data, tmp_path / "job" / "accuracy-1.safetensors")
    shares = []
    with torch.no_grad():
        for images in (data.train.some(2), data.train):
            right = [early(inputs).argmax(dim=1) == labels for inputs, labels in images]
            shares.append(float(torch.cat(right).double().mean()))
    assert shares[0] == 1.0 > shares[1]


def test_an_accuracy_that_is_never_reached_keeps_no_weights(root: Path, tmp_path: Path) -> None:
    job = tiny_job(lr=1e-6, milestones=(0.999,), stop_accuracy=0.999)
    summary = train(job, root, tmp_path / "job")
    assert (summary["milestones"], summary["stopped_early"]) == ([], False)
    with pytest.raises(ValueError, match=r"no weights.* accuracy-0\.999$"):
        diagnose(job, root, tmp_path / "job", "accuracy-0.999")


def test_no_epochs_leave_the_untrained_network(root: Path, tmp_path: Path) -> None:
    job = tiny_job(epochs=0, stop_accuracy=0.01, milestones=(0.01,))
    data = data_of(job, root)
    summary = train(job, root, tmp_path / "job")
    assert (summary["step"], summary["epoch"], summary["milestones"]) == (0, 0, [])
    assert not summary["stopped_early"]
    assert [row["step"] for row in runs.read_rows(tmp_path / "job")] == [0]
    kept = safetensors.torch.load_file(tmp_path / "job" / "weights.safetensors")
    for name, value in initial_network(job, data).state_dict().items():
        assert torch.equal(kept[name], value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 1e20, "clip_norm": None, "temperature": 50.0},
         r"T = 50, seed 0.* finite.* step \d+ \(epoch 0\.\d+\).* --lr .*1e\+20.* --clip-norm 1"),
        ({"lr": 1e20, "seed": 4}, r"T = 1, seed 4.* --lr \(now 1e\+20\)$"),
        ({"lr": 1e10}, r"squared logits.* finite.* step 1 \(epoch 0\.12\)"),
        ({"lr": 1e12, "loss": "mse"}, r"squared logits.* finite.* step 1 "),
    ],
    ids=["unclipped", "clipped", "large", "mse"],
)  # fmt: skip
def test_a_diverging_network_says_when_and_what_to_do_and_keeps_no_weights(
    change: dict[str, Any], words: str, root: Path, tmp_path: Path
) -> None:
    job = tiny_job(**{"ood": ("other",)} | change)
    summary = train(job, root, tmp_path / "job")
    assert summary["outcome"] == "diverged"
    assert re.search(words, summary["message"])
    assert summary["accuracy"] is summary["rank"] is summary["layer_ranks"] is None
    assert not (tmp_path / "job" / "weights.safetensors").exists()
    before = contents(tmp_path / "job")
    assert train(job, root, tmp_path / "job") == summary
    assert contents(tmp_path / "job") == before
    with pytest.raises(ValueError, match=r"no weights.* final$"):
        diagnose(job, root, tmp_path / "job")


def test_a_network_that_diverges_on_its_way_was_last_sound_where_it_was_measured(
    root: Path, tmp_path: Path
) -> None:
    summary = train(DIVERGING, root, tmp_path / "job")
    assert re.search(r"loss.* finite.* step 39 \(epoch 0\.65\)", summary["message"])
    assert (summary["step"], summary["epoch"]) == (16, 16 / 60)
    assert runs.read_rows(tmp_path / "job")[-1]["step"] == 16


def test_a_network_that_its_first_step_spoils_was_last_sound_untrained(
    root: Path, tmp_path: Path
) -> None:
    summary = train(tiny_job(lr=1e10), root, tmp_path / "job")
    assert re.search("squared logits.* finite.* step 1 ", summary["message"])
    assert (summary["step"], summary["epoch"]) == (0, 0)


def test_a_twin_of_the_data_is_not_out_of_distribution(root: Path, tmp_path: Path) -> None:
    both = tmp_path / "root"
    for name in ("own", "twin"):
        shutil.copytree(root / "own", both / name)
    job = tiny_job(ood=("twin",), diagnosed_images=0)
    train(job, both, tmp_path / "job")
    report = diagnose(job, both, tmp_path / "job").record
    for scores in report["detection"]["twin"].values():
        assert scores["auroc"] == pytest.approx(0.5)
    for layer in report["layers"]:
        assert layer["ood_probes"]["twin"]["accuracy"] == layer["probe"]["accuracy"]


@pytest.mark.parametrize(
    ("batch_size", "steps"),
    [(3, 40), (7, 17), (11, 11), (119, 1), (120, 1), (1000, 1)],
    ids=["fewer-than-classes", "one-left", "ten-left", "all-but-one", "all", "more-than-all"],
)
def test_odd_batches(batch_size: int, steps: int, root: Path, tmp_path: Path) -> None:
    job = tiny_job(norm="batch", epochs=1, batch_size=batch_size, lr=0.01, augmentation="flip")
    summary = train(job, root, tmp_path / "job")
    assert (summary["step"], summary["epoch"]) == (steps, 1)
    assert summary["outcome"] != "diverged"


def test_images_in_files_are_learnt_like_images_in_memory(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tiny_job(epochs=1, augmentation="crop-flip", ood=("other",))
    train(job, root, tmp_path / "memory")
    monkeypatch.setattr(image_splits, "IN_MEMORY", 0)
    streamed = JobData(job, DataSource(root, workers=0), CPU)
    train_job(job, streamed, tmp_path / "files")
    ours, theirs = contents(tmp_path / "files"), contents(tmp_path / "memory")
    for name in ("weights.safetensors", "metrics.jsonl", "summary.json"):
        assert ours[name] == theirs[name]


def test_a_gpu_trains_about_the_same_network(
    device: torch.device, root: Path, tmp_path: Path
) -> None:
    job = tiny_job(epochs=1, depth=2, ood=("other",))
    found = []
    for place in (CPU, device):
        data = JobData(job, DataSource(root), place)
        found.append(train_job(job, data, tmp_path / place.type))
        report = diagnose_job(job, data, tmp_path / place.type)
        assert report["conditions.device"].startswith(place.type)
    on_cpu, on_gpu = found
    assert on_gpu["accuracy"] == pytest.approx(on_cpu["accuracy"], abs=0.05)
    assert on_gpu["test_accuracy"] == pytest.approx(on_cpu["test_accuracy"], abs=0.15)
