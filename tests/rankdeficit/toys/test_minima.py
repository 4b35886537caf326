"""The table of minima: its logits have its objectives, and two factors are exact."""

from pathlib import Path

import pytest
import torch

from rankdeficit.toys.minima import WEIGHT_DECAY, Minimum, known_minima, known_minimum, objective_of
from rankdeficit.toys.optima import two_factor_optimum

TABLE = known_minima()
SHORT = {"simplex ETF": " ETF", "Petersen code": " Petersen", "other": ""}
README = Path(__file__).parents[3] / "simulations" / "README.md"
MARKS = "<!-- table: minima -->\n", "<!-- end -->"


def test_all_cells_are_there() -> None:
    assert {*TABLE} == {(c, L) for c in range(3, 21) for L in range(2, 9)}


@pytest.mark.parametrize("cell", TABLE, ids=str)
def test_logits_have_the_objective_and_rank_of_the_table(cell: tuple[int, int]) -> None:
    minimum = TABLE[cell]
    logits = minimum.logits
    assert logits.shape == (cell[0], cell[0])
    assert int(torch.linalg.matrix_rank(logits, rtol=1e-6)) == minimum.rank
    kept = torch.linalg.svdvals(logits)[: minimum.rank]
    rounding = 1e-9 + objective_of(torch.zeros_like(logits), 2, 1.0) * 1e-8
    loss = objective_of(logits, 2, 0.0)
    decay = cell[1] / 2 * WEIGHT_DECAY * float((kept ** (2 / cell[1])).sum())
    assert minimum.objective == pytest.approx(loss + decay, abs=rounding)


@pytest.mark.parametrize("classes", range(3, 21))
def test_two_factors_have_the_global_minimum(classes: int) -> None:
    best = two_factor_optimum(classes, 1, 1.0, WEIGHT_DECAY, WEIGHT_DECAY)
    assert known_minimum(classes, 2).structure == "simplex ETF"
    assert known_minimum(classes, 2).objective == pytest.approx(best.value, abs=1e-9)


def test_a_record_is_read_as_it_was_written() -> None:
    for minimum in (known_minimum(10, 4), known_minimum(10, 2)):
        assert Minimum.read(minimum.record()) == minimum


def test_ten_classes_and_four_factors_have_rank_three() -> None:
    assert known_minimum(10, 4).rank == 3
    assert known_minimum(10, 4).objective < 0.0407024


@pytest.mark.parametrize("cell", [(2, 3), (21, 3), (5, 9)])
def test_cells_outside_the_table_are_refused(cell: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"3\.\.20"):
        known_minimum(*cell)


def markdown() -> str:
    """The table of the simulations' README."""
    factors = sorted({L for _, L in TABLE})
    lines = ["| c | " + " | ".join(f"L = {L}" for L in factors) + " |", "|---" * 8 + "|"]
    for c in sorted({c for c, _ in TABLE}):
        cells = [TABLE[c, L] for L in factors]
        shown = [f"{own.rank}{SHORT.get(own.structure, f' {own.structure}')}" for own in cells]
        lines.append(f"| {c} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def test_the_readme_shows_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.partition(MARKS[0])[2].partition(MARKS[1])[0] == markdown()
