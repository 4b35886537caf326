"""Distances by hand, the certified spectrum against the library's, and false variants of the bound."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from flint import arb, fmpq

from proofs import kernel_limit
from proofs.claims import run_check
from proofs.kernel_limit import CLAIM, Points, distance, distance_bound, kernel_values, size
from rankdeficit.scaled_logits import kernel_spectrum

CHECK = next(check for check in CLAIM.checks if check.name == "near_the_kernel")


def test_distance_and_size_by_hand() -> None:
    # Two points at 0: the quantiles -1..0 and 0..1 have the distance u, of quadratic mean 1/sqrt(3).
    assert float(distance([Fraction(0)] * 2)) == pytest.approx(3**-0.5)
    assert float(distance([Fraction(1, 2), Fraction(-1, 2)])) == pytest.approx(12**-0.5)
    assert float(size([Fraction(0)])) == pytest.approx(3**-0.5)
    assert float(size([Fraction(1), Fraction(-1)])) == 1
    # One point at 0 each: W = r = 1/sqrt(3), delta = 1.
    bound = distance_bound(fmpq(2), [Fraction(0)], [Fraction(0)])
    assert float(bound) == pytest.approx(2 * 5 * np.exp(2) * 2 / 3)


def test_the_mean_square_of_uniform_points_is_two_thirds_over_m() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.integers(-(10**6), 10**6, size=(2000, 5))
    squares = [float(distance([Fraction(int(x), 10**6) for x in row])) ** 2 for row in drawn]
    assert np.mean(squares) == pytest.approx(2 / 15, rel=0.05)


@pytest.mark.parametrize("s", [fmpq(1, 10), fmpq(4)])
def test_the_library_has_the_certified_spectrum(s: fmpq) -> None:
    values = kernel_values(s)
    expected = [float((value / values[0]).mid()) for value in values[:8]]
    found = kernel_spectrum(int(s.p) / int(s.q))[:8]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)


def without_y(s: fmpq, x: Points, y: Points) -> arb:
    return distance_bound(s, x, y) * distance(x) / (distance(x) + distance(y))


VARIANTS: dict[str, Callable[[fmpq, Points, Points], arb]] = {
    "half": lambda s, x, y: distance_bound(s, x, y) / 2,
    "no distance of y": without_y,
    "no distance of x": lambda s, x, y: without_y(s, y, x),
    "distances squared": lambda s, x, y: s * (distance(x) ** 2 + distance(y) ** 2),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_smaller_bound_is_refuted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_limit, "distance_bound", VARIANTS[name])
    assert run_check(CHECK).verdict == "refuted"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda s: [2 * value for value in kernel_values(s)],
        lambda s: kernel_values(s / 2),
        lambda s: kernel_values(s)[1:],
    ],
)
def test_another_kernel_is_refuted(
    wrong: Callable[[fmpq], list[arb]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_limit, "kernel_values", wrong)
    assert run_check(CHECK, instances=60).verdict == "refuted"
