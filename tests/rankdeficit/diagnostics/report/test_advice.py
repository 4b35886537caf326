"""Each rule of advice on a report that shows its sign and on one that misses it."""

import re
from pathlib import Path
from typing import Any

import pytest

import rankdeficit as rd
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.report.advice import rules
from rankdeficit.diagnostics.report.row_advice import ROW_RULES
from tests.rankdeficit.diagnostics.report.fabricated import interval, record

UNIFORM = 1.791759469228055  # ln 6
CURVE = "train/logits/centred_rank_curve"
PAGE = Path(rd.diagnostics.__file__).parent / "ADVICE.md"


def healthy(**changes: Any) -> dict[str, Any]:
    """A record without signs of trouble, with other values at paths of keys."""
    own = record()
    own["train"]["logits"] |= {"centred_rank": 5, "effective_logits_norm": 12.0}
    own["train"]["logits"]["centred_rank_curve"] = dict.fromkeys(
        own["train"]["logits"]["centred_rank_curve"], 5
    )
    own["ood_drop"]["svhn"] = interval(0.01, 0.0, 0.02)
    own["calibration"]["temperatures"] = [49.0, 52.0]
    for path, value in changes.items():
        node: Any = own
        *parents, last = path.split("/")
        for key in parents:
            node = node[key]
        node[last] = value
    return own


def names(**changes: Any) -> set[str]:
    return {own.name for own in Report(healthy(**changes)).advice()}


NORM, T = "train/logits/effective_logits_norm", "conditions/temperature"
SHOWN: dict[str, list[dict[str, Any]]] = {
    "stalled": [{"train/loss": 0.99 * UNIFORM, NORM: 0.5}, {"train/loss": 1.01 * UNIFORM, NORM: 0.1}],
    "small logits": [{"train/loss": 0.9 * UNIFORM, NORM: 0.9}, {"train/loss": 1.2 * UNIFORM, NORM: 0.9}],
    "collapsed": [{"train/logits/centred_rank": 4}],
    "collapsed at baseline": [
        {"train/logits/centred_rank": 4, T: 1.0, "calibration/temperatures": [1.0, 1.0]}
    ],
    "not interpolating": [{"train/accuracy": 0.998}],
    "rank depends on gamma": [{f"{CURVE}/0.01": 3}],
    "over-confident": [{"calibration/temperatures": [56.0, 60.0]}],
    "transfer lost": [{"ood_drop/svhn": interval(0.5, 0.4, 0.6)}],
}  # fmt: skip
MISSED: list[dict[str, Any]] = [
    {},
    {"train/loss": UNIFORM, NORM: 1.5},
    {"train/loss": 0.4 * UNIFORM, NORM: 0.5},
    {"train/samples": 5, "train/logits/centred_rank": 4},
    {"train/accuracy": 0.999},
    {f"{CURVE}/0.01": 4},
    {f"{CURVE}/0.03": 1},
    {"calibration/temperatures": [54.0, 70.0]},
    {"calibration/temperatures": []},
    {"ood_drop/svhn": interval(0.5, 0.0, 0.6)},
    {"ood_drop": {}, "calibration": None},
    {"train/logits": None, "train/accuracy": 0.5},
    {"train/loss": None, NORM: None},
]


@pytest.mark.parametrize(
    ("name", "changes"), [(name, own) for name, found in SHOWN.items() for own in found]
)
def test_a_sign_is_told_alone(name: str, changes: dict[str, Any]) -> None:
    assert names(**changes) == {name}


@pytest.mark.parametrize("changes", MISSED)
def test_a_sign_that_is_missing_is_not_told(changes: dict[str, Any]) -> None:
    assert names(**changes) == set()


def test_every_rule_has_a_report_that_shows_it() -> None:
    assert list(SHOWN) == rules()


def test_the_advice_names_numbers_and_the_best_layer() -> None:
    (found,) = Report(healthy(**SHOWN["transfer lost"][0])).advice()
    assert "layer1.0.conv1" in found.found
    assert "50%" in found.found
    assert "svhn" in str(found)
    assert found.remedy in str(found)


def test_reports_without_advice_have_no_heading() -> None:
    assert "What to try" not in str(Report(healthy()))


def rates(table: str) -> dict[str, list[float]]:
    """Rates of the rows of the table, by rule."""
    rows = [line.split("|") for line in table.strip().splitlines()[2:]]
    pairs = {row[1].strip(): re.findall(r"(\d+) of (\d+)", "|".join(row[3:])) for row in rows}
    return {name: [int(a) / int(b) for a, b in found] for name, found in pairs.items()}


@pytest.mark.slow
def test_the_rates_are_those_of_the_page() -> None:
    from tests.rankdeficit.diagnostics.report import advice_rates

    page = rates(PAGE.read_text().split("<!-- rates -->")[1].split("<!-- end of rates -->")[0])
    found = rates(advice_rates.table())
    assert page.keys() == found.keys() == {*rules(), *ROW_RULES}
    for name, own in found.items():
        assert page[name] == pytest.approx(own, abs=0.1), name
