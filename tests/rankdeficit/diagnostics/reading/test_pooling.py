"""Features from maps and tokens."""

import pytest
import torch
from torch.nn import functional

from rankdeficit.diagnostics.reading.pooling import pool_features


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_cells_are_averages_by_hand() -> None:
    maps = normal(2, 3, 4, 6)
    cells = [maps[:, :, i : i + 2, j : j + 3].mean((2, 3)) for i in (0, 2) for j in (0, 3)]
    torch.testing.assert_close(pool_features(maps, 2, False), torch.stack(cells, 2).flatten(1))


@pytest.mark.parametrize("grid", [1, 2, 3, 9])
def test_maps_are_pooled_as_torch_does(grid: int) -> None:
    for sides, pool in (
        ((7,), functional.adaptive_avg_pool1d),
        ((5, 7), functional.adaptive_avg_pool2d),
        ((1, 3), functional.adaptive_avg_pool2d),
        ((2, 5, 4), functional.adaptive_avg_pool3d),
    ):
        maps = normal(4, 3, *sides)
        size = [min(grid, side) for side in sides]
        expected = pool(maps, size).flatten(1)
        torch.testing.assert_close(pool_features(maps, grid, False), expected)
        if len(sides) > 1:
            last = maps.movedim(1, -1)
            torch.testing.assert_close(pool_features(last, grid, True), expected)


def test_maps_smaller_than_the_grid_stay_as_they_are() -> None:
    maps = normal(2, 3, 4, 6)
    torch.testing.assert_close(pool_features(maps, 9, False), maps.flatten(1))


def test_tokens_are_averaged_and_vectors_left_alone() -> None:
    tokens, vectors = normal(2, 5, 3), normal(2, 3)
    torch.testing.assert_close(pool_features(tokens, 2, True), tokens.mean(1))
    torch.testing.assert_close(pool_features(tokens, 1, False), tokens.mean(2))
    assert pool_features(vectors, 2, True) is vectors
    assert pool_features(vectors, 2, False) is vectors


def test_a_mask_of_fewer_samples_than_rows_leaves_vectors_alone() -> None:
    rows = torch.rand(80, 16)
    assert pool_features(rows, 2, False, torch.ones(8, 10, dtype=torch.bool)) is rows
