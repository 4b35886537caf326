"""Merged classes by hand, and false variants of the threshold."""

from collections.abc import Callable
from fractions import Fraction

import pytest
from flint import arb, fmpq, fmpq_mat

from proofs import merging_classes
from proofs.claims import run_check
from proofs.merging_classes import CLAIM, Problem, averaged
from rankdeficit.toys.optima import merging_temperature

CHECKS = {check.name: check for check in CLAIM.checks}
PROBLEM = Problem(2, 2, (3,), fmpq(1, 100), fmpq(4, 100), fmpq(5))


def test_a_problem_by_hand() -> None:
    assert PROBLEM.labels == [0, 0, 1, 1, 2, 2, 2]
    half = fmpq(1, 2)
    assert PROBLEM.differences() == fmpq_mat(
        [[half, half, -half, -half, 0, 0, 0], [-half, -half, half, half, 0, 0, 0], [0] * 7]
    )
    assert averaged([[fmpq(1)], [fmpq(3)], [fmpq(7)]], range(2)) == [[2], [2], [7]]
    merged = PROBLEM.merged(fmpq_mat(3, 7, list(range(21))))
    assert (
        merged.table()[0]
        == merged.table()[1]
        == [5, 5, 5, 5, *(fmpq(2 * x + 7, 2) for x in (4, 5, 6))]
    )
    assert merged * PROBLEM.differences().transpose() == fmpq_mat(3, 3)


def test_the_library_has_the_same_temperature() -> None:
    found = merging_temperature(7, 2, 0.01, 0.04)
    assert found == pytest.approx(float(PROBLEM.critical_temperature.mid()))


VARIANTS: dict[str, tuple[str, Callable[[Problem, arb], arb]]] = {
    "half": ("merged_is_lower", lambda _, T: T / 2),
    "double": ("merged_is_no_minimum", lambda _, T: 2 * T),
    "q for its root": ("merged_is_no_minimum", lambda p, T: T * arb(p.own).sqrt()),
    "samples of K alone": (
        "merged_is_no_minimum",
        lambda p, T: T * len(p.labels) / (p.merging * p.own),
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_another_temperature_is_refuted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, change = VARIANTS[name]
    right = Problem.critical_temperature.fget
    assert right is not None
    monkeypatch.setattr(
        Problem, "critical_temperature", property(lambda problem: change(problem, right(problem)))
    )
    assert run_check(CHECKS[check]).verdict == "refuted"


@pytest.mark.parametrize(
    ("check", "temperatures", "relative"),
    [
        ("merged_is_lower", "HOT", Fraction(99, 100)),
        ("merged_is_no_minimum", "COLD", Fraction(101, 100)),
    ],
)
def test_the_other_side_of_the_threshold_is_refuted(
    check: str, temperatures: str, relative: Fraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging_classes, temperatures, [relative])
    assert run_check(CHECKS[check]).verdict == "refuted"
