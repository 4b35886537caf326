"""Bounds by hand, and the library's float64 bounds against exact ones."""

from fractions import Fraction
from random import Random

import pytest
import torch
from flint import fmpq, fmpq_mat

from proofs.exact import from_columns, gram, inertia
from proofs.extreme_singular_values import (
    cassini,
    collatz_wielandt,
    gershgorin,
    largest_is_at_least,
    largest_is_at_most,
    least_is_at_least,
    random_matrix,
    row_sums,
    squared_norm,
)
from rankdeficit.bounds import largest_singular_value, smallest_singular_value

HALF = Fraction(1, 2)


def to_tensor(S: fmpq_mat) -> torch.Tensor:
    return torch.tensor(
        [[int(x.p) / int(x.q) for x in row] for row in S.table()], dtype=torch.float64
    )


def test_inertia_counts_signs_of_eigenvalues() -> None:
    assert inertia(fmpq_mat(3, 3, [0, 1, 0, 1, 0, 0, 0, 0, 0])) == (1, 1, 1)
    assert inertia(fmpq_mat(2, 2, [1, 1, 1, 1])) == (0, 1, 1)


def test_bounds_on_eigenvalues_are_decided_at_equality_and_beyond() -> None:
    G = fmpq_mat(2, 2, [2, 1, 1, 2])  # eigenvalues 1 and 3
    tiny = fmpq(1, 10**40)
    assert largest_is_at_most(fmpq(3), G)
    assert not largest_is_at_most(3 - tiny, G)
    assert largest_is_at_least(fmpq(3), G)
    assert not largest_is_at_least(3 + tiny, G)
    assert least_is_at_least(fmpq(1), G)
    assert not least_is_at_least(1 + tiny, G)


def test_by_hand() -> None:
    S = from_columns([[1, 0], [HALF, HALF]])
    G = gram(S)  # (1 1/2; 1/2 1/2), eigenvalues (3 +- sqrt 5)/4
    assert gershgorin(G) == ([fmpq(1), fmpq(1, 2)], [fmpq(1, 2), fmpq(1, 2)])
    assert row_sums(S) == [fmpq(3, 2), fmpq(1, 2)]
    assert collatz_wielandt(G) == (fmpq(5, 4), fmpq(4, 3))
    exact = (3 + 5**0.5) / 4, (3 - 5**0.5) / 4  # for n = 2 the oval ends at the eigenvalues
    ovals = (cassini(G, largest=largest) for largest in (True, False))
    assert [int(x.p) / int(x.q) for x in ovals] == pytest.approx(exact)


@pytest.mark.parametrize("seed", range(40))
def test_library_has_the_same_bounds(seed: int) -> None:
    random = Random(seed)
    n = random.randint(2, 6)
    S = random_matrix(random, n, n)
    G = gram(S)
    d, R = gershgorin(G)
    low, high = collatz_wielandt(G)
    above = min(max(row_sums(G)), max(row_sums(S)), cassini(G, largest=True), high)
    below = max(squared_norm(row_sums(S)) / n, low)
    rows = min(2 * squared_norm(t) - sum(t, fmpq(0)) for t in S.table())
    least = max(
        min(a - b for a, b in zip(d, R, strict=True)), rows, cassini(G, largest=False), fmpq(0)
    )
    largest, smallest = largest_singular_value(to_tensor(S)), smallest_singular_value(to_tensor(S))
    for bound, exact in ((largest.lower, below), (largest.upper, above), (smallest.lower, least)):
        assert bound.item() ** 2 == pytest.approx(int(exact.p) / int(exact.q), abs=1e-13)
