"""`python -m simulations.explain`: planted explanations, exact equivalents, and tables of networks."""

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rankdeficit.control.dial.shares import from_logit
from simulations.dial.toys import INSIDE, Toys, draw
from simulations.explain import Settings
from simulations.explain.fits import (
    DRAWS,
    MODELS,
    Regression,
    features,
    held_out,
    interval,
    models_of,
    numbers_of,
    summarise,
)
from simulations.explain.report import sentences
from simulations.explain.rows import COLUMNS, follow, read_networks

SMALL = Settings(seeds=3, configurations=1, temperatures=2, trial=True, device="cpu")
Row = dict[str, Any]


def planted(logit: Callable[[Row], float], groups: int = 60, seed: int = 0) -> list[Row]:
    """Runs whose rank follows from their numbers."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for group in range(groups):
        shape = {
            "source": "deep UFM",
            "group": f"g{group}",
            "optimizer": "sgd",
            "homogeneous": True,
            "lr": float(np.exp(random.uniform(-4, 0))),
            "decay": float(np.exp(random.uniform(-12, -6))),
            "depth": int(random.integers(2, 7)),
            "width": 50,
            "classes": 41,
            "steps_after": 100,
            "full_rank": 40,
        }
        for _ in range(4):
            T = float(np.exp(random.uniform(0, 5)))
            row = shape | {"temperature": T, "norm": float(np.exp(random.normal())) / T}
            rows.append(row | {"rank": round(float(from_logit(logit(row), 40)))})
    return rows


def test_what_follows_from_the_norm_leaves_nothing_to_temperature() -> None:
    rows = planted(lambda row: math.log(row["norm"]))
    (found,) = summarise(rows)["sources"]
    assert found["gains"]["norm beyond T"][1] > 0
    assert found["gains"]["T beyond the norm"][0] < 0.005
    slope, low, high = found["coefficients"]["norm"]
    assert low <= slope <= high
    assert low > 0
    assert found["errors"]["others, norm"]["r2"] > 0.9 > found["errors"]["others"]["r2"]
    assert any(
        "norm beyond T helps" in own for own in sentences({"stalled": 0, "sources": [found]})
    )


def test_temperature_may_act_through_the_rate_alone() -> None:
    """A rank that depends on the equivalent rate: T helps beside the rate, not beside the equivalent."""
    rows = planted(
        lambda row: math.log(row["lr"]) + 2 - 2 * math.log(row["temperature"]) / row["depth"]
    )
    (found,) = summarise(rows)["sources"]
    assert found["gains"]["T beyond the norm"][1] > 0
    assert found["gains"]["T beyond the norm and equivalent rates"][0] < 0.005


def test_runs_that_are_equivalent_have_equal_numbers() -> None:
    row = planted(lambda row: 0.0, groups=1)[0]
    heat = row["temperature"] ** (1 / row["depth"])
    for optimizer, power in (("sgd", 2), ("adam", 1)):
        hot = row | {"optimizer": optimizer}
        cold = hot | {
            "temperature": 1.0,
            "lr": row["lr"] / heat**power,
            "decay": row["decay"] * heat**2,
        }
        one, other = numbers_of(hot), numbers_of(cold)
        for name in ("equivalent lr", "equivalent decay", "norm", "depth", "steps after"):
            assert one[name] == pytest.approx(other[name])


def test_stalled_runs_take_no_part_and_numbers_that_some_lack_are_left_out() -> None:
    rows = planted(lambda row: 0.0, groups=9)
    stalled = [row | {"steps_after": 0, "rank": 40, "group": "stalled"} for row in rows[:4]]
    found = summarise(rows + stalled)
    assert found["stalled"] == 4
    assert found["sources"][0]["groups"] == 9
    unknown = [row | {"steps_after": None} for row in rows]
    assert "steps after" in models_of(rows)["others"]
    assert "steps after" not in models_of(rows + unknown)["others"]
    (other,) = summarise(unknown)["sources"]
    assert other["left_out"] == ["steps after"]
    assert summarise(rows[:8])["sources"] == []  # two groups


def test_a_prediction_without_numbers_is_the_mean_and_intervals_are_of_groups() -> None:
    rows = planted(lambda row: 0.0, groups=3)
    x, groups = features(rows, MODELS["nothing"]), [row["group"] for row in rows]
    fitted = Regression(x, np.zeros(len(rows)), groups)
    assert fitted.shares(x[:1], np.array([40.0])) == pytest.approx(0.5)
    values = np.array([1.0, 1.0, 1.0, 5.0])
    mean, low, high = interval(values, ["a", "a", "a", "b"])
    assert (mean, low, high) == (3.0, 1.0, 5.0)


def test_errors_are_means_over_draws_of_folds() -> None:
    rows = planted(lambda row: math.log(row["norm"]), groups=12)
    read = models_of(rows)["others, norm, T"]
    shares = np.array([row["rank"] / row["full_rank"] for row in rows])
    predicted = held_out(rows, read)
    assert predicted.shape == (DRAWS, len(rows))
    assert len({tuple(own) for own in predicted}) > DRAWS / 2
    (found,) = summarise(rows)["sources"]
    error, _, _ = found["errors"]["others, norm, T"]["error"]
    assert error == pytest.approx(float(abs(predicted - shares).mean()))


def test_toys_give_what_they_started_from() -> None:
    shape, runs = draw("ufm", INSIDE, 0, 1, 2)
    shape = replace(shape, classes=5, width=8, depth=2, samples_per_class=3, steps=40)
    rows = list(follow(Toys(shape, runs), 7, 1e-2, torch.device("cpu")))
    assert [row["temperature"] for row in rows] == [run.temperature for run in runs]
    assert {(row["group"], row["depth"], row["full_rank"]) for row in rows} == {("ufm 7.0", 3, 4)}
    norms = [row["norm"] * row["temperature"] for row in rows]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)  # one start at both temperatures
    with pytest.raises(ValueError, match=r"gamma is 0\.5"):
        next(follow(Toys(shape, runs), 7, 0.5, torch.device("cpu")))


def write(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "gamma"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_networks_come_from_a_table(tmp_path: Path) -> None:
    row = planted(lambda row: 0.0, groups=1)[0] | {"gamma": 0.01, "source": "network"}
    unknown = row | {"steps_after": "", "homogeneous": False}
    first, second = read_networks(write(tmp_path / "a.csv", [row, unknown]), 1e-2)
    assert numbers_of(first) == pytest.approx(numbers_of(row))
    assert (second["steps_after"], second["homogeneous"]) == (None, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"norm": "x"}, "line 2.*'x'"),
        ({"norm": 0}, "line 2.*norm is 0"),
        ({"rank": -1}, "rank is -1"),
        ({"lr": math.inf}, "lr is inf"),
        ({"gamma": 0.5}, "--gamma 0.5"),
    ],
)
def test_bad_tables_name_the_line(change: Row, words: str, tmp_path: Path) -> None:
    row = planted(lambda row: 0.0, groups=1)[0] | {"gamma": 0.01}
    with pytest.raises(ValueError, match=words):
        read_networks(write(tmp_path / "a.csv", [row | change]), 1e-2)


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("group,norm\n1,2\n")
    with pytest.raises(ValueError, match="lacks the columns classes"):
        read_networks(tmp_path / "b.csv", 1e-2)
    with pytest.raises(ValueError, match="cannot be read"):
        read_networks(tmp_path / "c.csv", 1e-2)
