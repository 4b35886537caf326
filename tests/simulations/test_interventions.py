"""`python -m simulations.interventions`: norms that are known, and equivalent changes."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rankdeficit.experiments.runs import read_json
from simulations import hyperparameters, interventions
from simulations.interventions import Change, Settings, build, changes, data, train

SMALL = Settings(
    temperature=(10.0,), seeds=1, classes=5, samples_per_class=3, inputs=8, width=10, depth=3,
    steps=4, device="cpu",
)  # fmt: skip
CPU = torch.device("cpu")


def test_initial_norms_are_those_of_the_formulas(tmp_path: Path) -> None:
    folder = interventions.Interventions().run(replace(SMALL, out=tmp_path / "run"))
    summary = read_json(folder / "summary.json")
    runs = {run["name"]: run for run in summary["runs"]}
    assert len(runs) == len(changes(SMALL)) == len(summary["cells"])
    norm = runs["baseline"]["initial_norm"]
    expected = {
        "T = 10": norm / 10, "head x 0.1": norm / 10, "weights x 0.6": norm * 0.6**3,
        "learnable-temperature=30": norm / 30, "layer norm of logits": math.sqrt(5),
        "batch norm of logits": math.sqrt(5), "z-loss=0.1": norm, "z-loss=0.1 at T = 30": norm / 30,
    }  # fmt: skip
    for name, value in expected.items():
        assert runs[name]["initial_norm_seen"] == pytest.approx(value, rel=1e-3)
    assert runs["logit-norm=0.2"]["initial_norm"] == norm
    assert runs["logit-norm=0.2"]["initial_norm_seen"] == pytest.approx(5)
    assert runs["cosine-head=4"]["initial_norm"] <= 4 * math.sqrt(5)


def test_a_learnable_temperature_that_does_not_learn_is_a_temperature() -> None:
    """With all rates, but not that of T, as they are."""
    model, loss = build(SMALL, Change("", "", intervention=("learnable-temperature=10",)), 0)
    hot, plain = build(SMALL, Change("", "", temperature=10.0), 0)
    x, _, labels = data(SMALL)
    assert float(loss(model(x), labels).detach()) == pytest.approx(
        float(plain(hot(x), labels).detach()), rel=1e-6
    )


def test_a_change_is_the_same_in_both_simulations() -> None:
    """Initial weights, loss and optimiser of the batched networks are those of the modules."""
    same = hyperparameters.Settings(
        seeds=1, classes=5, samples_per_class=6, inputs=8, width=10, depth=3, steps=8, lr=SMALL.lr,
        temperature=(10.0,), device="cpu", intervention=("soft-cap=1e6",),
    )  # fmt: skip
    base, *others = hyperparameters.interventions(same)
    (batched,), (alone,) = (list(hyperparameters.train(same, one)) for one in (base, others[-1]))
    assert others[-1].intervention == "soft-cap=1e6"
    for name in ("loss", "initial_effective_norm", "effective_logits_norm", "stable_rank"):
        assert alone[name] == pytest.approx(batched[name], rel=1e-3)


def test_diverged_runs_have_no_measures() -> None:
    row = train(replace(SMALL, lr=1e30), Change("", "baseline"), 0, CPU)
    assert (row["outcome"], row["centred_rank"], row["ece"]) == ("diverged", None, None)


@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_one_line_and_leave_nothing(assert_refused: Callable[..., None]) -> None:
    assert_refused(interventions, ["--intervention", "soft-cap=0"], ["cap"])
    assert_refused(hyperparameters, ["--intervention", "z-los"], ["z-loss"])
    for module in (interventions, hyperparameters):
        assert_refused(module, ["--intervention", "soft-cap", "soft-cap=30.0"], ["twice"])
    for settings, word in (
        (replace(SMALL, lr=0.0), "lr"),
        (replace(SMALL, hot=0.0), "temperature"),
        (replace(SMALL, width=3, intervention=("simplex-head",)), "features"),
    ):
        with pytest.raises(ValueError, match=word):
            interventions.Interventions().build(settings)
