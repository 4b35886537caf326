"""Centring and spread by hand, and critical scales against the float64 curve."""

import numpy as np
import pytest
from flint import fmpq, fmpq_mat

from proofs.small_scale import descending, doubly_centred, softmax, spread


def test_centring_and_spread_by_hand() -> None:
    M = fmpq_mat(2, 2, [3, 1, 1, 5])
    assert spread(M) == 4
    assert doubly_centred(M) == fmpq_mat(2, 2, [fmpq(3, 2), -fmpq(3, 2), -fmpq(3, 2), fmpq(3, 2)])
    assert doubly_centred(fmpq_mat(2, 3, [1, 2, 3, 5, 6, 7])) == fmpq_mat(2, 3)


def test_softmax_normalises_columns() -> None:
    S = softmax(fmpq_mat(3, 2, [1, 4, 2, 0, 5, 1]), fmpq(1, 2))
    assert all(sum(column, 0 * column[0]).contains(1) for column in S.transpose().table())
    assert len(descending(S)) == 2


@pytest.mark.parametrize("seed", range(3))
def test_critical_scale_predicts_the_crossing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    m, n, gamma = 6, 9, 1e-6
    integers = generator.integers(-9, 10, size=(m, n))
    M = fmpq_mat(m, n, [int(x) for x in integers.ravel()])
    centred = [float(value.mid()) for value in descending(doubly_centred(M))]
    for i, value in enumerate(centred[:-1], start=1):
        mu = value / (m * n) ** 0.5
        kappa = gamma * float(int(spread(M).p)) ** 2 / (2 * mu**2)
        assert kappa < 0.2
        for factor, crossed in ((1 / (1 + kappa), False), (1 + 2 * kappa, True)):
            exponentials = np.exp(factor * gamma / mu * integers)
            values = np.linalg.svd(exponentials / exponentials.sum(axis=0))[1]
            assert (values[i] > gamma * values[0]) == crossed
