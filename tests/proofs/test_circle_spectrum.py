"""The library's circle against Bessel functions, and Bessel sums by hand."""

import pytest
import torch
from flint import arb, ctx, fmpq

from proofs.circle_spectrum import (
    agree,
    bessel_values,
    eigenvalues_by_bessel,
    eigenvalues_by_transform,
)
from rankdeficit.constructions import circle
from rankdeficit.softmax import softmax


@pytest.mark.parametrize("c", [3, 4, 7, 10])
@pytest.mark.parametrize("rho", [0.5, 4.0])
def test_singular_values_of_the_library_circle(c: int, rho: float) -> None:
    logits = circle(c).logits(torch.arange(c), rho)
    found = torch.linalg.svdvals(softmax(logits, 1.0)).tolist()
    values, tail = bessel_values(fmpq(int(2 * rho), 2))
    expected = [float(x.mid()) for x in eigenvalues_by_bessel(c, values, tail)]
    assert found == pytest.approx(sorted(expected, reverse=True), abs=1e-14)


def test_three_classes_by_hand() -> None:
    rho = fmpq(2)  # rows e^2, e^-1, e^-1
    own, other = arb(2).exp(), arb(-1).exp()
    assert eigenvalues_by_transform(3, rho)[1].overlaps((own - other) / (own + 2 * other))


def test_bessel_sums_include_all_terms() -> None:
    with ctx.workprec(200):
        values, tail = bessel_values(fmpq(1))
        everything = 2 * sum(values[1:], values[0] / 2)  # e^{rho cos 0} = sum over q in Z
        assert everything.overlaps(arb(1).exp())
        assert 0 < tail < arb(2) ** -200


def test_agreement_is_strict() -> None:
    with ctx.workprec(200):
        third = arb(1) / 3
        assert agree(third, 1 / arb(3))
        assert not agree(third, third + arb(10) ** -20)
        assert not agree(third, arb(0.33, 0.1))
