"""The equality cases by hand."""

from fractions import Fraction

import pytest

from proofs.exact import from_columns, gram
from proofs.proposition_3_1 import attains_right_side, has_form_of_equality, largest_overlap


@pytest.mark.parametrize(
    ("columns", "attained"),
    [
        ([[1, 0], [1, 0]], True),
        ([[1, 0], [0, 1]], False),
        ([[1, 0, 0], [1, 0, 0], [0, Fraction(1, 2), Fraction(1, 2)]], True),
        ([[1, 0, 0], [1, 0, 0], [Fraction(1, 2), Fraction(1, 2), 0]], False),
    ],
)
def test_equality_cases_by_hand(columns: list[list[Fraction | int]], attained: bool) -> None:
    G = gram(from_columns(columns))
    assert attains_right_side(G, largest_overlap(G)) == has_form_of_equality(columns) == attained
