"""`python -m simulations.imbalance`: equal classes are the UFM's; small ones merge where theory says."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rankdeficit.experiments.runs import read_json, read_rows
from rankdeficit.toys.optima import merging_temperature, two_factor_optimum
from simulations import imbalance, ufm
from simulations.imbalance import Settings
from simulations.ufm.batch import shape_of

SMALL = Settings(
    imbalance=(1.0, 9.0), temperature=(20.0,), seeds=1, classes=4, samples_per_class=9, width=6,
    depth=(1, 2), steps=40, measure_every=20, checkpoint_every=20, device="cpu",
)  # fmt: skip


def test_the_run_folder_and_its_figure(tmp_path: Path) -> None:
    folder = imbalance.Imbalance().run(replace(SMALL, out=tmp_path / "run"))
    rows, summary = read_rows(folder), read_json(folder / "summary.json")
    assert len(summary["runs"]) == 2 * 2 * 2
    assert {*imbalance.Imbalance().figures(rows, summary)} == {"imbalance"}
    table, sentences = imbalance.Imbalance().report(summary)
    assert table.row_count == 8
    assert len(sentences) == 4


def test_classes_of_equal_size_are_the_ufm(tmp_path: Path) -> None:
    settings = replace(SMALL, imbalance=(1.0,), depth=(2,), out=tmp_path / "imbalance")
    same = ufm.Settings(
        temperature=(20.0,), seeds=1, classes=4, samples_per_class=9, width=6, depth=(2,), steps=40,
        measure_every=20, weight_decay=settings.weight_decay, device="cpu", out=tmp_path / "ufm",
    )  # fmt: skip
    folders = imbalance.Imbalance().run(settings), ufm.Ufm().run(same)
    ours, theirs = (read_json(path / "summary.json")["runs"] for path in folders)
    for run, twin in zip(ours, theirs, strict=True):
        assert run["loss"] == pytest.approx(twin["loss"], rel=1e-4)
        assert run["rank_curve"] == twin["rank_curve"]


@pytest.mark.parametrize(("relative", "merged"), [(0.7, False), (1.4, True)])
def test_small_classes_merge_above_the_temperature_in_closed_form(
    relative: float, merged: bool, tmp_path: Path
) -> None:
    counts = (36,) * 3 + (1,) * 3
    decay = 4e-3
    critical = merging_temperature(sum(counts), 1, decay, decay)
    settings = Settings(
        imbalance=(36.0,), temperature=(relative * critical,), baseline=False, seeds=2, classes=6,
        samples_per_class=36, width=8, depth=(1,), steps=2500, measure_every=2500,
        weight_decay=decay, dtype="float64", device="cpu", out=tmp_path / "run",
    )  # fmt: skip
    runs = read_json(imbalance.Imbalance().run(settings) / "summary.json")["runs"]
    for run in runs:
        assert run["merging_temperature"] == pytest.approx(critical)
        assert (run["merging_imbalance"] < 36) == merged
        assert (run["small_cosine"] > 0.999) == merged
        assert run["centred_rank"] == (3 if merged else 5)


def test_with_equal_classes_they_merge_where_the_optimum_is_zero() -> None:
    critical = merging_temperature(50, 5, 1e-3, 2e-3)
    assert two_factor_optimum(10, 5, 0.999 * critical, 1e-3, 2e-3).margin > 0
    assert two_factor_optimum(10, 5, 1.001 * critical, 1e-3, 2e-3).margin == 0


def test_noisy_labels_are_trained_on() -> None:
    (clean, *_), (noisy, *_) = (
        imbalance.Imbalance().build(replace(SMALL, label_noise=noise)) for noise in (0.0, 0.2)
    )
    assert noisy.measure(0)[0]["loss"] != clean.measure(0)[0]["loss"]
    assert noisy.measure(0)[0]["merging_temperature"] is None


@pytest.mark.parametrize(
    "settings",
    [
        replace(SMALL, depth=(2,)),
        replace(SMALL, loss="mse"),
        replace(SMALL, profile="long-tailed"),
        replace(SMALL, weight_decay=0.0),
        replace(SMALL, label_noise=0.1),
    ],
)
def test_theory_is_silent_elsewhere(settings: Settings) -> None:
    shape = shape_of(settings, settings.depth[0], (9, 9, 1, 1))
    assert imbalance.predicted_temperature(settings, shape) is None
    assert imbalance.predicted_imbalance(settings, shape, 20.0) is None


def test_cosines_of_a_simplex_and_of_equal_vectors() -> None:
    simplex = torch.eye(5, dtype=torch.float64)[None]
    simplex = torch.cat([simplex, simplex.clone()])
    simplex[1, 3] = simplex[1, 4]
    found = imbalance.mean_cosine(simplex, slice(-2, None))
    assert found.tolist() == pytest.approx([-1 / 4, 1])
    assert imbalance.mean_cosine(simplex, slice(-1, None)).isnan().all()


def test_an_imbalance_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="imbalance"):
        imbalance.Imbalance().run(replace(SMALL, imbalance=(0.5,), out=tmp_path / "run"))
