"""`python -m simulations.mlp`: its records against independent measures, its resume, its data."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import rankdeficit as rd
from rankdeficit.experiments.runs import RunFolder, read_json, read_rows
from simulations import mlp
from simulations.mlp import Settings
from tests.images import write_images

SMALL = Settings(
    temperature=(20.0,), seeds=2, classes=5, samples_per_class=4, inputs=7, width=9, depth=3,
    steps=30, measure_every=10, checkpoint_every=10, device="cpu",
)  # fmt: skip


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("summary.json", "metrics.jsonl")]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mlp.Mlp().run(replace(SMALL, out=tmp_path_factory.mktemp("small") / "run"))


def test_the_run_folder_and_its_figures(small: Path) -> None:
    rows, summary = read_rows(small), read_json(small / "summary.json")
    assert {*mlp.Mlp().figures(rows, summary)} == {
        "alignment", "alignment_per_layer", "collapse", "gradient_ranks", "ranks",
    }  # fmt: skip
    runs = summary["runs"]
    assert [(run["temperature"], run["seed"]) for run in runs] == [(1, 0), (1, 1), (20, 0), (20, 1)]
    assert {row["step"] for row in rows} == {0, 1, 2, 4, 8, 10, 20, 30}


def test_classes_of_unequal_size_and_noisy_labels() -> None:
    plain = mlp.load(replace(SMALL, samples_per_class=40))
    few = mlp.load(replace(SMALL, samples_per_class=40, imbalance=40.0))
    assert few.labels.bincount().tolist() == [40, 16, 6, 3, 1]
    for k in range(5):  # the same samples, as far as they go
        own = few.x[few.labels == k]
        assert torch.equal(own, plain.x[plain.labels == k][: len(own)])
    noisy = mlp.load(replace(SMALL, samples_per_class=40, label_noise=0.5))
    assert torch.equal(noisy.x, plain.x)
    assert 0.3 < float((noisy.labels != plain.labels).double().mean()) < 0.5


def test_ranks_of_layers_and_gradients_are_those_of_the_network() -> None:
    """Against one run's forward and backward pass in plain torch."""
    (runs,) = mlp.Mlp().build(SMALL)
    for _ in range(5):
        runs.step()
    row = runs.measure(5)[2]
    weights = [
        w[2].detach().clone().requires_grad_() for w in runs.shape.unpack(runs.model.parameters)[0]
    ]
    hidden, representations = runs.samples.x, []
    for i, weight in enumerate(weights):
        representations.append(hidden)
        hidden = hidden @ weight.mT
        if i < len(weights) - 1:
            hidden = hidden.relu()
    loss = torch.nn.functional.cross_entropy(hidden / 20, runs.samples.labels)
    gradients = torch.autograd.grad(loss, weights)
    expected = [int(rd.numerical_rank(a.detach())) for a in (*representations, hidden)]
    assert row["layer_ranks"] == expected
    assert row["gradient_ranks"] == [int(rd.numerical_rank(g)) for g in gradients]
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
    top = torch.linalg.svdvals(representations[-1].detach().double())[:5]
    assert row["top_singular_values"] == pytest.approx(top.tolist(), rel=1e-5)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_a_resumed_run_ends_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int | None
) -> None:
    settings = replace(SMALL, batch_size=batch_size)
    whole = mlp.Mlp().run(replace(settings, out=tmp_path / "whole"))
    save = RunFolder.save_checkpoint

    def stop(folder: RunFolder, state: dict[str, object]) -> None:
        save(folder, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        mlp.Mlp().run(replace(settings, out=tmp_path / "cut"))
    monkeypatch.undo()
    assert contents(mlp.Mlp().run(Settings(resume=tmp_path / "cut"))) == contents(whole)


def test_a_hot_network_collapses_in_the_middle_with_its_gradients(tmp_path: Path) -> None:
    settings = Settings(
        seeds=2, classes=30, samples_per_class=5, inputs=24, width=48, depth=6, steps=300, lr=2e-3,
        measure_every=300, device="cpu", gamma=1e-2, out=tmp_path / "run",
    )  # fmt: skip
    runs = read_json(mlp.Mlp().run(settings) / "summary.json")["runs"]
    cold, hot = ([r for r in runs if r["temperature"] == T] for T in (1, 50))
    assert all(run["accuracy"] == 1 for run in runs)
    for field, layer in (("layer_ranks", 4), ("gradient_ranks", 3)):
        assert max(r[field][layer] for r in hot) < 0.8 * min(r[field][layer] for r in cold)
    assert max(r["rank"] for r in hot) < min(r["rank"] for r in cold)


def test_images_are_read_and_tested_on(tmp_path: Path) -> None:
    write_images(tmp_path / "data", classes=3, train=12, test=5)
    settings = replace(
        SMALL, data=tmp_path / "data", loss="mse", steps=150, lr=3e-3, measure_every=150,
        images=30, out=tmp_path / "run",
    )  # fmt: skip
    summary = read_json(mlp.Mlp().run(settings) / "summary.json")
    assert (summary["classes"], summary["samples"]) == (3, 30)
    cold = [run for run in summary["runs"] if run["temperature"] == 1]
    assert min(run["test_accuracy"] for run in cold) > 0.6
    assert all(0 <= run["loss"] <= 2 for run in summary["runs"])


def test_runs_do_not_depend_on_what_trains_beside_them(small: Path, tmp_path: Path) -> None:
    alone = mlp.Mlp().run(replace(SMALL, baseline=False, seeds=1, out=tmp_path / "alone"))
    (run,) = read_json(alone / "summary.json")["runs"]
    twin = read_json(small / "summary.json")["runs"][2]
    assert run["loss"] == pytest.approx(twin["loss"], rel=1e-4)


@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_one_line_and_leave_nothing(assert_refused: Callable[..., None]) -> None:
    assert_refused(mlp, ["--data", "/no/such/folder"], ["/no/such/folder"])
    for settings, word in (
        (replace(SMALL, temperature=(0.0,)), "temperature"),
        (replace(SMALL, depth=1), "depth"),
        (replace(SMALL, batch_size=0), "batch_size"),
        (replace(SMALL, separation=-1.0), "separation"),
    ):
        with pytest.raises(ValueError, match=word):
            mlp.Mlp().build(settings)
