"""A job from start to end: what it learns, measures and leaves."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from rankdeficit import cross_entropy, numerical_rank, runs
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.diagnostics.report import Report
from real_nets import folders
from real_nets.follow import Follower, final_measures, measured_at
from real_nets.job import Job
from real_nets.job_data import JobData, Source
from real_nets.job_folder import FINAL, JobFolder
from real_nets.work import diagnose_job, initial_network, train_job
from tests.images import write_images
from tests.real_nets.tiny import CPU, contents, data_of, tiny_job
from tests.real_nets.work.jobs import DIVERGING, HOT, diagnose, train


def network(job: Job, data: JobData, weights: Path) -> nn.Sequential:
    model = initial_network(job, data)
    model.load_state_dict(safetensors.torch.load_file(weights))
    assert isinstance(model, nn.Sequential)
    return model.eval()


@torch.no_grad()
def hidden(model: nn.Sequential, inputs: Tensor) -> list[Tensor]:
    """The representation after every layer of an MLP."""
    found = []
    for module in model:
        inputs = module(inputs)
        if isinstance(module, nn.ReLU):
            found.append(inputs)
    return [*found, inputs]


def test_a_job_learns_and_its_weights_give_the_reported_numbers(root: Path, hot: Path) -> None:
    summary, data = JobFolder(hot).summary(), data_of(HOT, root)
    assert (summary["outcome"], summary["message"]) == ("interpolated", None)
    assert summary["accuracy"] > 0.99
    assert summary["test_accuracy"] > 0.8
    assert (summary["step"], summary["epoch"], summary["stopped_early"]) == (48, 6, False)
    assert (summary["classes"], summary["neural_collapse_rank"]) == (4, 3)
    assert (summary["train_images"], summary["test_images"]) == (120, 40)
    model = network(HOT, data, hot / "weights.safetensors")
    for images, found, kept, ranks in (
        (data.train, summary, "", summary["train_layer_ranks"]),
        (data.test, summary["test_logits"], "test_", summary["layer_ranks"]),
    ):
        batches = list(images)
        labels = torch.cat([labels for _, labels in batches])
        layers = hidden(model, torch.cat([inputs for inputs, _ in batches]))
        logits = layers[-1].double()
        accuracy = float((logits.argmax(dim=1) == labels).double().mean())
        assert summary[f"{kept}accuracy"] == found["accuracy"] == accuracy
        loss = float(cross_entropy(logits, labels, 20.0))
        assert summary[f"{kept}loss"] == pytest.approx(loss, rel=1e-6)
        assert found["rank"] == int(numerical_rank(logits))
        norm = float(logits.norm()) / len(logits) ** 0.5
        assert found["logits_norm"] == pytest.approx(norm, rel=1e-6)
        assert found["effective_logits_norm"] == pytest.approx(norm / 20, rel=1e-6)
        for gamma in (1e-3, 1e-2, 1e-1):
            expected = [int(numerical_rank(layer.double(), gamma)) for layer in layers]
            assert ranks[str(gamma)] == expected


def test_rows_are_measured_where_they_should_be_and_end_at_the_summary(
    root: Path, tmp_path: Path
) -> None:
    job = tiny_job(followed_images=120, ood=("other",))
    heard: list[dict[str, Any]] = []
    steps: list[int] = []
    summary = train(job, root, tmp_path / "job", on_row=heard.append, on_step=steps.append)
    rows = runs.read_rows(tmp_path / "job")
    assert [row["step"] for row in rows] == sorted(measured_at(3, 8))
    assert steps == list(range(25))
    assert json.loads(json.dumps(heard)) == rows
    for name in ("accuracy", "loss", "test_accuracy", "rank", "rank_curve", "logits_norm"):
        assert rows[-1][name] == summary[name]
    assert rows[-1]["layer_ranks"] == summary["train_layer_ranks"]
    assert rows[-1]["ortho_dev"].keys() == {"other"}


def test_networks_trained_in_bf16_are_measured_in_float32(root: Path, tmp_path: Path) -> None:
    job = tiny_job(head_rank=2, precision="bf16", ood=("other",))
    summary = train(job, root, tmp_path / "job")
    last = runs.read_rows(tmp_path / "job")[-1]
    for found in (summary, last, summary["test_logits"]):
        assert found["rank_curve"]["0.0001"] == found["centred_rank_curve"]["0.0001"] == 2
    model = initial_network(job, data := data_of(job, root))
    model.load_state_dict(JobFolder(tmp_path / "job").read_weights(FINAL))
    whole = final_measures(Network.of(model, torch.zeros(2, 3, 8, 8), None, pick_logits), job, data)
    assert whole.items() <= summary.items()


@pytest.mark.parametrize("epochs", [0, 1])
def test_untrained_networks_are_measured_with_the_statistics_that_training_sees(
    epochs: int, root: Path, tmp_path: Path
) -> None:
    shape = {"model": "resnet20", "width": 4, "depth": None, "norm": "batch"}
    job = tiny_job(**shape, epochs=epochs, followed_images=120)
    summary = train(job, root, tmp_path / "job")
    first = runs.read_rows(tmp_path / "job")[0]
    model = initial_network(job, data := data_of(job, root))
    inputs = torch.cat([inputs for inputs, _ in data.train])
    unseen = float(model.eval()(inputs).detach().norm()) / 120**0.5
    seen = float(model.train()(inputs).detach().norm()) / 120**0.5
    assert first["logits_norm"] == pytest.approx(seen, rel=0.02)
    assert abs(unseen / seen - 1) > 0.1
    if not epochs:
        assert summary["logits_norm"] == first["logits_norm"]
        weights = JobFolder(tmp_path / "job").read_weights(FINAL)
        for name, value in initial_network(job, data).state_dict().items():
            assert torch.equal(weights[name], value)


@pytest.mark.parametrize("count", [1, 251])
def test_any_number_of_followed_images_has_statistics(count: int, tmp_path: Path) -> None:
    write_images(tmp_path / "own", classes=3, train=84, test=2)
    job = tiny_job(norm="batch", followed_images=count)
    data = data_of(job, tmp_path)
    with Follower(initial_network(job, data), job, data).calibrated():
        pass


def test_measuring_untrained_networks_changes_nothing(root: Path) -> None:
    job = tiny_job(model="vgg19", width=4, depth=None, followed_images=60, image_size=32)
    model = initial_network(job, data := data_of(job, root))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    with Follower(model, job, data).calibrated():
        assert not torch.equal(dict(model.named_buffers())["features.1.running_var"], torch.ones(4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_runs_stop_at_ends_of_epochs_alone(root: Path, tmp_path: Path) -> None:
    job = tiny_job(
        batch_size=2, epochs=2, lr=0.02, stop_accuracy=0.3, milestones=(0.3,), followed_images=120
    )
    summary = train(job, root, tmp_path / "job")
    rows = runs.read_rows(tmp_path / "job")
    assert any(row["accuracy"] >= 0.3 for row in rows if 0 < row["epoch"] < 1)
    assert (summary["epoch"], summary["stopped_early"], summary["milestones"]) == (1, True, [0.3])
    kept = JobFolder(tmp_path / "job")
    assert kept.weights(FINAL).read_bytes() == kept.weights("accuracy-0.3").read_bytes()


@pytest.mark.parametrize("change", [{"loss": "mse"}, {"label_smoothing": 0.2}], ids=str)
def test_gradient_ranks_are_of_the_loss_that_was_trained(
    change: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    job = tiny_job(temperature=5.0, diagnosed_images=0, **change)
    train(job, root, tmp_path / "job")
    spectra = []
    for told in (job, replace(job, loss="cross-entropy", label_smoothing=0.0)):
        (tmp_path / "job" / "diagnoses" / "final.json").unlink(missing_ok=True)
        record = diagnose(told, root, tmp_path / "job").record
        spectra.append([layer["gradient"] for layer in record["layers"]])
    model = initial_network(job, data := data_of(job, root))
    model.load_state_dict(JobFolder(tmp_path / "job").read_weights(FINAL))
    inputs, labels = (torch.cat(part) for part in zip(*data.train, strict=True))
    job.mean_loss(model(inputs), labels, 5.0).backward()
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    assert [layer["rank"] for layer in spectra[0]] == [int(numerical_rank(w.grad)) for w in weights]
    assert spectra[0] != spectra[1]


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


def test_what_is_measured_does_not_change_what_is_learnt(root: Path, tmp_path: Path) -> None:
    weights = set()
    for change in ({}, {"followed_images": 7, "milestones": ()}, {"diagnosed_images": 5}):
        job = replace(tiny_job(ood=("other",)), **change)  # type: ignore[arg-type]
        train(job, root, tmp_path / job.key)
        weights.add((tmp_path / job.key / "weights.safetensors").read_bytes())
    assert len(weights) == 1


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
    with pytest.raises(ValueError, match=r"keeps no weights called accuracy-0\.999$"):
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
         r"T = 50, seed 0: the .* not finite at step \d+ \(epoch 0\.\d+\); lower --lr \(now 1e\+20\), "
         r"or shorten gradients with --clip-norm 1"),
        ({"lr": 1e20, "seed": 4}, r"T = 1, seed 4: .* lower --lr \(now 1e\+20\)$"),
        ({"lr": 1e10}, r"the squared logits are not finite at step 1 \(epoch 0\.12\)"),
        ({"lr": 1e12, "loss": "mse"}, r"the squared logits are not finite at step 1 "),
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
    with pytest.raises(ValueError, match=r"keeps no weights called final$"):
        diagnose(job, root, tmp_path / "job")


def test_a_network_that_diverges_on_its_way_was_last_sound_where_it_was_measured(
    root: Path, tmp_path: Path
) -> None:
    summary = train(DIVERGING, root, tmp_path / "job")
    assert "the loss is not finite at step 39 (epoch 0.65)" in summary["message"]
    assert (summary["step"], summary["epoch"]) == (16, 16 / 60)
    assert runs.read_rows(tmp_path / "job")[-1]["step"] == 16


def test_a_diagnosis_is_of_the_weights_that_are_named(root: Path, hot: Path, copy: Path) -> None:
    final = Report.from_json(hot / "diagnoses" / "final.json")
    summary = JobFolder(hot).summary()
    assert final["conditions.temperature"] == 20
    assert final["conditions.images_of_each_split"] == 36
    assert (final["train.samples"], final["test.samples"]) == (36, 36)
    early = diagnose(HOT, root, copy, "accuracy-0.5")
    assert 0.3 < early["train.accuracy"] < final["train.accuracy"]
    whole = replace(HOT, diagnosed_images=0)
    folder = copy.parent / "whole"
    train(whole, root, folder)
    report = diagnose(whole, root, folder)
    assert report["train.accuracy"] == summary["accuracy"]
    assert report["test.accuracy"] == summary["test_accuracy"]
    assert report["train.logits.rank"] == summary["rank"]
    assert [layer["test"]["rank"] for layer in report.record["layers"]] == (
        summary["layer_ranks"]["0.001"]
    )


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
    monkeypatch.setattr(folders, "IN_MEMORY", 0)
    streamed = JobData(job, Source(root, workers=0), CPU)
    train_job(job, streamed, tmp_path / "files")
    ours, theirs = contents(tmp_path / "files"), contents(tmp_path / "memory")
    for name in ("weights.safetensors", "metrics.jsonl", "summary.json"):
        assert ours[name] == theirs[name]


def test_a_gpu_trains_about_the_same_network(
    device: torch.device, root: Path, tmp_path: Path
) -> None:
    job = tiny_job(epochs=6, ood=("other",))
    found = []
    for place in (CPU, device):
        data = JobData(job, Source(root), place)
        found.append(train_job(job, data, tmp_path / place.type))
        report = diagnose_job(job, data, tmp_path / place.type)
        assert report["conditions.device"].startswith(place.type)
    on_cpu, on_gpu = found
    assert on_gpu["accuracy"] == pytest.approx(on_cpu["accuracy"], abs=0.05)
    assert on_gpu["test_accuracy"] == pytest.approx(on_cpu["test_accuracy"], abs=0.15)
