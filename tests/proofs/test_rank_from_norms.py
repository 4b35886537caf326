"""Counts and slopes by hand, and the library's slope against a certified one."""

from fractions import Fraction

import pytest
import torch
from flint import fmpq, fmpq_mat, fmpq_poly

from proofs.exact import from_columns, gram, real_roots, to_fmpq
from proofs.rank_from_norms import (
    frobenius,
    numerical_rank,
    slope,
    stable_rank_holds,
    without_common_roots,
)
from rankdeficit.bounds import frobenius_slope

HALF = Fraction(1, 2)


def test_numerical_rank_by_hand() -> None:
    G = gram(from_columns([[1, 0, 0], [0, HALF, HALF], [1, 0, 0]]))  # eigenvalues 2, 1/2, 0
    assert numerical_rank(G, fmpq(1, 5)) == 2
    assert numerical_rank(G, fmpq(1, 3)) == 1
    assert stable_rank_holds(G, 3, fmpq(1, 5), 2)


@pytest.mark.parametrize(("wrong", "square"), [(1, fmpq(1, 100)), (3, fmpq(9, 10))])
def test_wrong_counts_are_noticed(wrong: int, square: fmpq) -> None:
    G = fmpq_mat(4, 4, [int(i == j) * x for i, x in enumerate([1, 1, 0, 0]) for j in range(4)])
    assert stable_rank_holds(G, 4, square, 2)
    assert not stable_rank_holds(G, 4, square, wrong)


def test_common_roots_are_divided_out() -> None:
    p, q = fmpq_poly([2, -3, 1]), fmpq_poly([6, -5, 1])  # roots 1, 2 and 2, 3
    roots = [[float(x.mid()) for x in real_roots(rest)] for rest in without_common_roots(p, q)]
    assert roots == [[1], [3]]


def test_slope_by_hand_and_in_the_library() -> None:
    logits = [[Fraction(1), Fraction(-2)], [Fraction(0), HALF], [Fraction(3, 10), Fraction(4)]]
    scale = Fraction(3, 4)
    ours = float(slope(logits, scale).mid())
    samples = torch.tensor([[float(x) for x in row] for row in logits], dtype=torch.float64).mT
    assert frobenius_slope(samples, float(scale)).item() == pytest.approx(ours, rel=1e-12)

    def norm(s: Fraction) -> float:
        return float(frobenius([[to_fmpq(s * x) for x in row] for row in logits]).mid())

    step = Fraction(1, 10**4)
    difference = (norm(scale + step) - norm(scale - step)) / float(2 * step)
    assert difference == pytest.approx(ours, rel=1e-6)
