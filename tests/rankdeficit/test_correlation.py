"""Rank correlation against SciPy, and its p-value by all permutations."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from rankdeficit.correlation import spearman, spearman_within


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


def test_one_group_has_spearman_s_correlation() -> None:
    first, second = [1.0, 2.0, 3.0, 4.0, 5.0, 5.0], [2.0, 1.0, 6.0, 4.0, 4.0, 7.0]
    usual = spearman(first, second)
    assert usual is not None
    assert spearman_within(first, second, "aaaaaa") == usual
    alone = spearman_within([*first, 9.0], [*second, 0.0], "aaaaaab")
    assert alone is not None
    assert (alone.rho, alone.n) == (pytest.approx(usual.rho), 6)
    assert alone.p == pytest.approx(usual.p, abs=0.02)


def test_differences_between_groups_do_not_count() -> None:
    first = [0.0, 1.0, 2.0, 100.0, 101.0, 102.0]
    second = [7.0, 5.0, 6.0, 205.0, 207.0, 206.0]
    usual, within = spearman(first, second), spearman_within(first, second, "aaabbb")
    assert usual is not None
    assert usual.rho > 0.7
    assert within is not None
    assert within.rho == pytest.approx(0)
    assert within.p == 1
    moved = spearman_within(first, [y - 300 * (y > 100) for y in second], "aaabbb")
    assert moved == within


def test_p_within_groups_is_that_of_all_permutations_within_them() -> None:
    first, second, groups = [1, 2, 3, 4, 1, 2, 3], [1, 2, 4, 3, 1, 2, 3], "aaaabbb"
    found = spearman_within(first, second, groups)
    assert found is not None
    four, three = np.arange(4) - 1.5, np.arange(3) - 1
    rank_sums = [
        abs(four @ np.array(own) + three @ np.array(other))
        for own in permutations(four)
        for other in permutations(three)
    ]
    share = sum(own >= 6 for own in rank_sums) / len(rank_sums)
    assert found.rho == pytest.approx(6 / 7)
    assert found.p == pytest.approx(share, abs=0.01)


def test_groups_that_say_nothing() -> None:
    assert spearman_within([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], "abc") is None
    assert spearman_within([1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0], "aabb") is None
    alone = spearman_within([1.0, 2.0, 3.0, 9.0], [1.0, 2.0, 3.0, 0.0], "aaab")
    assert alone is not None
    assert (alone.rho, alone.n) == (pytest.approx(1), 3)
    with pytest.raises(ValueError, match="groups 2"):
        spearman_within([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "ab")
