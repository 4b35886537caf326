"""The strategies for claims of one's own: what they make, and that extremes occur."""

from collections import Counter

import pytest
import torch
from hypothesis import find, given, settings

from rankdeficit import testing
from rankdeficit.constructions import Code


@given(testing.probability_matrices(), testing.probability_matrices(rows=3, columns=5))
def test_columns_are_probability_vectors_of_the_shape_asked_for(
    S: torch.Tensor, other: torch.Tensor
) -> None:
    assert other.shape == (3, 5)
    for own in (S, other):
        assert own.dtype == torch.float64
        assert bool((own >= 0).all())
        assert own.sum(dim=0).tolist() == pytest.approx([1] * own.shape[1])


@given(testing.logits(samples=9, classes=7, rank=2))
def test_logits_have_the_rank_asked_for(logits: torch.Tensor) -> None:
    assert logits.shape == (9, 7)
    values = torch.linalg.svdvals(logits)
    assert values[2] <= 1e-12 * values[0]


@given(testing.codes(classes=10))
def test_codes_have_the_classes_asked_for(code: Code) -> None:
    assert code.classes == 10
    assert bool(code.logits(torch.arange(10)).argmax(dim=1).equal(torch.arange(10)))


def test_extreme_matrices_occur() -> None:
    for extreme in (
        lambda S: len(S) > 3 and set(S.flatten().tolist()) == {0.0, 1.0},
        lambda S: len(S) > 2 and float(S.max() - S.min()) < 0.05,
        lambda S: len(S) > 1 and torch.linalg.matrix_rank(S) == 1,
    ):
        assert extreme(find(testing.probability_matrices(square=True), extreme))


def test_all_codes_of_ten_classes_occur() -> None:
    names: Counter[str] = Counter()

    @settings(max_examples=60, derandomize=True, database=None)
    @given(testing.codes(classes=10))
    def collect(code: Code) -> None:
        names[code.name] += 1

    collect()
    assert len(names) == 4
