"""Conformal quantiles of groups: the definition, exact coverage, and folds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit.control.dial.conformal import (
    folds_of,
    group_weights,
    grouped_quantile,
)


@given(st.integers(1, 40), st.floats(0.05, 0.95))
def test_single_members_give_the_order_statistic_of_split_conformal_prediction(
    count: int, level: float
) -> None:
    scores = np.random.default_rng(count).normal(size=count)
    rank = math.ceil(level * (count + 1) - 1e-9)
    expected = math.inf if rank > count else np.sort(scores)[rank - 1]
    assert grouped_quantile(scores, list(range(count)), level) == expected


def test_repeated_members_change_nothing() -> None:
    scores = np.array([3.0, 1.0, 2.0, 5.0])
    repeated = np.repeat(scores, [1, 4, 2, 3])
    groups = np.repeat(np.arange(4), [1, 4, 2, 3]).tolist()
    for level in (0.2, 0.5, 0.7):
        assert grouped_quantile(repeated, groups, level) == grouped_quantile(
            scores, [0, 1, 2, 3], level
        )


def test_coverage_of_members_of_new_groups_is_the_level() -> None:
    """19 dependent groups: exactly 16 of 20 for independent ones; more where members are equal."""
    random, hits, tries = np.random.default_rng(0), 0, 4000
    for _ in range(tries):
        scores = random.normal(size=(20, 1)) + 0.5 * random.normal(size=(20, 3))
        groups = [group for group in range(19) for _ in range(3)]
        hits += scores[19, 0] <= grouped_quantile(scores[:19].ravel(), groups, 0.8)
    assert 0.78 < hits / tries < 0.84


def test_too_few_groups_have_no_finite_quantile() -> None:
    scores, groups = np.arange(8.0), list(range(8))
    assert grouped_quantile(scores, groups, 8 / 9) == 7
    assert math.isinf(grouped_quantile(scores, groups, 0.9))


@pytest.mark.parametrize(
    ("scores", "groups", "level", "word"),
    [
        ([1.0], [0], 1.0, "level"), ([1.0], [0], 0.0, "level"), ([], [], 0.5, "scores"),
        ([1.0], [0, 1], 0.5, "groups"), ([math.nan], [0], 0.5, "NaN"),
    ],
)  # fmt: skip
def test_bad_scores_are_refused(
    scores: list[float], groups: list[int], level: float, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        grouped_quantile(np.array(scores), groups, level)


def test_folds_and_weights_keep_groups_together() -> None:
    groups = ["a", "b", "a", "c", "d", "b", "a"]
    folds = folds_of(groups, 2)
    assert len({fold for fold, own in zip(folds, groups, strict=True) if own == "a"}) == 1
    assert sorted(np.bincount([folds[groups.index(own)] for own in "abcd"])) == [2, 2]
    weights = group_weights(groups)
    for own in "abcd":
        members = [w for w, group in zip(weights, groups, strict=True) if group == own]
        assert sum(members) == pytest.approx(1)
