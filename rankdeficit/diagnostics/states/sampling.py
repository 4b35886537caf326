"""Choices that depend on a sample's content alone: the same in any order, batch, shard or process."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
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


def token_keys(inputs: Tensor, mask: Bool[Tensor, "n tokens"]) -> Int64[Tensor, " n"]:
    """`sample_keys` of sequences (n, tokens, ...) of which only the tokens of the mask count.

    Padding, before or after the tokens, changes nothing.
    """
    inputs = inputs.detach()
    tokens = inputs.long() if inputs.ndim == 2 and not inputs.is_floating_point() else None
    if tokens is None:
        tokens = sample_keys(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
    mask = mask.to(tokens.device)
    return scramble((scramble(tokens + mask.cumsum(dim=1) * _ODD) * mask).sum(dim=1))


def combined_keys(keys: Sequence[Int64[Tensor, " n"]]) -> Int64[Tensor, " n"]:
    """One key per sample from those of its parts."""
    return scramble(
        torch.stack([scramble(own.cpu() + place * _ODD) for place, own in enumerate(keys)]).sum(
            dim=0
        )
    )


def scramble(keys: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    """Mix the bits of integers (multiplications and shifts modulo 2^64)."""
    keys = (keys ^ _shift(keys, 30)) * _MIX
    keys = (keys ^ _shift(keys, 27)) * _ODD
    return keys ^ _shift(keys, 31)


def draws(keys: Int64[Tensor, " n"], count: int, purposes: int) -> Int64[Tensor, "n {purposes} _"]:
    """`count` pseudo-random integers per sample and purpose, independent of the number of purposes."""
    numbers = torch.arange(1, purposes * count + 1, device=keys.device)
    return scramble(keys[:, None] + numbers * _ODD).unflatten(1, (purposes, count))


def positions(drawn: Int64[Tensor, "n count"], total: int) -> Int64[Tensor, "n chosen"]:
    """For each sample `count` of `total` positions, with replacement; all where there are fewer.

    drawn: `draws` of one purpose.
    """
    if drawn.shape[1] >= total:
        return torch.arange(total, device=drawn.device).expand(len(drawn), -1)
    return drawn.remainder(total)


def _shift(keys: Tensor, bits: int) -> Tensor:
    """Bits moved to the right, zeros moved in; torch's own shift copies the sign."""
    return (keys >> bits) & (2 ** (64 - bits) - 1)
