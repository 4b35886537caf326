"""From maps and tokens to one vector of features per sample."""

import math
from collections.abc import Callable
from functools import lru_cache, reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.tokens import Mask, fits, masked_mean

LARGE = 16
"""Rows of a map from which it pays to average them first."""


def pool_features(
    tensor: Float[Tensor, "rows *shape"],
    grid: int,
    channels_last: bool,
    mask: Mask | None = None,
    windows: int = 1,
) -> Float[Tensor, "n_samples features"]:
    """A representation averaged to grid cells per side (adaptively) and flattened; tokens to their mean.

    channels_last: (n, tokens, channels) and (n, *sides, channels) instead of (n, channels, *sides).
    mask: of (n, tokens, channels) or (n, channels, tokens); the mean is over its tokens alone.
    windows: so many maps in a row are of one sample, whose features are their mean.
    Sides shorter than the grid stay as they are. Averages are at least float32, of numbers up to the
    largest of their precision too.
    """
    if tensor.ndim == 2:
        return tensor
    if windows > 1:
        each = pool_features(tensor, grid, channels_last)
        return _finite(each.unflatten(0, (-1, windows)), lambda exact: exact.mean(dim=1))
    if mask is not None and fits(tensor, mask, 1 if channels_last else 2):
        tokens = tensor if channels_last else tensor.mT
        return _finite(tokens, lambda exact: masked_mean(exact, mask))
    if channels_last and tensor.ndim == 3:
        return _finite(tensor, lambda exact: exact.mean(dim=1))
    if channels_last:
        tensor = tensor.movedim(-1, 1)
    return _finite(tensor, lambda exact: _cells(exact, grid))


def _finite(tensor: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
    """An average in float32 or float64; in float64 if sums overflow float32."""
    exact = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    found = average(exact)
    if found.dtype == torch.float32 and not math.isfinite(float(found.sum())):
        found = average(exact.double()).to(found)
    return found


def _cells(tensor: Float[Tensor, "n channels *sides"], grid: int) -> Float[Tensor, "n features"]:
    """Averages of the cells of each channel's map."""
    if tensor.ndim == 4 and tensor.shape[2] >= LARGE and tensor.shape[2] % grid == 0:
        tensor = tensor.unflatten(2, (grid, -1)).mean(dim=3)  # whole rows: what memory allows
    # One product with a contiguous matrix is faster than torch's adaptive pooling.
    averages = _averages(tuple(tensor.shape[2:]), grid, tensor.dtype, tensor.device)
    maps = tensor.flatten(2).flatten(0, 1)
    return nn.functional.linear(maps, averages).reshape(len(tensor), -1)


@lru_cache(maxsize=128)  # the same few maps are pooled in every batch
def _averages(
    sides: tuple[int, ...], grid: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "cells pixels"]:
    """Weights with which each cell averages the pixels of a map."""
    along = []
    for side in sides:
        pixels = torch.eye(side, dtype=dtype, device=device)
        along.append(nn.functional.adaptive_avg_pool1d(pixels, min(grid, side)).mT)
    return reduce(torch.kron, along).contiguous()
