"""Choices that depend on content alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import Tensor

from rankdeficit.diagnostics.states.sampling import draws, positions, sample_keys


def images(count: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def assert_uniform(values: Tensor, cells: int) -> None:
    """Pearson's test, at a level that a fair draw fails once in 10^4."""
    counts = torch.bincount(values.flatten(), minlength=cells).double()
    expected = values.numel() / cells
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert chi2.sf(statistic, cells - 1) > 1e-4


@given(st.permutations(range(8)), st.integers(1, 8))
def test_keys_do_not_depend_on_order_and_batches(order: list[int], size: int) -> None:
    inputs = images(8, 3, 5, 5)
    keys = torch.cat([sample_keys(batch) for batch in inputs[order].split(size)])
    assert keys.tolist() == sample_keys(inputs)[order].tolist()


def test_keys_see_content_and_not_its_layout() -> None:
    inputs = images(6, 3, 8, 8)
    keys = sample_keys(inputs)
    assert sample_keys(inputs.to(memory_format=torch.channels_last)).tolist() == keys.tolist()
    assert sample_keys(inputs.double()).tolist() == keys.tolist()
    assert sample_keys(inputs[[0, 0, 1]]).tolist() == [*keys[[0, 0, 1]].tolist()]
    assert sample_keys(inputs.clone().requires_grad_()).tolist() == keys.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8, torch.bfloat16])
def test_different_samples_have_different_keys(dtype: torch.dtype) -> None:
    inputs = (20 * images(20_000, 12)).clamp(0, 255).to(dtype) + 0
    distinct = len(inputs.double().unique(dim=0))
    assert len(sample_keys(inputs).unique()) == distinct
    assert len(sample_keys(torch.eye(100).to(dtype)).unique()) == 100


def test_permuted_values_have_different_keys() -> None:
    inputs = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 1.0, 3.0]])
    assert len(sample_keys(inputs).unique()) == 3


def test_one_pixel_among_few_changes_the_key() -> None:
    inputs = torch.zeros(257, 256)
    inputs[torch.arange(256), torch.arange(256)] = 1e-6
    assert len(sample_keys(inputs).unique()) == 257


def test_the_bits_of_keys_are_fair_and_independent() -> None:
    keys = sample_keys(images(20_000, 3, 4, 4))
    bits = (keys[:, None] >> torch.arange(64)) & 1
    deviation = (bits.double().mean(0) - 0.5) * 2 * 20_000**0.5  # standard normal
    assert deviation.abs().max() < 4.5
    correlation = torch.corrcoef(bits.double().mT).fill_diagonal_(0) * 20_000**0.5
    assert correlation.abs().max() < 5


@pytest.mark.parametrize("total", [2, 7, 64, 1000])
@pytest.mark.parametrize("count", [1, 5])
def test_positions_are_uniform(count: int, total: int) -> None:
    keys = sample_keys(images(20_000, 10))
    if count >= total:
        assert positions(draws(keys, count, 1)[:, 0], total)[3].tolist() == list(range(total))
        return
    drawn = positions(draws(keys, count, 1)[:, 0], total)
    assert drawn.shape == (20_000, count)
    assert_uniform(drawn, total)
    for column in drawn.mT:
        assert_uniform(column, total)


def test_draws_of_a_sample_and_of_different_layers_are_independent() -> None:
    keys = sample_keys(images(20_000, 10))
    first, second = (positions(own, 8) for own in draws(keys, 2, 2).unbind(1))
    pairs = [(first[:, 0], first[:, 1]), (first[:, 0], second[:, 0]), (first[:, 1], second[:, 0])]
    for one, other in pairs:
        assert_uniform(8 * one + other, 64)


def test_positions_depend_on_a_sample_alone_and_all_are_taken_where_they_are_few() -> None:
    keys = sample_keys(images(50, 10))
    drawn = draws(keys, 3, 6)
    assert torch.equal(draws(keys[[7]], 3, 5), drawn[[7], :5])
    for count in (4, 9):
        assert positions(draws(keys[:2], count, 2)[:, 1], 4).tolist() == [[0, 1, 2, 3]] * 2
