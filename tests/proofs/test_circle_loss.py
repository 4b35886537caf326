"""The Bessel form and the certified loss against the library and by hand."""

import pytest
import torch
from flint import arb, ctx, fmpq

from proofs.circle_loss import bessel_loss, circle_loss, moment_of_cosines
from rankdeficit.constructions import circle


@pytest.mark.parametrize("classes", [3, 4, 10, 101])
@pytest.mark.parametrize("scale", [0.25, 3.0, 200.0])
def test_loss_is_that_of_the_library_s_logits(classes: int, scale: float) -> None:
    logits = circle(classes).logits(torch.tensor([0]), scale)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([0])).item()
    with ctx.workprec(128):
        exact = float(circle_loss(classes, arb(scale)))
        bessel = float(bessel_loss(classes, fmpq(int(4 * scale), 4)))
    assert exact == pytest.approx(expected, abs=1e-12)
    assert bessel == pytest.approx(expected, abs=1e-12)


def test_bessel_loss_holds_the_true_one_and_not_a_truncated_one() -> None:
    with ctx.workprec(256):
        truncated = arb(3).log() - arb(5) + arb(5).bessel_i(0).log()
        assert bessel_loss(3, fmpq(5)).overlaps(circle_loss(3, arb(5)))
        assert not truncated.overlaps(circle_loss(3, arb(5)))


def test_moments_of_cosines_by_hand() -> None:
    # 1, -1/2, -1/2
    assert [moment_of_cosines(3, n) * 4 for n in range(4)] == [12, 0, 6, 3]
