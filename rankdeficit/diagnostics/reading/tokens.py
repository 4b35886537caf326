"""Tensors of a forward pass with a row per sample first, and which of their tokens are no padding."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

Value = Tensor | PackedSequence
"""What modules take and return."""

Mask = Bool[Tensor, "n tokens"]
"""True at tokens, False at padding."""


class Tokens(NamedTuple):
    """A tensor of a batch."""

    values: Float[Tensor, "n_windows *shape"]
    """Samples first, each with its windows one after the other."""
    mask: Mask | None
    """Of the batch; it `fits` some of its tensors."""
    packed: bool = False
    """It was a PackedSequence: its values are (n, tokens, width)."""
    windows: int = 1
    """Windows per sample, as of networks that attend within parts of an image."""


def data_of(value: Value) -> Tensor:
    """The tensor itself, or that of a PackedSequence."""
    return value.data if isinstance(value, PackedSequence) else value


def tokens_of(value: Value, samples: int, axis: int, mask: Mask | None) -> Tokens:
    """What was read with the samples on axis 0, and the mask; of a PackedSequence its own.

    axis: of the samples, or of their windows, (samples x windows, ...).
    """
    if isinstance(value, PackedSequence):
        values, lengths = pad_packed_sequence(value, batch_first=True)
        return Tokens(values, mask_of_lengths(lengths.to(values.device), values.shape[1]), True)
    values = value.movedim(axis, 0) if axis else value
    windowed = values.ndim > 2 and samples > 0 and len(values) % samples == 0
    return Tokens(
        values,
        None if mask is None else mask.to(values.device),
        windows=max(1, len(values) // samples) if windowed else 1,
    )


def fits(values: Tensor, mask: Mask | None, axis: int) -> bool:
    """Whether the mask is that of this axis of (n, tokens, width) or (n, channels, tokens)."""
    if mask is None or values.ndim != 3:
        return False
    return mask.shape == (len(values), values.shape[axis])


def mask_of_lengths(lengths: Int64[Tensor, " n"], tokens: int) -> Mask:
    """True at the first tokens of each sequence."""
    return torch.arange(tokens, device=lengths.device) < lengths[:, None]


def masked_mean(values: Float[Tensor, "n tokens width"], mask: Mask) -> Float[Tensor, "n width"]:
    """Mean over the tokens of each sample, whatever the padding holds."""
    kept = torch.where(mask[:, :, None], values, torch.zeros_like(values))
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)


def chosen_tokens(drawn: Int64[Tensor, "n count"], mask: Mask) -> Int64[Tensor, "n count"]:
    """`positions` among the tokens of each sample; all of those with fewer come again in turn."""
    lengths, count = mask.sum(dim=1, keepdim=True), drawn.shape[1]
    turn = torch.arange(count, device=mask.device) % lengths
    places = mask.long().argsort(dim=1, descending=True, stable=True)
    return places.gather(1, torch.where(lengths > count, drawn.remainder(lengths), turn))


def samples_axis(shape: tuple[int, ...], samples: int, fewer: tuple[int, ...] | None = None) -> int:
    """The axis of the samples, or of their windows, in a tensor of so many; the first where none is.

    fewer: the shape for one sample less, which tells the axis unless several change. Rows of features,
    (n, width), have them on the first, and the last axis is one of features.
    """
    if len(shape) < 3:
        return 0
    if fewer is not None and len(fewer) == len(shape):
        changed = [axis for axis, size in enumerate(shape) if size != fewer[axis]]
        if len(changed) == 1:
            return changed[0]
    return shape.index(samples) if samples in shape[:-1] else 0


def telling_number(available: int, sizes: Iterable[int]) -> int:
    """How many samples to trace: few, and if possible a number that no other axis of the inputs has."""
    others = set(sizes)
    return next((own for own in (2, 3, 5, 7) if own <= available and own not in others), 2)
