"""Choices that depend on a sample's content alone: the same in any order, batch, shard or process."""

import torch
from jaxtyping import Int64
from torch import Tensor

HASHED_VALUES = 256
"""Values of a sample that its key looks at, evenly spread, at most."""

_ODD = -7046029254386353131  # 2^64 / golden ratio, as a signed odd number
_MIX = -4658895280553007687


def sample_keys(inputs: Tensor) -> Int64[Tensor, " n"]:
    """A pseudo-random integer per sample, a hash of its bits. Equal samples have equal keys."""
    flat = inputs.detach().reshape(inputs.shape[0], -1)
    flat = flat[:, :: max(1, flat.shape[1] // HASHED_VALUES)]
    if flat.is_floating_point():
        flat = flat.double().view(torch.int64)
    places = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    return scramble((scramble(flat.long() + places * _ODD)).sum(dim=1))


def scramble(keys: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    """Mix the bits of integers (multiplications and shifts modulo 2^64)."""
    keys = (keys ^ _shift(keys, 30)) * _MIX
    keys = (keys ^ _shift(keys, 27)) * _ODD
    return keys ^ _shift(keys, 31)


def positions(
    keys: Int64[Tensor, " n"], count: int, total: int, salt: int
) -> Int64[Tensor, "n chosen"]:
    """For each sample `count` of `total` positions, drawn with replacement; all where there are fewer.

    salt: tells draws for different purposes apart.
    """
    if count >= total:
        return torch.arange(total, device=keys.device).expand(len(keys), -1)
    draws = torch.arange(1, count + 1, device=keys.device) + salt * count
    return scramble(keys[:, None] + draws * _ODD).remainder(total)


def _shift(keys: Tensor, bits: int) -> Tensor:
    """Bits moved to the right, zeros moved in; torch's own shift copies the sign."""
    return (keys >> bits) & (2 ** (64 - bits) - 1)
