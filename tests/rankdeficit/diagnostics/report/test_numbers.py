"""Numbers one by one: names, data sets, intervals, and tables of them as CSV."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest

import rankdeficit as rd
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.report.intervals import (
    Interval,
    auroc_interval,
    difference_of_independent,
    mcnemar,
    paired_auroc,
    wilson,
)
from rankdeficit.diagnostics.report.numbers import Number
from tests.rankdeficit.diagnostics.report.fabricated import Row, record

REPORT = Report(record())
NUMBERS = {own.name: own for own in REPORT.numbers()}


def test_every_number_goes_by_its_name_and_none_is_missing() -> None:
    assert len(NUMBERS) == len(REPORT.numbers())
    assert all(REPORT[name] == own.value for name, own in NUMBERS.items())

    def count(node: object) -> int:
        if isinstance(node, dict):
            return sum(
                count(value)
                for key, value in node.items()
                if key != "interval" and not key.endswith("_interval")
            )
        if isinstance(node, list):
            return sum(map(count, node))
        return isinstance(node, (int, float)) and not isinstance(node, bool)

    assert len(NUMBERS) == count(REPORT.record)


@pytest.mark.parametrize(
    ("name", "measure", "split", "layer"),
    [
        ("train.logits.rank_curve.0.001", "logits.rank_curve.0.001", "train", ""),
        ("layers.layer1.0.conv1.test.rank", "rank", "test", "layer1.0.conv1"),
        ("layers.stem.ood_probes.svhn.accuracy", "ood_probes.accuracy", "svhn", "stem"),
        ("layers.stem.probe.accuracy", "probe.accuracy", "test", "stem"),
        ("layers.stem.alignment", "alignment", "train", "stem"),
        ("detection.svhn.vim.auroc", "detection.vim.auroc", "svhn", ""),
        ("effective_depth.value", "effective_depth.value", "test", ""),
        ("neural_collapse.nc1", "neural_collapse.nc1", "train", ""),
        ("calibration.before.ece", "calibration.before.ece", "test", ""),
        ("conditions.seed", "conditions.seed", "", ""),
    ],
)
def test_names_are_taken_apart(name: str, measure: str, split: str, layer: str) -> None:
    assert NUMBERS[name][1:4] == (measure, split, layer)


def test_intervals_and_conventions_are_with_their_numbers() -> None:
    own = record()
    own["train"]["logits"] |= {
        "rank_interval": [2, 4],
        "conventions": {"centred_rank": "class-centred"},
    }
    own["layers"][0]["train"] |= {"convention": "matrix"}
    found = {number.name: number for number in Report(own).numbers()}
    assert found["train.logits.rank"][5:8] == (2, 4, "rounding")
    assert found["effective_depth.value"][5:7] == (0.5, 1.0)
    assert found["layers.stem.alignment"][5:7] == (0.1875, 0.3125)
    assert found["test.accuracy"][5:7] == tuple(wilson(0.875, 1000))
    assert found["detection.svhn.vim.auroc"][5:7] == tuple(auroc_interval(0.7, 1000, 500))
    assert found["train.logits.centred_rank_curve.0.1"].convention == "class-centred"
    assert found["layers.stem.train.rank_curve.0.1"].convention == "matrix"
    assert found["layers.stem.train.stable_rank"].convention == ""
    assert found["detection.svhn.neco-resnet.fpr_id_positive"].convention == "d = 9"
    assert found["detection.svhn.vim.auroc"].convention == ""
    assert found["calibration.before.nll"].low is None


def read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_brings_the_numbers_back(tmp_path: Path) -> None:
    own = record()
    own["layers"][1]["name"] = 'odd, "name"\nof a layer'
    report = Report(own)
    path = report.to_csv(tmp_path / "new" / "report.csv")
    rows = read(path)
    assert list(rows[0]) == list(Number._fields)
    assert {row["name"]: float(row["value"]) for row in rows} == {
        number.name: number.value for number in report.numbers()
    }
    assert [row["low"] for row in rows if row["name"] == "effective_depth.value"] == ["0.5"]


@pytest.mark.parametrize("path", ["", "file/below", "/proc/new", "n" * 300, "nul\0"])
def test_paths_that_cannot_be_written_are_refused_by_name(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    report = Report(record())
    bad = str(tmp_path / path)
    for write in (
        report.to_csv,
        rd.compare(report, report).to_csv,
        *([report.plot] * (path != "")),
    ):
        with pytest.raises(ValueError, match=r"path|folder"):
            write(bad)


def test_wilson_against_scipy_and_at_the_ends() -> None:
    for right, n in ((7, 10), (0, 5), (400, 400)):
        told = binomtest(right, n).proportion_ci(method="wilson")
        assert wilson(right / n, n) == pytest.approx((told.low, told.high))
    with pytest.raises(ValueError, match="sample"):
        wilson(0.5, 0)


def test_auroc_of_hanley_and_mcneil() -> None:
    """Their standard error for 0.9 of 50 and 50 samples is 0.0308; the interval is that on logits."""
    low, high = auroc_interval(0.9, 50, 50)
    assert low < 0.9 < high < 1
    assert auroc_interval(0.5, 10, 10).low == pytest.approx(1 - auroc_interval(0.5, 10, 10).high)
    narrow = auroc_interval(0.9, 5_000_000, 5_000_000)
    assert (narrow.high - narrow.low) / (2 * 1.959964) == pytest.approx(
        ((0.9 / 1.1 - 0.81 + 1.62 / 1.9 - 0.81) / 5_000_000) ** 0.5, rel=1e-3
    )
    assert auroc_interval(1.0, 3, 3) == (1, 1)


def test_difference_of_independent_shares() -> None:
    """Newcombe (1998), table II, method 10: 56/70 - 48/80 has the interval 0.0524 to 0.3339."""
    first, second = wilson(48 / 80, 80), wilson(56 / 70, 70)
    found = difference_of_independent(48 / 80, first, 56 / 70, second)
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_mcnemar_by_hand() -> None:
    """1 against 5: 2 (1 + 6) / 2^6 = 7/32. Equal counts, and none, give 1."""
    found = mcnemar(1, 5, 100)
    assert found.p == pytest.approx(7 / 32)
    assert found.difference.low < 0.04 < found.difference.high
    assert mcnemar(5, 1, 100).p == pytest.approx(7 / 32)
    assert mcnemar(5, 1, 100).difference == pytest.approx(
        Interval(-found.difference.high, -found.difference.low)
    )
    assert mcnemar(0, 0, 9).p == mcnemar(3, 3, 9).p == 1
    assert mcnemar(40, 70, 900).p == pytest.approx(2 * binom.cdf(40, 110, 0.5))
    for bad in ((-1, 3, 9), (5, 5, 9)):
        with pytest.raises(ValueError, match="samples"):
            mcnemar(*bad)


def test_paired_auroc_by_hand() -> None:
    """Group differences 0 and 2 have variance 2: the error is sqrt(2 / 2 + 0)."""
    interval, p = paired_auroc(1.0, np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    assert p == pytest.approx(0.5)  # t with one degree of freedom is Cauchy: P(|t| > 1)
    assert interval == pytest.approx((1 - 12.7062, 1 + 12.7062), abs=1e-3)
    assert paired_auroc(0.0, np.zeros(3), np.zeros(3)) == (Interval(0, 0), 1.0)
    with pytest.raises(ValueError, match="two"):
        paired_auroc(0.0, np.zeros(1), np.zeros(3))
