"""simulations.ufm: sweeps, learnable temperatures and interventions on the logits."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rankdeficit.experiments import runs
from rankdeficit.softmax import cross_entropy
from simulations.ufm import Settings, Ufm

SMALL = Settings(
    temperature=(30.0,), depth=(2,), seeds=2, classes=4, samples_per_class=3, width=6, steps=40,
    dtype="float64", device="cpu",
)  # fmt: skip


def test_a_sweep_trains_what_its_values_train_alone() -> None:
    options = ("lr=0.003,0.03", "weight-decay=0,1e-3", "label-noise=0,0.2", "init-scale=0.5,1")
    swept = Ufm().results(replace(SMALL, sweep=options)).summary
    assert len(swept["runs"]) == 2 * 2 * 16
    assert swept["swept"] == ["lr", "weight_decay", "label_noise", "init_scale"]
    own = {"lr": 0.03, "weight_decay": 1e-3, "label_noise": 0.2, "init_scale": 0.5}
    alone = Ufm().results(replace(SMALL, **own)).summary["runs"]
    found = [run for run in swept["runs"] if {**run, **own} == run]
    assert len(found) == len(alone) == 4
    for one, other in zip(found, alone, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-10)
        assert one["singular_values"] == pytest.approx(other["singular_values"], rel=1e-8)


def test_a_sweep_over_shapes_and_momentum() -> None:
    options = ("width=3,6", "classes=3,4", "imbalance=1,3", "momentum=0,0.9")
    settings = replace(SMALL, sweep=options, optimizer="sgd", lr=0.1, seeds=1, baseline=False)
    swept = Ufm().results(settings).summary["runs"]
    assert len({(r["width"], r["classes"], r["imbalance"], r["momentum"]) for r in swept}) == 16
    assert len({run["loss"] for run in swept}) == 16
    for run in swept:
        assert run["neural_collapse_rank"] == min(run["classes"] - 1, run["width"])
        assert len(run["singular_values"]) == run["classes"]


def test_a_sweep_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = replace(SMALL, sweep=("width=10,6",), depth=(1, 2))
    folder = Ufm().run(replace(settings, out=tmp_path / "run"))
    rows, summary = runs.read_rows(folder), runs.read_json(folder / "summary.json")
    figures = Ufm().figures(rows, summary)
    assert [axes.get_xlabel() for axes in figures["sweep"].axes] == ["width"]
    output = capsys.readouterr().out
    places = [output.index(f"L = {L}, width {w}") for L in (2, 3) for w in (10, 6)]
    assert places == sorted(places)
    assert {row["width"] for row in rows} == {6, 10}


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (("lr=1,1",), "twice"),
        (("lr=1", "lr=2"), "twice"),
        (("foo=1",), "sweep has no option 'foo'; choose from"),
        (("temperature=1,2",), "sweep has no option 'temperature'"),
        (("lr=a",), "lr=a; pass numbers"),
        (("width=3.5",), "width=3.5; pass whole numbers"),
        (("lr",), "NAME=VALUE"),
        (("steps=10,20",), "sweep has no option 'steps'"),
        (("momentum=0,0.5",), "no effect with --optimizer adam"),
        (("lr=-1,1",), "lr"),
        (("label-noise=2",), "noise"),
    ],
)
def test_sweeps_that_make_no_sense_are_refused(sweep: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ufm().build(replace(SMALL, sweep=sweep))


def test_a_learnt_temperature_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = replace(SMALL, learn_temperature=True, out=tmp_path / "run")
    folder = Ufm().run(settings)
    for run in runs.read_json(folder / "summary.json")["runs"]:
        assert 0 < run["learnt_temperature"] != run["temperature"]
        ratio = run["logits_norm"] / run["effective_logits_norm"]
        assert ratio == pytest.approx(run["learnt_temperature"])
    told = r"Training changed the temperature from 1 to [\d.]+.*, from 30 to [\d.]+.* \(depth 2\)\."
    assert re.search(told, capsys.readouterr().out)


def test_logit_norm_trains_on_logits_of_its_norm() -> None:
    settings = replace(SMALL, intervention=("logit-norm=0.2",), label_noise=0.1)
    (batch,) = Ufm().build(settings)
    for _ in range(5):
        batch.step()
    logits = batch.model.logits().clone()
    for run, T in zip(range(4), (1.0, 1.0, 30.0, 30.0), strict=True):
        unit = logits[run] / logits[run].norm(dim=-1, keepdim=True) / 0.2
        targets = 0.9 * torch.eye(4, dtype=torch.float64).repeat_interleave(3, 0) + 0.1 / 4
        expected = cross_entropy(unit, targets, T)
        assert batch.model.data_loss(logits)[run].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_loss_by_autograd_runs_on_any_device(stand_in_device: torch.device) -> None:
    settings = replace(
        SMALL, intervention=("logit-norm=0.2", "soft-cap"), sweep=("label-noise=0,0.1",)
    )
    trained = []
    for device in ("cpu", str(stand_in_device)):
        (batch,) = Ufm().build(replace(settings, device=device))
        batch.step()
        trained.append(batch.measure(1))
    assert trained[0] == trained[1]


def test_a_bounded_loss_is_not_called_stalled(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = replace(SMALL, intervention=("logit-norm=10",), steps=300, lr=0.03)
    folder = Ufm().run(replace(settings, out=tmp_path / "run"))
    hot = [
        run for run in runs.read_json(folder / "summary.json")["runs"] if run["temperature"] == 30
    ]
    for run in hot:
        assert run["accuracy"] == 1
        assert abs(run["loss"] / math.log(4) - 1) < 0.01
        assert run["outcome"] == "interpolated"
    assert (
        "Trained with intervention logit-norm=10; diagnosed are raw logits"
        in capsys.readouterr().out
    )


def test_a_soft_cap_is_what_is_measured() -> None:
    runs_of = (
        Ufm().results(replace(SMALL, intervention=("soft-cap=0.5",), steps=200)).summary["runs"]
    )
    for run in runs_of:
        assert 0 < run["logits_norm"] <= 0.5 * 4**0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intervention": ("cosine-head",)}, "cosine-head acts on features"),
        ({"intervention": ("elogit-norm",)}, "elogit-norm acts on features"),
        ({"intervention": ("encoder-entropy",)}, "encoder-entropy acts on features"),
        (
            {"intervention": ("learnable-temperature",)},
            "a learnable temperature is --learn-temperature",
        ),
        ({"intervention": ("z-loss",), "learn_temperature": True}, "trains at fixed temperatures"),
    ],
)
def test_interventions_on_more_than_logits_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Ufm().build(replace(SMALL, **changes))  # type: ignore[arg-type]
