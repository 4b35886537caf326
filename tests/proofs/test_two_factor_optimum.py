"""The certified optimum against the library's closed form, and by hand."""

import math

import pytest
from flint import arb_mat, fmpq

from proofs.two_factor_optimum import Model
from rankdeficit.toys.optima import two_factor_optimum


@pytest.mark.parametrize("temperature", [1, 10, 40, 400])
@pytest.mark.parametrize(("classes", "samples"), [(2, 1), (5, 3)])
def test_value_and_margin_are_the_library_s(temperature: int, classes: int, samples: int) -> None:
    model = Model(classes, samples, fmpq(temperature), fmpq(1, 100), fmpq(1, 250))
    expected = two_factor_optimum(classes, samples, float(temperature), 0.01, 0.004)
    assert float(model.value) == pytest.approx(expected.value, abs=1e-12)
    assert float(model.margin) == pytest.approx(expected.margin, abs=1e-9)
    assert float(model.wrong_probability) == pytest.approx(expected.wrong_probability)


def test_objective_by_hand() -> None:
    model = Model(2, 1, fmpq(2), fmpq(1, 2), fmpq(1, 3))
    W, H = arb_mat([[1], [0]]), arb_mat([[2, -2]])
    # Logits (2, 0) and (-2, 0), both right by 2, over T = 2: a loss of ln(1 + 1/e) each.
    expected = math.log1p(math.exp(-1)) + 1 / 4 + 8 / 6
    assert float(model.objective(W, H)) == pytest.approx(expected)


def test_zero_from_tau_one_over_c_on() -> None:
    at_threshold = Model(4, 1, fmpq(1), fmpq(1, 4), fmpq(1, 4))
    assert at_threshold.collapses
    assert float(at_threshold.margin) == 0
    assert float(at_threshold.value) == pytest.approx(math.log(4))
    assert not at_threshold._replace(temperature=fmpq(99, 100)).collapses
