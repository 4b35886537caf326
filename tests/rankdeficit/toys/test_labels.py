"""Classes of unequal size and noisy labels."""

import pytest
import torch

from rankdeficit.toys.labels import long_tailed_counts, noisy_labels, noisy_targets, step_counts


def test_counts_fall_geometrically_to_the_smallest_class() -> None:
    assert long_tailed_counts(3, 100, 100.0) == (100, 10, 1)
    assert long_tailed_counts(4, 5, 1.0) == (5, 5, 5, 5)
    assert long_tailed_counts(3, 4, 1000.0) == (4, 1, 1)
    assert step_counts(5, 100, 20.0) == (100, 100, 100, 5, 5)
    assert step_counts(2, 3, 100.0) == (3, 1)


@pytest.mark.parametrize("imbalance", [0.5, float("inf"), float("nan")])
def test_an_imbalance_below_one_is_refused(imbalance: float) -> None:
    for function in (long_tailed_counts, step_counts):
        with pytest.raises(ValueError, match="imbalance"):
            function(3, 4, imbalance)


def test_noisy_labels_have_the_distribution_of_the_targets() -> None:
    labels = torch.arange(4).repeat_interleave(20_000)
    found = noisy_labels(labels, 4, 0.4, seed=0)
    shares = torch.nn.functional.one_hot(found, 4).double().view(4, -1, 4).mean(dim=1)
    expected = noisy_targets(torch.arange(4), 4, 0.4)
    assert expected[0].tolist() == pytest.approx([0.7, 0.1, 0.1, 0.1])
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)
    assert torch.equal(found, noisy_labels(labels, 4, 0.4, seed=0))
    assert torch.equal(noisy_labels(labels, 4, 0.0, seed=0), labels)


@pytest.mark.parametrize("noise", [-0.1, 1.1, float("nan")])
def test_noise_that_is_no_share_is_refused(noise: float) -> None:
    for function in (noisy_targets, lambda *given: noisy_labels(*given, seed=0)):
        with pytest.raises(ValueError, match="label noise"):
            function(torch.arange(3), 3, noise)
