"""Counts of orders by hand: lines, planes, a circle, shifts that do not count."""

from fractions import Fraction

import pytest
from flint import fmpq, fmpq_mat

from proofs.exact import from_columns
from proofs.singular_value_orders import (
    circle_point,
    complement,
    counts_of_orders,
    leading_matrix,
    polynomials,
    softmax_coefficients,
)

LINE = [[0], [1], [3], [7]]
PLANE = [[0, 0], [1, 2], [3, -1], [-4, 2], [5, 7], [-2, -6]]
CIRCLE = [circle_point(Fraction(t, 3)) for t in range(-3, 4)]


def product_of(A: list[list[Fraction | int]]) -> fmpq_mat:
    columns = [[sum(x * y for x, y in zip(a, b, strict=True)) for a in A] for b in A]
    return from_columns(columns)


def test_coefficients_are_those_of_the_normalised_softmax() -> None:
    S = softmax_coefficients(fmpq_mat(2, 1, [1, 0]), 3)  # 1/(1 + e^-s) = 1/2 + s/4 - s^3/48 ..
    assert [X[0, 0] for X in S] == [fmpq(1, 2), fmpq(1, 4), fmpq(0), -fmpq(1, 48)]
    assert [X[0, 0] + X[1, 0] for X in S] == [1, 0, 0, 0]


def test_orders_of_a_diagonal_power_series() -> None:
    one, three = fmpq_mat(3, 3, [1] + [0] * 8), fmpq_mat(3, 3, [0, 0, 0, 0, 5] + [0] * 4)
    nothing = fmpq_mat(3, 3)
    assert counts_of_orders([one, nothing, nothing, three]) == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("points", "counts"),
    [(LINE, [1, 2, 3, 4, 4]), (PLANE, [1, 3, 6, 6, 6]), (CIRCLE, [1, 3, 5, 7, 7])],
)
def test_counts_by_hand(points: list[list[Fraction | int]], counts: list[int]) -> None:
    assert [polynomials(points, degree) for degree in range(5)] == counts
    assert counts_of_orders(softmax_coefficients(product_of(points), 4)) == counts


def test_the_rank_that_counts_is_the_doubly_centred_one() -> None:
    shifts = fmpq_mat(4, 4, [i * i + 3 * j for i in range(4) for j in range(4)])
    M = product_of(LINE) + shifts
    assert M.rank() == 3
    assert counts_of_orders(softmax_coefficients(M, 3)) == [1, 2, 3, 4]


def test_first_leading_matrix_is_the_doubly_centred_one() -> None:
    M = product_of(LINE)
    assert complement(LINE, 0) * M * complement(LINE, 0) / 4 == leading_matrix(M, LINE, LINE, 1)
