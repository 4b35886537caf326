"""The streamed loss against torch's."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from rankdeficit.diagnostics.states.loss import MeanLoss


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 50.0])
def test_loss_of_batches_is_that_of_all_samples(dtype: torch.dtype, temperature: float) -> None:
    logits = 5 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    logits, labels = logits.to(dtype), torch.arange(50) % 7
    expected = cross_entropy(logits.double() / temperature, labels)
    for size in (1, 13, 50):
        state = MeanLoss(temperature)
        for batch, own in zip(logits.split(size), labels.split(size), strict=True):
            state.update(batch, own)
        assert state.mean == pytest.approx(float(expected), rel=1e-12)


def test_states_of_unequal_shares_merge() -> None:
    logits, labels = torch.eye(4), torch.tensor([0, 1, 2, 0])
    whole, first, second = MeanLoss(2.0), MeanLoss(2.0), MeanLoss(2.0)
    whole.update(logits, labels)
    first.update(logits[:1], labels[:1])
    second.update(logits[1:], labels[1:])
    merged = first.merge(second)
    assert merged.mean == pytest.approx(whole.mean)
    assert merged.temperature == 2.0
    assert first.merge(first).mean == pytest.approx(first.mean)
