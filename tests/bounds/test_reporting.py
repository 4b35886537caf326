"""All bounds on one matrix, beside the values that they bound."""

import pytest
import torch
from hypothesis import given

from rankdeficit import bounds, softmax, testing
from rankdeficit.bounds.reporting import representative_columns

SLACK = 1e-7
"""Square roots of rounded numbers near 0."""


@given(testing.probability_matrices())
def test_every_bound_of_any_matrix_holds_and_the_tightest_is_marked(S: torch.Tensor) -> None:
    found = bounds.report(S, gamma=0.01)
    values = torch.linalg.svdvals(S)
    exact = {
        "sigma_1": values[0],
        f"sigma_{len(values)}": values[-1],
        "gap": values[0] - values[-1],
        "rank at 0.01": (values > 0.01 * values[0]).sum(),
    }
    groups: dict[tuple[str, str], list[bounds.Bound]] = {}
    for row in found.rows:
        assert row.distance >= -SLACK, row
        sign = 1 if row.side == "upper" else -1
        assert sign * (row.bound - row.value) == pytest.approx(row.distance, abs=1e-12)
        if row.quantity in exact and (len(values) > 1 or row.quantity != "sigma_1"):
            assert row.value == pytest.approx(float(exact[row.quantity]), abs=SLACK)
        groups.setdefault((row.quantity, row.side), []).append(row)
    for own in groups.values():
        marked = {row.distance for row in own if row.tightest}
        assert marked == {min(row.distance for row in own)}
    assert {"sigma_1", "rank at 0.01"} <= {quantity for quantity, _ in groups}
    assert str(found).count("\n") > len(found.rows)


@given(testing.probability_matrices(square=True))
def test_bounds_of_square_matrices_are_those_of_the_functions(S: torch.Tensor) -> None:
    found = bounds.report(S)
    n = len(S)
    for quantity, own in (
        ("sigma_1", bounds.largest_singular_value(S)),
        (f"sigma_{n}", bounds.smallest_singular_value(S)),
    ):
        if n > 1:
            lower, upper = (found.tightest(quantity, side).bound for side in ("lower", "upper"))
            assert lower == pytest.approx(float(own.lower), abs=SLACK)
            assert upper == pytest.approx(float(own.upper), abs=SLACK)
    gap = found.tightest("gap", "upper").bound
    assert gap == pytest.approx(float(bounds.refined_gap(S).upper), abs=SLACK)
    proposition = next(row for row in found.rows if row.name == "Proposition 3.1")
    assert proposition.bound == pytest.approx(float(bounds.gap_bound(S)), abs=SLACK)


def test_more_columns_than_rows_have_the_proposition_on_one_column_for_each_row() -> None:
    torch.manual_seed(0)
    identity = torch.eye(4, dtype=torch.float64)
    rest = softmax(torch.randn(9, 4).double()).mT
    S = torch.cat([rest, identity[:, [2, 0, 3, 1]]], dim=1)
    assert representative_columns(S).tolist() == [10, 12, 9, 11]
    found = bounds.report(S)
    row = found.tightest("gap of 4 columns", "upper")
    assert row.value == row.bound == 0  # these columns are a permutation matrix
    assert "10, 12, 9, 11" in found.notes[-1]


def test_logits_have_the_bounds_of_their_softmax() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 5).double()
    found = bounds.report(logits, temperature=0.3, gamma=0.1)
    assert found.rows == bounds.report(softmax(logits, 0.3).mT, gamma=0.1).rows
    assert found.shape == (5, 7)


@pytest.mark.usefixtures("unchecked")
def test_wrong_matrices_and_names_are_errors() -> None:
    logits = torch.randn(4, 4)
    with pytest.raises(ValueError, match="probability vectors"):
        bounds.report(logits)
    with pytest.raises(ValueError, match="temperature"):
        bounds.report(logits, temperature=0)
    with pytest.raises(ValueError, match="gamma"):
        bounds.report(torch.eye(3), gamma=2)
    with pytest.raises(ValueError, match="gap"):
        bounds.report(torch.eye(3)).tightest("sigma_2", "lower")


def test_pairs_of_very_many_columns_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankdeficit.bounds.reporting.MOST_PAIRS", 3)
    found = bounds.report(torch.eye(4))
    assert not any(row.name == "Brauer" for row in found.rows)
    assert any("Brauer" in note for note in found.notes)
