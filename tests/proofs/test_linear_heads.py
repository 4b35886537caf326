"""Margins by hand and against the library, and false variants of how they shrink."""

from collections.abc import Callable

import pytest
import sympy
import torch
from flint import arb, fmpq

from proofs import linear_heads
from proofs.claims import run_check
from proofs.linear_heads import CLAIM, scaled_margin
from rankdeficit.toys.optima import decayed_margins

CHECKS = {check.name: check for check in CLAIM.checks}


def test_margins_are_the_library_s() -> None:
    lengths, T, decay = torch.tensor([1.0, 2.0]).double(), 3.0, 0.01
    found = decayed_margins(lengths, T, decay)
    for length, margin in zip((1, 2), found.tolist(), strict=True):
        strength = fmpq(length**2, 2 * 9) * 100
        assert float(scaled_margin(strength).mid()) == pytest.approx(margin / T, rel=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda u: 1 / (1 + u),
        lambda u: 1 / (1 + u / (1 + sympy.exp(u))),
        lambda u: 1 / (2 + u / (1 + sympy.exp(-u))),
    ],
)
def test_a_wrong_elasticity_is_refuted(
    wrong: Callable[[sympy.Expr], sympy.Expr], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_heads, "elasticity", wrong)
    assert run_check(CHECKS["decay_is_no_temperature"]).verdict == "refuted"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda strength: (
            arb(strength) / 2
        ),  # margins in proportion, as a temperature would have them
        lambda strength: arb(strength).sqrt(),
        lambda strength: 1 + arb(strength) ** 2,
    ],
)
def test_margins_that_a_temperature_would_give_are_refuted(
    wrong: Callable[[fmpq], arb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_heads, "scaled_margin", wrong)
    assert run_check(CHECKS["ratios_of_margins_rise"], instances=20).verdict in ("refuted", "open")
