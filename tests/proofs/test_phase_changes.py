"""The certified least objectives against the library's optimiser and the two-factor optimum."""

import math
from collections.abc import Callable

import pytest
from flint import arb, ctx, fmpq

from proofs.phase_changes import ETF_TO_PAIRS, PAIRS_TO_ZERO, cost_slope, least, local_minimum
from proofs.structures import Structure, below, circle, etf, pairs, petersen
from rankdeficit import constructions
from rankdeficit.toys.optima import best_scale, two_factor_optimum


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: etf(10), constructions.simplex_etf(10)),
        (lambda: pairs(10), constructions.pairs(10)),
        (lambda: circle(10), constructions.circle(10)),
        (petersen, constructions.petersen()),
    ],
)
@pytest.mark.parametrize("factors", [2, 4, 8])
def test_least_objective_is_the_library_s(
    make: Callable[[], Structure], code: constructions.Code, factors: int
) -> None:
    expected = best_scale(code, factors, 1, 1.0, 1e-3).value
    with ctx.workprec(128):
        ours = least(make(), factors, fmpq(1, 1000))
    assert float(ours.rad()) < 1e-15
    assert float(ours) == pytest.approx(expected, abs=1e-10)


def test_etf_with_two_factors_is_the_global_minimum() -> None:
    expected = two_factor_optimum(10, 1, 1.0, 1e-3, 1e-3).value
    assert float(least(etf(10), 2, fmpq(1, 1000))) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("structure", [etf(6), pairs(6), circle(6)])
@pytest.mark.parametrize("factors", [2, 3, 5])
def test_lower_bound_is_below_the_least_objective(structure: Structure, factors: int) -> None:
    decay = fmpq(1, 10**6)
    bound, value = below(structure, factors, arb(decay)), least(structure, factors, decay)
    assert 0 < bound < value


@pytest.mark.parametrize("structure", [etf(6), pairs(6), circle(6)])
@pytest.mark.parametrize("factors", [2, 3, 5, 10])
def test_lower_bound_is_tight_at_tiny_decay(structure: Structure, factors: int) -> None:
    """Where the crossovers are certified: within a tenth of the objective near its minimum."""
    decay = arb(10) ** -(10**7)
    near = structure.objective(-decay.log() / structure.margin, factors, decay)
    ratio = below(structure, factors, decay) / near
    assert 0.9 < float(ratio) < 1


def test_zero_is_best_at_large_decay() -> None:
    assert float(least(pairs(4), 3, fmpq(1, 4))) == pytest.approx(math.log(4))


def test_local_minimum_is_the_least_where_it_is_below_zero() -> None:
    with ctx.workprec(256):
        for structure in (etf(4), pairs(4)):
            assert local_minimum(structure, fmpq(1, 50)).overlaps(least(structure, 3, fmpq(1, 50)))
        with pytest.raises(ValueError, match="lambda_eff"):
            local_minimum(etf(4), fmpq(1, 2))


@pytest.mark.parametrize("threshold", [ETF_TO_PAIRS, PAIRS_TO_ZERO])
def test_library_sees_the_phase_changes(threshold: fmpq) -> None:
    codes = [constructions.simplex_etf(4), constructions.pairs(4)]
    decay = float(threshold.p) / float(threshold.q)
    winners = []
    for factor in (1 - 1e-4, 1 + 1e-4):
        values = [best_scale(code, 3, 1, 1.0, decay * factor).value for code in codes]
        winners.append(min((v, i) for i, v in enumerate([*values, math.log(4) - 1e-12]))[1])
    assert winners == ([0, 1] if threshold == ETF_TO_PAIRS else [1, 2])


def test_cost_slope_is_the_derivative_of_the_cost() -> None:
    a, step = arb(2), arb(2) ** -12
    difference = (petersen().cost(a + step, 5) - petersen().cost(a - step, 5)) / (2 * step)
    assert float(difference) == pytest.approx(float(cost_slope(petersen(), 5, a)), rel=1e-6)
