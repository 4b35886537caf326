"""Towers by hand, the bounds on matrices of few columns, and false variants."""

from collections.abc import Callable

import numpy as np
import pytest
from flint import arb, fmpq

from proofs import small_overlaps
from proofs.claims import run_check
from proofs.exact import from_columns, gram
from proofs.extreme_singular_values import gershgorin
from proofs.small_overlaps import CLAIM, Tower, least_square, own_weight

CHECKS = {check.name: check for check in CLAIM.checks}


def test_weights_by_hand() -> None:
    assert own_weight(fmpq(0)) == 1
    assert float(own_weight(fmpq(21, 100))) == pytest.approx(0.7)
    assert float(least_square(fmpq(21, 100))) == pytest.approx(0.7 - 2**0.5 * 0.21)
    tower = Tower.of(fmpq(3, 10), 9, 10)
    assert tower.weights[:3] == [1, fmpq(7, 10), fmpq(4, 7)]
    assert tower.weights[-1] == 0
    assert tower.sizes[-2:] == [10, 1]


@pytest.mark.parametrize(("overlap", "levels", "ratio"), [(fmpq(1, 5), 3, 3), (fmpq(1, 3), 9, 2)])
def test_overlaps_of_a_tower_are_those_of_its_matrix(
    overlap: fmpq, levels: int, ratio: int
) -> None:
    tower = Tower.of(overlap, levels, ratio)
    columns = tower.columns()
    assert all(sum(column) == 1 for column in columns)
    d, R = gershgorin(gram(from_columns(columns)))
    found = [R[sum(tower.sizes[:j])] for j in range(len(tower.sizes))]
    assert found == tower.overlaps()
    assert d[-1] == tower.last_norm()


def test_a_matrix_of_overlaps_of_a_third_has_no_full_rank() -> None:
    columns = Tower.of(fmpq(1, 3), 9, 3).columns()
    S = np.array([[float(x) for x in column] for column in columns]).T
    assert np.linalg.matrix_rank(S) < len(columns)


@pytest.mark.parametrize(
    ("check", "path", "wrong"),
    [
        # a larger own entry, and the smaller root
        ("towers", "own_weight", lambda r: own_weight(r) - fmpq(1, 100)),
        ("three_r", "own_weight", lambda r: 1 - own_weight(r)),
        # 1 + sqrt(2) replaced by a smaller constant, also one without the square root
        ("smallest", "least_square", lambda r: 1 - fmpq(24, 10) * arb(r)),
        ("smallest", "least_square", lambda r: own_weight(r) - arb(r)),
        ("three_r", "least_square", lambda r: own_weight(r) - 2 * arb(r)),
    ],
)
def test_other_constants_are_refuted(
    check: str, path: str, wrong: Callable[[fmpq], arb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_overlaps, path, wrong)
    assert run_check(CHECKS[check]).verdict == "refuted"


def test_own_rows_need_small_overlaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With overlaps beyond 1/4 taken for smaller ones, columns without own rows are found."""
    monkeypatch.setattr(
        small_overlaps,
        "gershgorin",
        lambda G: (gershgorin(G)[0], [R / 2 for R in gershgorin(G)[1]]),
    )
    assert run_check(CHECKS["own_rows"]).verdict == "refuted"
