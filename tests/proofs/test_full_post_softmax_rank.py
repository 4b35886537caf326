"""Ranks and signs by hand."""

from fractions import Fraction

import pytest
from flint import fmpq

from proofs.full_post_softmax_rank import (
    outer,
    sign_of_determinant,
    signed_permutations,
    softmax_to_base,
    vandermonde,
)


def test_softmax_by_hand() -> None:
    S = softmax_to_base(Fraction(2), [[0, 1], [1, 3]])
    assert S.entries() == [fmpq(1, 3), fmpq(1, 5), fmpq(2, 3), fmpq(4, 5)]


@pytest.mark.parametrize(
    ("a", "b", "rank"),
    [([0, 1, 2], [-1, 5, 7], 3), ([0, 1, 1], [-1, 5, 7], 2), ([2, 2], [0, 1], 1), ([0, 1], [3, 3, 4], 2)],
)  # fmt: skip
def test_ranks_by_hand(a: list[int], b: list[int], rank: int) -> None:
    assert softmax_to_base(Fraction(3, 2), outer(a, b)).rank() == rank


def test_logits_of_rank_two_may_lose_rank() -> None:
    assert softmax_to_base(Fraction(2), [[0, 1], [1, 2]]).rank() == 1


def test_sign_of_the_determinant() -> None:
    near = [1 + fmpq(i, 10**9) for i in range(6)]
    ascending = [[x * y for y in near] for x in near]
    assert sign_of_determinant(ascending) == 1
    assert sign_of_determinant([ascending[1], ascending[0], *ascending[2:]]) == -1


def test_vandermonde_and_permutations() -> None:
    assert vandermonde([fmpq(1), fmpq(3), fmpq(2)]) == 2 * 1 * -1
    assert dict(signed_permutations(3))[1, 0, 2] == -1
    assert sum(sign for _, sign in signed_permutations(4)) == 0
