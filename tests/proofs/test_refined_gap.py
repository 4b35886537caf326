"""Bounds on the gap by hand, and the library's against exact ones."""

from fractions import Fraction
from random import Random

import pytest
import torch
from flint import arb, fmpq

from proofs.exact import from_columns, gram
from proofs.extreme_singular_values import gershgorin, random_matrix
from proofs.refined_gap import (
    attains_left_side,
    floor_in_r,
    has_form_of_equality,
    mean_of_the_others,
)
from rankdeficit.bounds import gap_bound_in_r, refined_gap
from tests.proofs.test_extreme_singular_values import to_tensor

HALF = Fraction(1, 2)


def test_floor_by_hand() -> None:
    assert float(arb(1 - floor_in_r(fmpq(0), 5))) == pytest.approx(0, abs=1e-30)
    # r = 21/100: x = (1 + 2/5)/2 = 7/10; r = 1/4 has no such bound.
    expected = 0.7 - 2**0.5 * 0.21
    assert float(arb(floor_in_r(fmpq(21, 100), 5))) == pytest.approx(expected, rel=1e-14)
    assert floor_in_r(fmpq(1, 4), 3) == fmpq(1, 8)
    assert floor_in_r(fmpq(1, 4), 5) == fmpq(-1, 20)
    assert floor_in_r(fmpq(1, 2), 5) == fmpq(-3, 10)


@pytest.mark.parametrize(
    ("columns", "attained"),
    [
        ([[1, 0, 0], [0, 0, 1], [0, 1, 0]], True),
        ([[0, HALF, HALF], [HALF, 0, HALF], [HALF, HALF, 0]], True),  # alpha = -1/2
        ([[Fraction(1, 3)] * 3] * 3, True),
        ([[1, 0, 0], [0, HALF, HALF], [0, HALF, HALF]], False),
        ([[1, 0, 0], [1, 0, 0], [0, 1, 0]], False),
    ],
)
def test_equality_from_below(columns: list[list[Fraction | int]], attained: bool) -> None:
    G = gram(from_columns(columns))
    assert attains_left_side(G) == has_form_of_equality(G) == attained


@pytest.mark.parametrize("seed", range(40))
def test_library_has_the_same_bounds(seed: int) -> None:
    random = Random(seed)
    n = random.randint(3, 6)
    S = random_matrix(random, n, n)
    G = gram(S)
    r = max(gershgorin(G)[1])
    floor, others = max(floor_in_r(r, n), fmpq(0)), mean_of_the_others(G)
    r_float, floor_float, others_float = (int(x.p) / int(x.q) for x in (r, floor, others))
    bound = gap_bound_in_r(torch.tensor(r_float, dtype=torch.float64), n).item()
    assert bound == pytest.approx((1 + r_float) ** 0.5 - floor_float**0.5, abs=1e-7)
    gap = refined_gap(to_tensor(S))
    assert gap.lower.item() == pytest.approx(1 - others_float**0.5, abs=1e-7)
    assert gap.upper.item() <= bound + 1e-12
