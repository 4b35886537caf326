"""Moments: the state without labels that NECO can be fitted on."""

import pytest
import torch
from torch import Tensor

from rankdeficit.diagnostics.measures.neco import fit_neco
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics
from rankdeficit.diagnostics.states.moments import Moments


def features(n: int = 500, offset: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 6, generator=generator, dtype=torch.float64) + offset


def moments_of(h: Tensor, size: int) -> Moments:
    found = Moments(h.shape[1])
    for batch in h.split(size):
        found.update(batch)
    return found


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("size", [1, 33, 500])
def test_mean_and_scatter_are_those_of_all_rows(size: int, offset: float) -> None:
    h = features(offset=offset)
    found = moments_of(h, size)
    assert found.samples == 500
    torch.testing.assert_close(found.mean, h.mean(dim=0), rtol=1e-14, atol=1e-12)
    centred = h - h.mean(dim=0)
    torch.testing.assert_close(found.total_scatter, centred.mT @ centred, rtol=1e-8, atol=1e-6)


def test_merging_is_seeing_both() -> None:
    h = features()
    merged = moments_of(h[:123], 50).merge(moments_of(h[123:], 50)).merge(Moments(6))
    whole = moments_of(h, 500)
    assert merged.samples == whole.samples
    torch.testing.assert_close(merged.mean, whole.mean)
    torch.testing.assert_close(merged.total_scatter, whole.total_scatter)


def test_neco_of_moments_is_that_of_class_statistics() -> None:
    h = features()
    labels = torch.arange(500) % 4
    statistics = ClassStatistics(6, 4)
    statistics.update(h, labels)
    first, second = (fit_neco(state, dimension=3) for state in (moments_of(h, 64), statistics))
    torch.testing.assert_close(first.scores(h), second.scores(h), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"dimension.*None"):
        fit_neco(moments_of(h, 64))


def test_bad_batches_change_nothing() -> None:
    found = moments_of(features(), 100)
    before = found.total_scatter
    bad = features(3)
    bad[1, 2] = torch.nan
    for batch, message in ((bad, "NaN"), (features(3)[:, :5], r"\(3, 5\)")):
        with pytest.raises(ValueError, match=message):
            found.update(batch)
    assert torch.equal(found.total_scatter, before)
    with pytest.raises(ValueError, match="other has 5"):
        found.merge(Moments(5))
