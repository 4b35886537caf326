"""The page on interventions and schedules has the numbers of its networks."""

import csv
from functools import cache

import pytest

from rankdeficit.control.ruler import Placed, Ruler, Trained
from tests.conftest import ROOT
from tests.real_nets.paper.evidence.spread import spread

FOLDER = ROOT / "real_nets" / "results" / "ruler"
PAGE = (FOLDER / "README.md").read_text()
Row = dict[str, str]


@cache
def networks() -> dict[tuple[str, float], list[Row]]:
    """By condition and temperature, in the order of the table."""
    found: dict[tuple[str, float], list[Row]] = {}
    with (FOLDER / "networks.csv").open() as file:
        for row in csv.DictReader(file):
            found.setdefault((row["condition"], float(row["temperature"])), []).append(row)
    return found


@cache
def placed() -> dict[str, Placed]:
    """Every intervention beside the curve."""
    trained = [
        Trained(
            condition,
            f"{condition}, T = {T:g}",
            int(row["seed"]),
            float(row["norm_seen"]) if row["norm_seen"] else None,
            float(row["centred_rank"]),
            row["learned"] == "True",
        )
        for (condition, T), own in networks().items()
        for row in own
    ]
    return {one.family: one for one in Ruler.of(trained).placed}


def line(condition: str, T: float, own: list[Row]) -> str:
    """One row of the table: medians and ranges over seeds."""
    columns = (
        ("initial_norm", 1, ".3g"), ("centred_rank", 1, ".0f"), ("kappa", 100, ".1f"),
        ("rho", 100, ".1f"), ("neco_auroc", 100, ".1f"), ("ece", 1, ".2f"),
        ("train_accuracy", 100, ".1f"), ("test_accuracy", 100, ".1f"),
    )  # fmt: skip
    cells = [
        spread([factor * float(row[name]) for row in own], form) for name, factor, form in columns
    ]
    return f"| {' | '.join([condition, f'{T:g}', *cells])} |"


def test_the_table_is_that_of_the_networks() -> None:
    assert len(networks()) == 28
    assert all(len(own) == 3 for own in networks().values())
    for (condition, T), own in networks().items():
        assert line(condition, T, own) in PAGE


@pytest.mark.parametrize(
    ("verdict", "names"),
    [
        ("follows", {"initial weights x 0.8"}),
        (
            "above",
            {
                "classifier x 0.1", "logit-norm=1", "encoder-entropy=0.05, hot", "schedule hot",
                "schedule down", "schedule cyclic", "schedule cosine",
            },
        ),
        ("below", {"schedule up"}),
        ("outside", {"elogit-norm"}),
    ],
)  # fmt: skip
def test_verdicts_of_the_ruler_are_those_told(verdict: str, names: set[str]) -> None:
    assert {name for name, one in placed().items() if one.verdict == verdict} == names


def values(condition: str, T: float, name: str) -> list[float]:
    return [float(row[name]) for row in networks()[condition, T]]


def test_comparisons_of_the_text_hold_in_every_seed() -> None:
    """Pairs by seed: the smaller comes first."""
    cold = ("temperature", 1.0)
    for name, smaller, larger in (
        ("rho", cold, ("temperature", 0.1)),
        ("rho", cold, ("temperature", 0.3)),
        ("rho", cold, ("temperature", 50.0)),
        ("rho", cold, ("schedule hot", 50.0)),
        ("rho", ("encoder-entropy=0.05, hot", 50.0), ("temperature", 50.0)),
        ("centred_rank", ("temperature", 50.0), ("encoder-entropy=0.05, hot", 50.0)),
        ("test_accuracy", ("schedule hot", 50.0), cold),
        ("test_accuracy", ("temperature", 50.0), ("encoder-entropy=0.05, hot", 50.0)),
        ("centred_rank", ("schedule up", 50.0), cold),
        ("centred_rank", ("schedule cyclic", 50.0), cold),
    ):
        pairs = zip(values(*smaller, name), values(*larger, name), strict=True)
        assert all(low < high for low, high in pairs), (name, smaller, larger)
    for schedule in ("schedule up", "schedule cyclic"):
        differences = [
            after - before
            for after, before in zip(
                values(schedule, 50.0, "test_accuracy"),
                values(*cold, "test_accuracy"),
                strict=True,
            )
        ]
        assert all(abs(one) < 0.005 for one in differences)
