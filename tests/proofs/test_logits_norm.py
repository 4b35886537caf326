"""Norms, drops and nested spaces by hand and against numpy."""

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from flint import fmpq_mat

from proofs.exact import random_orthogonal
from proofs.logits_norm import drops, is_nested, norm_square

SWAP = fmpq_mat([[0, 1], [1, 0]])


def to_numpy(matrix: fmpq_mat) -> np.ndarray:
    return np.array([[float(x.p) / float(x.q) for x in row] for row in matrix.tolist()])


def fractions(*values: int) -> list[Fraction]:
    return [Fraction(value) for value in values]


def test_drops_by_hand() -> None:
    assert drops(fractions(3, 3, 1)) == [2, 3]
    assert drops(fractions(2, 1, 0)) == [1, 2]
    assert drops(fractions(0, 0)) == []


@pytest.mark.parametrize(
    ("alpha", "beta", "nested"),
    [
        ((2, 1), (2, 1), False),
        ((1, 1), (2, 1), True),
        ((1, 0), (1, 0), False),
        ((0, 0), (1, 0), True),
    ],
)
def test_swapped_directions(alpha: tuple[int, ...], beta: tuple[int, ...], nested: bool) -> None:
    assert is_nested(fractions(*alpha), SWAP, fractions(*beta)) == nested


@pytest.mark.parametrize("seed", range(3))
def test_norm_of_whole_matrices(seed: int) -> None:
    """W = U1 diag(alpha) V^T and A = U diag(beta) V2^T with all bases random."""
    random = Random(seed)
    outer, V, U, other = (random_orthogonal(random, 3) for _ in range(4))
    assert U * U.transpose() == fmpq_mat([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    W = to_numpy(outer) @ np.diag([5, 2, 1]) @ to_numpy(V).T
    A = to_numpy(U) @ np.diag([4, 4, 0]) @ to_numpy(other).T
    square = norm_square(fractions(5, 2, 1), V.transpose() * U, fractions(4, 4, 0))
    assert float(square.p) / float(square.q) == pytest.approx(np.linalg.norm(W @ A) ** 2)
