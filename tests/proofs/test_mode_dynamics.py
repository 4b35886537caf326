"""Velocities by hand, and the escape formula against gradient descent of the batched model."""

import math

import numpy as np
import pytest
import torch
from flint import arb_mat, fmpq_mat

from proofs.mode_dynamics import helmert, largest_gap, product_velocity, velocities
from rankdeficit.toys.optimizers import make_optimizer
from rankdeficit.toys.ufm import DeepUfm, UfmShape


def test_velocities_of_scalar_factors() -> None:
    """d(abc)/dt with dw_j/dt = abc/w_j for the gradient -1."""
    weights = [fmpq_mat([[x]]) for x in (2, 3, 5)]
    minus_one = fmpq_mat([[-1]])
    assert velocities(weights, minus_one) == [fmpq_mat([[x]]) for x in (15, 10, 6)]
    assert product_velocity(weights, minus_one) == fmpq_mat([[15**2 + 10**2 + 6**2]])


def test_helmert_is_orthonormal_and_centred() -> None:
    U = np.array([[float(x.mid()) for x in row] for row in helmert(5).tolist()])
    np.testing.assert_allclose(U.T @ U, np.eye(4), atol=1e-15)
    np.testing.assert_allclose(U.sum(axis=0), 0, atol=1e-15)


def test_largest_gap_by_hand() -> None:
    assert largest_gap(arb_mat([[1, 5], [4, 2], [2, 5]])) == 3


@pytest.mark.parametrize("L", [2, 3, 4])
def test_modes_of_a_trained_network(L: int) -> None:
    """From balanced, aligned factors every singular value follows the formula until logits count."""
    c, N, T, rate, steps = 3, 2, 1e5, 200.0, 600
    shape = UfmShape(c, N, c, L - 1)
    rows = [[float(x.mid()) for x in row] for row in helmert(c).tolist()]
    U = torch.tensor(rows, dtype=torch.float64)
    start = torch.tensor([0.5, 0.2], dtype=torch.float64)
    D = start ** (1 / L)
    parameters = torch.zeros(1, shape.parameter_count, dtype=torch.float64)
    factors = shape.unpack(parameters)
    factors.features[0, :, : c - 1] = U.repeat_interleave(N, dim=0) / math.sqrt(N) * D
    for weight in factors.weights[:-1]:
        weight[0, : c - 1, : c - 1] = torch.diag(D)
    factors.weights[-1][0, :, : c - 1] = U * D
    model = DeepUfm(shape, parameters, torch.tensor([T], dtype=torch.float64))
    optimizer = make_optimizer("gd", model.parameters, model.gradient, rate)
    for _ in range(steps):
        model.compute_gradient()
        optimizer.step()
    found = torch.linalg.svdvals(model.logits()[0])[: c - 1]
    g, t, b = 1 / (c * T * math.sqrt(N)), rate * steps, 1 - 2 / L
    expected = start * math.exp(2 * g * t) if L == 2 else (start**-b - (L - 2) * g * t) ** (-1 / b)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)
    assert expected[0] > 1.5 * start[0]
