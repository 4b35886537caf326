"""Hypothesis strategies for claims about softmax matrices, with the extreme cases that break them.

    from hypothesis import given
    from rankdeficit import bounds, testing

    @given(testing.probability_matrices(square=True))
    def test_a_claim(S):
        assert bounds.singular_gap(S).gap <= bounds.gap_bound(S) + 1e-12

All matrices are float64. `register_profiles` adds the profiles `quick` and `thorough`, for
`pytest --hypothesis-profile thorough`. Needs hypothesis, an extra: pip install "rankdeficit[test]".
"""

from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from rankdeficit.constructions import Code, named_codes
from rankdeficit.softmax import softmax

SCALES = (0.01, 0.3, 1.0, 3.0, 30.0, 1000.0)
"""Scales of logits: from a softmax that is uniform up to 1 % to one of zeros and ones."""

QUICK, THOROUGH = 40, 10_000
"""Examples of each test."""


def register_profiles() -> None:
    """Add the profiles `quick` (the same examples at every run) and `thorough` (others each time)."""
    settings.register_profile("quick", deadline=None, derandomize=True, max_examples=QUICK)
    settings.register_profile("thorough", deadline=None, max_examples=THOROUGH)


@st.composite
def logits(
    draw: Any, samples: int | None = None, classes: int | None = None, rank: int | None = None
) -> Tensor:
    """Logits (samples, classes) of a rank at most `rank`, at scales from 0.01 to 1000.

    samples, classes: between 1 and 12 unless given; rank: between 1 and the larger of both.
    """
    n = draw(st.integers(1, 12)) if samples is None else samples
    c = draw(st.integers(1, 12)) if classes is None else classes
    k = draw(st.integers(1, max(n, c))) if rank is None else rank
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    left = torch.randn(n, k, generator=generator, dtype=torch.float64)
    right = torch.randn(k, c, generator=generator, dtype=torch.float64)
    return draw(st.sampled_from(SCALES)) * left @ right


@st.composite
def probability_matrices(
    draw: Any,
    rows: int | None = None,
    columns: int | None = None,
    square: bool = False,
) -> Tensor:
    """Matrices with probability vectors as columns: the softmax of `logits`, some columns one-hot.

    rows, columns: between 1 and 12 unless given; square: as many rows as columns.
    """
    n = draw(st.integers(1, 12)) if columns is None else columns
    m = n if square else draw(st.integers(1, 12)) if rows is None else rows
    probabilities = softmax(draw(logits(samples=n, classes=m)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    hot = torch.rand(n, generator=generator) < draw(st.sampled_from([0, 0, 0.5, 1]))
    one_hot = torch.nn.functional.one_hot(torch.randint(m, (n,), generator=generator), m).double()
    return torch.where(hot[:, None], one_hot, probabilities).mT


@st.composite
def codes(draw: Any, classes: int | None = None) -> Code:
    """Any of the constructions; classes: between 3 and 12 unless given."""
    c = draw(st.integers(3, 12)) if classes is None else classes
    return draw(st.sampled_from([*named_codes(c).values()]))
