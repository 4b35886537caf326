"""Comparisons: direction, spread, what the paper has, and why there may be no verdict."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit.correlation import Correlation
from rankdeficit.page.numbers import format_share
from real_nets.jobs.folder import JobFolder
from real_nets.paper.chance import Cause, Check
from real_nets.paper.compare import (
    Comparison,
    Direction,
    Evidence,
    Measure,
    NoVerdict,
    Spread,
    Verdict,
    agreement,
    compare,
    correlation,
    sign,
    tally,
)
from tests.real_nets.paper.networks import network, pair_of

BEYOND, WITHIN, ONE = "beyond the spread", "within the spread", "single seed"
ALIKE = "alike"


def of(
    before: Sequence[float],
    after: Sequence[float],
    expected: Direction | None = None,
    check: Check | None = None,
    **summary: float,
) -> Comparison:
    """The comparison of networks with these values."""
    cold, hot = ([network(value=one, **summary) for one in own] for own in (before, after))
    measure = Measure("κ", lambda one: one.summary["value"], format_share, expected, check)  # type: ignore[typeddict-item]
    return compare(pair_of(cold, hot), measure)


@pytest.mark.parametrize(
    ("before", "after", "expected", "moved", "evidence", "verdict"),
    [
        ([0.9, 1.0], [0.5, 0.6], -1, -1, BEYOND, Verdict.AGREES),
        ([0.5, 0.6], [0.9, 1.0], -1, 1, BEYOND, Verdict.DIFFERS),
        ([0.5, 0.6], [0.9, 1.0], 0, 1, BEYOND, Verdict.DIFFERS),
        ([0.5, 0.9], [0.4, 0.6], -1, -1, WITHIN, Verdict.OPEN),
        ([0.5, 0.6], [0.5, 0.5], 1, -1, WITHIN, Verdict.OPEN),
        ([0.9], [0.5], -1, -1, ONE, Verdict.AGREES),
        ([0.9], [0.5, 0.6], 1, -1, ONE, Verdict.DIFFERS),
        ([0.5, 0.7], [0.6, 0.6], -1, 0, WITHIN, Verdict.OPEN),
        ([0.6, 0.6, 0.7], [0.6, 0.6, 0.6], 0, 0, WITHIN, Verdict.OPEN),
        ([0.50001, 0.5], [0.50003, 0.50002], 0, 0, ALIKE, Verdict.AGREES),  # all are written 50.0%
        ([0.50001, 0.5], [0.50003, 0.50002], 1, 0, ALIKE, Verdict.DIFFERS),
        ([0.5], [0.5], 0, 0, ONE, Verdict.AGREES),
        ([0.50001], [0.50003], 1, 0, ONE, Verdict.DIFFERS),  # both are written 50.0%
        ([0.9, 1.0], [0.5, 0.6], None, -1, BEYOND, Verdict.UNCLAIMED),
        ([0.5, 0.9], [0.4, 0.6], None, -1, WITHIN, Verdict.OPEN),
        ([0.5], [0.5], None, 0, ONE, Verdict.UNCLAIMED),
    ],
)
def test_verdicts(
    before: list[float],
    after: list[float],
    expected: Direction | None,
    moved: Direction,
    evidence: Evidence,
    verdict: Verdict,
) -> None:
    found = of(before, after, expected)
    assert (found.moved, found.evidence, found.verdict) == (moved, evidence, verdict)


values = st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=1, max_size=4)


@given(values, values, st.sampled_from([-1, 0, 1, None]))
def test_the_other_way_round_everything_moves_the_other_way(
    before: list[float], after: list[float], expected: Direction | None
) -> None:
    back: Direction | None = None if expected is None else sign(float(-expected))
    one, other = of(before, after, expected), of(after, before, back)
    assert one.moved == -other.moved
    assert (one.evidence, one.verdict) == (other.evidence, other.verdict)
    assert (one.before, one.after) == (other.after, other.before)


def test_spreads_are_medians_with_their_range() -> None:
    found = of([0.9, 0.5, 0.6], [0.1, 0.2])
    assert found.before == Spread(0.6, 0.5, 0.9, 3)
    assert found.after == pytest.approx((0.15, 0.1, 0.2, 2))


@pytest.mark.parametrize(("before", "after"), [([], [0.5]), ([0.5], []), ([], [])])
def test_no_verdict_without_numbers_on_both_sides(before: list[float], after: list[float]) -> None:
    found = of(before, after, 1)
    assert found.no_verdict == NoVerdict(Cause.NOT_MEASURED)
    assert found.verdict is Verdict.NONE
    assert tally([found]) == {}


@pytest.mark.parametrize(
    ("cold", "hot", "unequal"),
    [(1.0, 0.951, False), (0.9, 0.9501, True), (0.9, 1.0, True), (0.2, 0.1, True)],
)
def test_train_accuracies_are_unequal_from_five_points_on(
    cold: float, hot: float, unequal: bool
) -> None:
    sides = ([network(accuracy=own)] for own in (cold, hot))
    found = compare(pair_of(*sides), Measure("", lambda one: 1.0, format_share))
    assert found.train_accuracies == (cold, hot)
    assert found.unequal == unequal
    assert not of([0.1], [0.2]).unequal  # of accuracies that nobody measured


def blind(one: JobFolder) -> bool:
    return one.summary["value"] > 0.3  # type: ignore[typeddict-item]


def test_a_failed_check_leaves_no_verdict() -> None:
    check = Check(Cause.LAST_PROBE, blind, lambda one: 0.25)
    found = of([0.2, 0.5, 0.1], [0.9, 0.9], 1, check)
    assert found.no_verdict == NoVerdict(Cause.LAST_PROBE, (2, 0), 0.25)
    assert found.verdict is Verdict.NONE
    assert of([0.5, 0.4], [0.9, 0.9], 1, check).verdict is Verdict.AGREES


@pytest.mark.parametrize("summary", [{"accuracy": 0.12}, {"accuracy": 0.9, "outcome": "stalled"}])
def test_networks_at_chance_bear_no_verdict_whatever_else_they_fail(
    summary: dict[str, float],
) -> None:
    check = Check(Cause.LAST_PROBE, blind, lambda one: 0.25)
    found = of([0.1], [0.2, 0.2], 1, check, **summary)
    assert found.no_verdict == NoVerdict(Cause.UNTRAINED, (1, 2), 0.1)


def test_verdicts_are_counted_where_the_paper_has_a_direction() -> None:
    found = [
        of([0.9, 0.9], [0.5, 0.5], -1),
        of([0.9, 0.9], [0.5, 0.5], 1),
        of([0.9, 0.9], [0.5, 0.5], 0),
        of([0.5, 0.9], [0.6, 0.6], 1),
        of([0.5, 0.9], [0.6, 0.6], None),
        of([0.9], [0.5], -1, accuracy=0.1),
    ]
    assert tally(found) == {
        Verdict.AGREES: 1, Verdict.DIFFERS: 2, Verdict.OPEN: 1, Verdict.NONE: 1,
    }  # fmt: skip


def test_correlations_need_points_that_differ() -> None:
    points = [(1.0, 4.0), (2.0, 3.0), (3.0, 1.0), (4.0, 2.0)]
    found = correlation(points)
    assert found is not None
    assert (found.rho, found.n) == (pytest.approx(-0.8), 4)
    assert correlation(points[:3]) is None
    assert correlation([(1.0, y) for _, y in points]) is None
    assert correlation([(x, 1.0) for x, _ in points]) is None
    assert correlation([]) is None


@pytest.mark.parametrize(
    ("rho", "p", "verdict"),
    [
        (0.9, 0.01, Verdict.AGREES),
        (-0.9, 0.01, Verdict.DIFFERS),
        (0.2, 0.3, Verdict.OPEN),
        (-0.2, 0.3, Verdict.OPEN),
        (0.5, float("nan"), Verdict.OPEN),
    ],
)
def test_correlations_that_may_be_chance_are_open(rho: float, p: float, verdict: Verdict) -> None:
    assert agreement(Correlation(rho, p, 20)) is verdict
