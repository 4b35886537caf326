"""Rank correlation against SciPy, and its p-value by all permutations."""

import math
from itertools import permutations

import pytest
from scipy.stats import spearmanr

from rankdeficit.correlation import spearman


@pytest.mark.parametrize(
    "second", [[3, 1, 2, 4, 6, 5], [0, 0, 0, 5, 7, 9], [6, 5, 3, 4, 2, 1], [1, 2, 2]]
)
def test_p_of_few_points_counts_all_permutations(second: list[float]) -> None:
    first = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0][: len(second)]
    found = spearman(first, second)
    assert found is not None
    rho = spearmanr(first, second).statistic
    everything = [spearmanr(first, order).statistic for order in permutations(second)]
    above, below = (sum(sign * (r - rho) > -1e-9 for r in everything) for sign in (1, -1))
    assert found.rho == pytest.approx(rho)
    assert found.p == pytest.approx(min(1.0, 2 * min(above, below) / len(everything)))
    assert found.n == len(second)


def test_p_of_many_points_is_that_of_the_t_distribution_but_for_chance() -> None:
    first, second = zip(*((float(i), float((7 * i) % 23 + i)) for i in range(20)), strict=True)
    found = spearman(first, second)
    assert found is not None
    assert found.rho == pytest.approx(spearmanr(first, second).statistic)
    assert found.p == pytest.approx(spearmanr(first, second).pvalue, abs=0.01)
    assert spearman(first, second) == found


def test_monotone_changes_and_exchange_change_nothing() -> None:
    first, second = [0.1, 0.5, 0.3, 2.0], [4.0, 1.0, 7.0, 9.0]
    found = spearman(first, second)
    assert found == spearman([math.exp(x) for x in first], second)
    exchanged = spearman(second, first)
    assert found is not None
    assert exchanged is not None
    assert (exchanged.rho, exchanged.p) == pytest.approx((found.rho, found.p))


def test_what_has_no_correlation() -> None:
    assert spearman([1.0, 2.0], [1.0, 2.0]) is None
    assert spearman([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]) is None
    with pytest.raises(ValueError, match=r"3 .*second.* 2"):
        spearman([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="NaN"):
        spearman([1.0, 2.0, 3.0], [1.0, 2.0, math.nan])
