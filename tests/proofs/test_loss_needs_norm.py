"""The least loss for a norm, by hand and against the library's codes and losses."""

import math
from fractions import Fraction

import pytest
import torch
from flint import arb

import rankdeficit as rd
from proofs.loss_needs_norm import (
    centred_square,
    effective_norm,
    is_simplex,
    least_cross_entropy,
    mean_cross_entropy,
)
from rankdeficit.constructions import circle, simplex_etf
from rankdeficit.diagnostics.states.logits import measure_logits


def least(R: float, c: int) -> float:
    return float(least_cross_entropy(arb(R), c).mid())


def fractions(*values: int) -> list[Fraction]:
    return [Fraction(value) for value in values]


def test_by_hand() -> None:
    assert least(0, 7) == pytest.approx(math.log(7))
    assert least(math.sqrt(2), 2) == pytest.approx(math.log(1 + math.exp(-2)))
    assert centred_square(fractions(5, 1, 3)) == 8
    columns = [fractions(2, 0), fractions(0, 0)]
    assert float(effective_norm(columns, Fraction(1)).mid()) == pytest.approx(1)
    expected = (math.log(1 + math.exp(-1)) + math.log(2)) / 2
    assert float(mean_cross_entropy(columns, [0, 1], Fraction(2)).mid()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("columns", "simplex"),
    [
        ([[3, 1, 1], [0, 2, 0]], True),
        ([[3, 1, 1], [0, 1, 0]], False),
        ([[0, 1, 1], [1, 0, 1]], False),
        ([[3, 1, 0], [0, 2, 0]], False),
    ],
)
def test_simplex_logits_by_hand(columns: list[list[int]], simplex: bool) -> None:
    assert is_simplex([fractions(*column) for column in columns], [0, 1]) == simplex


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("T", [1.0, 50.0])
def test_the_librarys_simplex_attains_it_and_its_circle_does_not(classes: int, T: float) -> None:
    labels = torch.tensor([0, 0, 1, classes - 1])
    logits = simplex_etf(classes).logits(labels, 3 * T)
    R = measure_logits(logits, T).effective_logits_norm.item()
    assert rd.cross_entropy(logits, labels, T).item() == pytest.approx(least(R, classes))
    if classes > 3:  # for three classes the circle is the simplex
        logits = circle(classes).logits(labels, 3 * T)
        R = measure_logits(logits, T).effective_logits_norm.item()
        assert rd.cross_entropy(logits, labels, T).item() > least(R, classes) + 0.1
