"""`python -m simulations.hyperparameters`: initial norms and what they predict."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rankdeficit.experiments.runs import read_json
from simulations import hyperparameters
from simulations.hyperparameters import Settings, interventions
from simulations.hyperparameters.report import FAR_BELOW, draw_ranks
from simulations.hyperparameters.summary import correlations, read_off

SMALL = Settings(
    temperature=(10.0, 100.0), seeds=2, classes=5, samples_per_class=3, inputs=8, width=10, depth=3,
    steps=20, device="cpu",
)  # fmt: skip


def test_interventions_change_one_thing_each_and_have_their_own_names() -> None:
    changes = interventions(SMALL)
    assert len({change.name for change in changes}) == len(changes)
    base = changes[0]
    for change in changes[1:]:
        plain = replace(change, family=base.family, name=base.name)
        differing = [name for name in vars(base) if getattr(plain, name) != getattr(base, name)]
        assert len(differing) == 1, change


def test_read_off_is_linear_in_the_logarithm() -> None:
    curve = [(0.01, 10.0), (1.0, 30.0)]
    assert read_off(curve, 0.1) == pytest.approx(20)
    assert read_off(curve, 0.001) is None
    assert read_off(curve, 2.0) is None
    assert read_off([], 1.0) is None


def test_correlations_leave_out_what_does_not_interpolate() -> None:
    cells = [
        {"family": family, "initial_effective_norm": norm, "rank": rank, "interpolated": done, "runs": 2}
        for family, norm, rank, done in (
            ("temperature", 1.0, 5, 2), ("init scale", 2.0, 6, 2), ("init scale", 3.0, 7, 2),
            ("width", 4.0, 8, 2), ("normalisation", 5.0, 2, 2), ("depth", 6.0, 1, 1),
        )
    ]  # fmt: skip
    found = correlations(cells)
    assert found["without temperature and normalisation"]["n"] == 3
    assert found["without temperature and normalisation"]["rho"] == pytest.approx(1)
    assert found["all"]["n"] == 5
    assert found["all"]["rho"] < 1


def test_points_are_drawn_at_their_initial_norms_and_no_lower_than_the_figure() -> None:
    cells = [
        {"name": name, "family": name, "initial_effective_norm": norm, "rank": 3, "rank_range": [3, 3],
         "interpolated": 2, "runs": 2, "predicted_rank": None}
        for name, norm in (("a", 2.0), ("b", 0.5), ("c", 0.0))
    ]  # fmt: skip
    summary = {
        "cells": cells, "curve": [], "curve_family": "a", "neural_collapse_rank": 4, "gamma": 0.01,
    }  # fmt: skip
    (axes,) = draw_ranks(summary).axes
    drawn = {x.get_label(): list(x.get_xdata()) for x in axes.get_lines()}
    assert [drawn[name] for name in "abc"] == [[2.0], [0.5], [FAR_BELOW]]


def test_initial_norms_scale_as_they_must(tmp_path: Path) -> None:
    """By the D-th power of the init scale in a ReLU network, and by 1/T."""
    summary = read_json(
        hyperparameters.Hyperparameters().run(replace(SMALL, out=tmp_path / "run")) / "summary.json"
    )
    norms = {cell["name"]: cell["initial_effective_norm"] for cell in summary["cells"]}
    assert norms["T = 100"] == pytest.approx(norms["baseline"] / 100, rel=1e-5)
    assert norms["init scale 0.6"] == pytest.approx(norms["baseline"] * 0.6**3, rel=1e-5)
    assert norms["head 1e-12"] < 1e-10
    assert norms["layer norm of logits"] == pytest.approx(math.sqrt(5), rel=1e-3)


def test_a_small_init_ends_with_the_rank_of_the_temperature_of_its_norm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        hyperparameters,
        "interventions",
        lambda settings: [
            change
            for change in interventions(settings)
            if change.family in ("temperature", "init scale")
        ],
    )
    settings = Settings(
        temperature=(10.0, 100.0), seeds=2, classes=20, samples_per_class=4, inputs=24, width=40,
        depth=5, steps=250, lr=2e-3, device="cpu", out=tmp_path / "run",
    )  # fmt: skip
    summary = read_json(hyperparameters.Hyperparameters().run(settings) / "summary.json")
    cells = {cell["name"]: cell for cell in summary["cells"]}
    scaled = cells["init scale 0.6"]
    assert scaled["interpolated"] == 2
    assert scaled["rank"] < cells["baseline"]["rank"]
    assert scaled["rank"] == pytest.approx(scaled["predicted_rank"], rel=0.25)
    assert summary["correlations"]["all"]["rho"] > 0.5


@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_one_line_and_leave_nothing(assert_refused: Callable[..., None]) -> None:
    assert_refused(hyperparameters, ["--depth", "1"], ["depth"])
    for settings, word in (
        (replace(SMALL, lr=0.0), "lr"),
        (replace(SMALL, classes=1), "classes"),
        (replace(SMALL, temperature=()), "temperature"),
        (replace(SMALL, separation=-1.0), "separation"),
    ):
        with pytest.raises(ValueError, match=word):
            hyperparameters.Hyperparameters().build(settings)
