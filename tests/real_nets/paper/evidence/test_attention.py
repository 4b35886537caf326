"""The page of evidence on attention's temperature has the numbers of its networks."""

import csv
from collections.abc import Sequence

import pytest

from tests.conftest import ROOT
from tests.real_nets.paper.evidence.spread import spread

FOLDER = ROOT / "real_nets" / "results" / "attention"
PAGE = (FOLDER / "README.md").read_text()
Row = dict[str, str]

NETWORK = (
    ("train_accuracy", 100, ".1f"), ("test_accuracy", 100, ".1f"), ("logits_norm", 1, ".1f"),
    ("stable_rank", 1, ".1f"), ("kappa", 100, ".1f"), ("rho_cifar100", 100, ".1f"),
    ("rho_street", 100, ".1f"), ("neco_cifar100", 100, ".1f"), ("neco_street", 100, ".1f"),
    ("ece", 100, ".1f"),
)  # fmt: skip
BLOCK = (
    ("spread", 1, ".2f"), ("entropy_share", 100, ".0f"), ("before", 1, ".1f"), ("after", 1, ".1f"),
)  # fmt: skip


def networks() -> dict[str, list[Row]]:
    """By setting, in the order of the tables."""
    found: dict[str, list[Row]] = {}
    with (FOLDER / "networks.csv").open() as file:
        for row in csv.DictReader(file):
            found.setdefault(row["attention"], []).append(row)
    return found


def line(setting: str, own: list[Row], columns: Sequence[tuple[str, int, str]], end: str) -> str:
    """One row of a table: medians and ranges over seeds. end: of the names of the columns."""
    cells = [
        spread([factor * float(row[name + end]) for row in own], form)
        for name, factor, form in columns
    ]
    return f"| {setting} | {' | '.join(cells)} |"


@pytest.mark.parametrize(("setting", "own"), networks().items())
def test_the_tables_are_those_of_the_networks(setting: str, own: list[Row]) -> None:
    assert [row["seed"] for row in own] == ["0", "1", "2"]
    assert line(setting, own, NETWORK, "") in PAGE
    for block in (1, 4):
        assert line(f"{setting} | {block}", own, BLOCK, f"_{block}") in PAGE


def test_all_have_full_class_centred_rank() -> None:
    for own in networks().values():
        assert {(row["centred_rank"], row["centred_rank_0.1"]) for row in own} == {("9", "9")}


def test_learnt_temperatures_are_told() -> None:
    learnt = [
        float(row[f"learnt_{block}"]) for row in networks()["learned"] for block in range(1, 5)
    ]
    assert f"between {min(learnt):.2f} and {max(learnt):.2f}" in PAGE
