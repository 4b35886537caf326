"""Kernels and meets by hand; the counterexample in the library's own count."""

from fractions import Fraction

import pytest
import torch
from flint import arb_mat, fmpq_mat

import rankdeficit as rd
from proofs.gradient_rank import (
    dimension_of_meet,
    fitted_and_unfitted,
    kernel_basis,
    numerical_rank,
)
from proofs.networks import RELU, cross_entropy_slope


def test_kernel_by_hand() -> None:
    E = fmpq_mat([[1, 1, 0], [2, 2, 0]])
    basis = kernel_basis(E)
    assert (basis.nrows(), basis.ncols(), basis.rank()) == (3, 2, 2)
    assert E * basis == fmpq_mat(2, 2)
    assert kernel_basis(fmpq_mat([[1, 0], [0, 1]])).ncols() == 0


@pytest.mark.parametrize(
    ("A", "meet"), [([[1, -1, 0]], 1), ([[1, 1, 0]], 0), ([[1, 0, 0], [0, 1, 0]], 1)]
)
def test_meet_of_row_space_and_kernel_by_hand(A: list[list[int]], meet: int) -> None:
    assert dimension_of_meet(fmpq_mat(A), fmpq_mat([[1, 1, 0]])) == meet


def test_relu_and_its_slope_are_zero_up_to_zero() -> None:
    Z, slope = fmpq_mat([[2, 0, -3]]), fmpq_mat([[5, 5, 5]])
    assert RELU.apply(Z) == fmpq_mat([[2, 0, 0]])
    assert RELU.pull_back(Z, slope) == fmpq_mat([[5, 0, 0]])


def to_torch(matrix: arb_mat) -> torch.Tensor:
    rows = [[float(x.mid()) for x in row] for row in matrix.tolist()]
    return torch.tensor(rows, dtype=torch.float64)


def test_counterexample_in_the_librarys_count() -> None:
    """A gradient of autograd whose numerical rank exceeds that of the representations."""
    A, W, labels = fitted_and_unfitted()
    inputs, weights = to_torch(arb_mat(A)), to_torch(arb_mat(W)).requires_grad_()
    loss = rd.cross_entropy((weights @ inputs).mT, torch.tensor(labels))
    (gradient,) = torch.autograd.grad(loss, weights)
    assert rd.numerical_rank(inputs, 1e-3) == 1
    assert rd.numerical_rank(gradient, 1e-3) == 2
    slope = cross_entropy_slope(arb_mat(W) * arb_mat(A), labels, 1)
    torch.testing.assert_close(gradient, to_torch(slope * arb_mat(A).transpose()))
    assert numerical_rank(slope, Fraction(1, 1000)) == 1
