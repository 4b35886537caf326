"""Structures against the library's codes, and the exact Gram matrices by hand."""

import pytest
import torch
from flint import arb

from proofs.structures import (
    Structure,
    circle,
    crossover,
    etf,
    half_cube,
    icosahedron,
    pairs,
    petersen,
    rational_gram,
)
from rankdeficit import constructions
from rankdeficit.toys.optima import code_objective

CODES = [
    (etf(5), constructions.simplex_etf(5), 5 / 4),
    (pairs(6), constructions.pairs(6), 1.0),
    (circle(7), constructions.circle(7), 1.0),
    (circle(8), constructions.circle(8), 1.0),
    (petersen(), constructions.petersen(), 1.0),
    (half_cube(), constructions.half_cube(), 1.0),
    (icosahedron(), constructions.icosahedron(), 1.0),
]


@pytest.mark.parametrize(("structure", "code", "unit"), CODES)
@pytest.mark.parametrize("factors", [2, 3, 7])
def test_objective_is_the_library_s(
    structure: Structure, code: constructions.Code, unit: float, factors: int
) -> None:
    T, N, decay, scale = 3.0, 2, 0.01, 4.0  # the library's scale is of unit directions
    effective = arb(decay) * arb(N) ** (1 / factors) * arb(T) ** (2 / factors)
    ours = structure.objective(arb(scale * unit / T), factors, effective)
    assert float(ours) == pytest.approx(code_objective(code, scale, factors, N, T, decay))


@pytest.mark.parametrize(("structure", "code", "unit"), [CODES[0], CODES[1], CODES[4], CODES[5]])
def test_gram_matrices_are_the_library_s(
    structure: Structure, code: constructions.Code, unit: float
) -> None:
    exact = [[float(x.p) / float(x.q) for x in row] for row in rational_gram(structure).table()]
    cosines = code.directions @ code.directions.mT
    torch.testing.assert_close(torch.tensor(exact, dtype=torch.float64) * unit, cosines)


def test_slope_is_the_derivative_of_the_loss() -> None:
    a, step = arb(2), arb(2) ** -12
    difference = petersen().loss(a - step) - petersen().loss(a + step)
    assert float(difference / (2 * step)) == pytest.approx(float(petersen().slope(a)), rel=1e-6)


def test_crossover_by_hand() -> None:
    # c = 4: 2 ln 2/ln(3/2) for both, which are the same code.
    assert float(crossover(circle(4))) == pytest.approx(3.4190225827)
    assert float(crossover(pairs(4))) == pytest.approx(3.4190225827)
