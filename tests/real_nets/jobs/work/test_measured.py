"""What a job writes down: of which weights, how they were measured, and at which steps."""

import json
import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankdeficit import cross_entropy, numerical_rank
from rankdeficit.control import logits_norm
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.diagnostics.report import Report
from rankdeficit.experiments import runs
from real_nets.jobs.folder import FINAL, JobFolder
from real_nets.jobs.measures import Follower, final_measures, measured_at
from real_nets.jobs.run import initial_network
from real_nets.training.loop import Training
from tests.images import write_images
from tests.real_nets.jobs.work.jobs import HOT, diagnose, network, train
from tests.real_nets.tiny import data_of, tiny_job


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
    summary, data = JobFolder(hot).summary, data_of(HOT, root)
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
    model.load_state_dict(JobFolder(tmp_path / "job").read_weights())
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
        weights = JobFolder(tmp_path / "job").read_weights()
        for name, value in initial_network(job, data).state_dict().items():
            assert torch.equal(weights[name], value)


def test_rows_of_the_first_epoch_have_the_statistics_that_training_sees(
    root: Path, tmp_path: Path
) -> None:
    shape = {"model": "resnet20", "width": 4, "depth": None, "norm": "batch"}
    job = tiny_job(**shape, epochs=2, lr=0.1, followed_images=120)
    train(job, root, tmp_path / "job")
    rows = {row["step"]: row["logits_norm"] for row in runs.read_rows(tmp_path / "job")}
    data = data_of(job, root)
    inputs = torch.cat([inputs for inputs, _ in data.train])
    training = Training(
        initial_network(job, data),
        data.batches,
        job,
        temperature=job.temperature,
        seed=job.seed,
        device=data.device,
    )
    (start, *later) = runs.read_rows(tmp_path / "job")
    untrained = logits_norm(training.model, inputs)
    assert untrained.training is not None
    assert start["evaluation_logits_norm"] == pytest.approx(untrained.evaluation.raw, rel=1e-5)
    assert start["logits_norm"] == pytest.approx(untrained.training.raw, rel=0.02)
    assert not any("evaluation_logits_norm" in row for row in later)
    for step in (1, 4, 8, 16):
        training.run_until(step, lambda step: None)
        model = deepcopy(training.model)
        lagging = float(model.eval()(inputs).detach().norm()) / 120**0.5
        seen = float(model.train()(inputs).detach().norm()) / 120**0.5
        assert abs(lagging / seen - 1) > 0.05
        assert rows[step] == pytest.approx(seen if step < 8 else lagging, rel=0.02)


@pytest.mark.parametrize("count", [1, 251])
def test_any_number_of_followed_images_can_be_measured(count: int, tmp_path: Path) -> None:
    write_images(tmp_path / "own", classes=3, train=84, test=2)
    job = tiny_job(norm="batch", followed_images=count)
    data = data_of(job, tmp_path)
    model = initial_network(job, data)
    follower = Follower(model, job, data)
    (first, *_) = (module for module in model.modules() if isinstance(module, nn.BatchNorm1d))
    with follower.calibrated():
        variances = first.running_var
        assert variances is not None
        assert torch.equal(variances, torch.ones_like(variances)) == (count == 1)
        assert math.isfinite(follower.measure()["logits_norm"])


def test_measuring_untrained_networks_changes_nothing(root: Path) -> None:
    job = tiny_job(model="vgg19", width=4, depth=None, followed_images=60, image_size=32)
    model = initial_network(job, data := data_of(job, root))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    with Follower(model, job, data).calibrated():
        assert not torch.equal(dict(model.named_buffers())["features.1.running_var"], torch.ones(4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("change", [{"loss": "mse"}, {"label_smoothing": 0.2}], ids=str)
def test_gradient_ranks_are_of_the_loss_that_was_trained(
    change: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    job = tiny_job(temperature=5.0, epochs=1, diagnosed_images=0, **change)
    train(job, root, tmp_path / "job")
    spectra = []
    for told in (job, replace(job, loss="cross-entropy", label_smoothing=0.0)):
        (tmp_path / "job" / "diagnoses" / "final.json").unlink(missing_ok=True)
        record = diagnose(told, root, tmp_path / "job").record
        notes = [note for note in record["notes"] if note.startswith("gradient ranks are of")]
        assert notes == told.notes_on_loss
        assert bool(notes) == (told == job)
        spectra.append([layer["gradient"] for layer in record["layers"]])
    model = initial_network(job, data := data_of(job, root))
    model.load_state_dict(JobFolder(tmp_path / "job").read_weights())
    inputs, labels = (torch.cat(part) for part in zip(*data.train, strict=True))
    job.mean_loss(model(inputs), labels, 5.0).backward()
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    assert [layer["rank"] for layer in spectra[0]] == [int(numerical_rank(w.grad)) for w in weights]
    assert spectra[0] != spectra[1]


def test_measures_are_at_the_temperature_of_their_step_and_a_diagnosis_is_at_the_last(
    root: Path, tmp_path: Path
) -> None:
    job = tiny_job(temperature=16.0, temperature_schedule="down", epochs=2, diagnosed_images=0)
    summary = train(job, root, tmp_path / "job")
    rows = {row["step"]: row for row in runs.read_rows(tmp_path / "job")}
    found = {step: row["temperature"] for step, row in rows.items()}
    expected = {0: 16, 1: 16 ** (7 / 8), 4: 4, 8: 1, 16: 1}
    assert found == pytest.approx(expected)
    for row in rows.values():
        ratio = row["logits_norm"] / row["effective_logits_norm"]
        assert ratio == pytest.approx(row["temperature"])
    assert summary["last_temperature"] == 1
    assert summary["logits_norm"] == summary["effective_logits_norm"]
    report = diagnose(job, root, tmp_path / "job")
    assert report["train.loss"] == pytest.approx(summary["loss"], rel=1e-6)
    assert any("temperature schedule down" in note for note in report.record["notes"])


def test_a_diagnosis_counts_ranks_at_the_threshold_of_its_job(root: Path, tmp_path: Path) -> None:
    job = tiny_job(epochs=1, gamma=0.4, diagnosed_images=0)
    summary = train(job, root, tmp_path / "job")
    report = diagnose(job, root, tmp_path / "job")
    assert report["conditions.gamma"] == 0.4
    ranks = [layer["test"]["rank"] for layer in report.record["layers"]]
    assert ranks == summary["layer_ranks"]["0.4"] != summary["layer_ranks"]["0.001"]


def test_every_diagnosis_has_its_own_seconds(root: Path, copy: Path) -> None:
    first = JobFolder(copy).environment["diagnosis_seconds"]
    assert first.keys() == {FINAL}
    diagnose(HOT, root, copy, "accuracy-0.5")
    taken = JobFolder(copy).environment["diagnosis_seconds"]
    assert taken.keys() == {FINAL, "accuracy-0.5"}
    assert taken[FINAL] == first[FINAL]


def test_what_is_measured_does_not_change_what_is_learnt(root: Path, tmp_path: Path) -> None:
    weights = set()
    for change in ({}, {"followed_images": 7, "milestones": ()}, {"diagnosed_images": 5}):
        job = replace(tiny_job(epochs=1, ood=("other",)), **change)  # type: ignore[arg-type]
        train(job, root, tmp_path / job.key)
        weights.add((tmp_path / job.key / "weights.safetensors").read_bytes())
    assert len(weights) == 1


def test_a_diagnosis_is_of_the_weights_that_are_named(root: Path, hot: Path, copy: Path) -> None:
    final = Report.from_json(hot / "diagnoses" / "final.json")
    summary = JobFolder(hot).summary
    assert final["conditions.temperature"] == 20
    assert final["conditions.images_of_each_split"] == 36
    assert (final["train.samples"], final["test.samples"]) == (36, 36)
    early = diagnose(HOT, root, copy, "accuracy-0.5")
    assert 0.3 < early["train.accuracy"] < final["train.accuracy"]
    written = json.loads((copy / "settings.json").read_text())
    written["settings"]["job"]["diagnosed_images"] = 0
    (copy / "settings.json").write_text(json.dumps(written))
    JobFolder(copy).report_file.unlink()
    report = diagnose(replace(HOT, diagnosed_images=0), root, copy)
    assert report["train.accuracy"] == summary["accuracy"]
    assert report["test.accuracy"] == summary["test_accuracy"]
    assert report["train.logits.rank"] == summary["rank"]
    assert [layer["test"]["rank"] for layer in report.record["layers"]] == (
        summary["layer_ranks"]["0.001"]
    )
