"""The rational network and the limits of rank 1, by hand and against the library."""

from fractions import Fraction

import pytest
import torch
from flint import fmpq

from proofs.rank_two import (
    dot,
    interpolating_network,
    least_rank_one_loss,
    mean_loss,
    nearly_best_rank_one,
    rational_circle,
)
from rankdeficit.constructions import circle, realise


def test_network_takes_its_targets_between_and_beyond_the_knots() -> None:
    one = Fraction(1)
    network = interpolating_network(
        [[2 * one], [0 * one], [one]], [[5 * one], [one], [2 * one]], [one], [[one]]
    )
    values = [network.logits([Fraction(x)])[0] for x in ("0", "1", "2", "1/2", "3/2")]
    assert values == [1, 2, 5, Fraction(3, 2), Fraction(7, 2)]


@pytest.mark.parametrize("classes", [3, 4, 7, 10])
def test_rational_points_lie_on_the_circle_near_the_code(classes: int) -> None:
    points = rational_circle(classes)
    assert all(dot(u, u) == 1 for u in points)
    floats = torch.tensor([[float(x) for x in u] for u in points], dtype=torch.float64)
    torch.testing.assert_close(floats, circle(classes).directions, atol=1e-3, rtol=0)


def test_network_is_the_library_s() -> None:
    labels = [0, 1, 2, 1]
    inputs = [[Fraction(x)] for x in (0, 3, 1, 7)]
    u = rational_circle(3)
    ours = interpolating_network(inputs, [u[y] for y in labels], [Fraction(1)], u)
    x = torch.tensor([[float(v) for v in row] for row in inputs], dtype=torch.float64)
    theirs = realise(circle(3), x, torch.tensor(labels))
    exact = torch.tensor([[float(v) for v in ours.logits(row)] for row in inputs])
    torch.testing.assert_close(exact.double(), theirs(x).detach(), atol=2e-3, rtol=0)


def test_least_loss_of_rank_one_by_hand() -> None:
    assert 3 * float(least_rank_one_loss(3)) == pytest.approx(0.6931471805599453)
    assert 4 * float(least_rank_one_loss(4)) == pytest.approx(1.3862943611198906)
    # Two classes on the right, tied: ln 2 each; one on the left: nothing.
    assert float(mean_loss([10, 10, -10], [1, 1, -1])) == pytest.approx(1.3862943611198906 / 3)


def test_nearly_best_rank_one_has_the_distances_it_says() -> None:
    w, h = nearly_best_rank_one(4, 10)
    assert w[0] - w[2] == 100
    assert w[3] - w[1] == 100
    assert h[:2] == [Fraction(1, 10), -Fraction(1, 10)]
    assert fmpq(1) > least_rank_one_loss(4)
