"""Error terms by hand, and false variants of the bounds on the rank at a temperature."""

from collections.abc import Callable
from math import cosh, exp

import pytest
from flint import arb, fmpq_mat

from proofs import rank_norm_temperature
from proofs.claims import run_check
from proofs.rank_norm_temperature import CLAIM, errors

CHECKS = {check.name: check for check in CLAIM.checks}


def test_errors_by_hand() -> None:
    H, C = errors(fmpq_mat([[1, 0], [0, 2], [1, 1]]), arb(1) / 2)  # spreads 1 and 2
    first, second = exp(0.5) - 1.5, exp(1) - 2
    assert float(H) == pytest.approx(((first**2 + second**2) / 2) ** 0.5)
    assert float(C) == pytest.approx((cosh(0.25) ** 2 + cosh(0.5) ** 2) / 2)


def of_the_mean_spread(M: fmpq_mat, s: arb) -> tuple[arb, arb]:
    spreads = [max(column) - min(column) for column in M.transpose().table()]
    x = s * sum(spreads) / len(spreads)
    return x.expm1() - x, (x / 2).cosh() ** 2


def of_the_least_spread(M: fmpq_mat, s: arb) -> tuple[arb, arb]:
    x = s * min(max(column) - min(column) for column in M.transpose().table())
    return x.expm1() - x, (x / 2).cosh() ** 2


@pytest.mark.parametrize(
    "wrong",
    [
        of_the_mean_spread,
        of_the_least_spread,
        lambda M, s: (errors(M, s)[0] / 6, errors(M, s)[1]),
        lambda M, s: (errors(M, s)[0] ** 2, errors(M, s)[1]),
        lambda M, s: (errors(M, s)[0], errors(M, s)[1] / 50),
    ],
)
def test_smaller_errors_are_refuted(
    wrong: Callable[[fmpq_mat, arb], tuple[arb, arb]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_norm_temperature, "errors", wrong)
    results = [run_check(CHECKS[name]).verdict for name in ("each_singular_value", "drop_out")]
    assert "refuted" in results
