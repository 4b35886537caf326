"""Weights as matrices and inputs as the rows they multiply: convolutions by unfolding."""

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from rankdeficit.diagnostics.reading.tokens import Mask, fits


def is_transposed(module: nn.Module) -> bool:
    """Whether it is a linear layer whose weight is (in, out): the Conv1D of GPT-2 in transformers."""
    kinds = ((kind.__module__, kind.__name__) for kind in type(module).__mro__)
    return ("transformers.pytorch_utils", "Conv1D") in kinds


def is_linear(module: nn.Module) -> bool:
    """Whether it multiplies the last axis of its input by one matrix, stored either way round."""
    return isinstance(module, nn.Linear) or is_transposed(module)


def weight_matrix(module: nn.Module) -> Float[Tensor, "out width"] | None:
    """W of a layer: (c_out, c_in k k) of a convolution, (out, in) of a linear layer.

    Of an attention layer, the projection of its input to queries, keys and values. None for modules
    that multiply their input by no single matrix: grouped and transposed convolutions, others.
    """
    if isinstance(module, nn.MultiheadAttention):
        return module.in_proj_weight if module.in_proj_weight is not None else module.q_proj_weight
    if is_linear(module):
        weight = module.weight
        assert isinstance(weight, Tensor)
        return weight.mT if is_transposed(module) else weight
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        return module.weight.flatten(1) if module.groups == 1 else None
    return None


def multiply_the_same(first: nn.Module, second: nn.Module) -> bool:
    """Whether two modules that read one tensor multiply the same rows of it by their matrices."""
    if is_linear(first) and is_linear(second):
        return True
    if not isinstance(first, _ConvNd) or not isinstance(second, _ConvNd):
        return False
    both = weight_matrix(first) is not None and weight_matrix(second) is not None
    names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    return both and all(getattr(first, name) == getattr(second, name) for name in names)


def rows_per_sample(module: nn.Module, inputs: Tensor) -> int:
    """Rows that the layer's matrix multiplies per sample or window: output positions, tokens, or 1."""
    if isinstance(module, _ConvNd):
        return len(_patch_pixels(module, inputs.shape[2:], inputs.device)[0])
    return _tokens(inputs).shape[1]


def rows_are_tokens(module: nn.Module, inputs: Tensor, mask: Mask | None) -> bool:
    """Whether each row that the layer's matrix multiplies is that of a token of the mask.

    Of a convolution over tokens, (n, channels, tokens), where it gives as many as it reads.
    """
    if not isinstance(module, _ConvNd):
        return fits(inputs, mask, 1)
    return fits(inputs, mask, 2) and rows_per_sample(module, inputs) == inputs.shape[2]


def input_rows(
    module: nn.Module,
    inputs: Tensor,
    positions: Int64[Tensor, "n chosen"] | None = None,
    windows: int = 1,
) -> Float[Tensor, "rows width"]:
    """A^T of a layer: the rows that its matrix multiplies, of all positions or of those chosen.

    inputs: what the layer reads, a batch with the samples on the first axis, each with so many
    windows. positions: for each sample, indices below windows times `rows_per_sample`; the output at
    that position is W times the row (plus the bias).
    """
    if not isinstance(module, _ConvNd):
        tokens = _tokens(inputs)
        if positions is not None:
            tokens = tokens.reshape(len(positions), -1, tokens.shape[2])
            tokens = tokens.gather(1, positions[:, :, None].expand(-1, -1, tokens.shape[2]))
        return tokens.flatten(0, 1)
    pixels, inside = _patch_pixels(module, inputs.shape[2:], inputs.device)
    if positions is None:
        patches = inputs.flatten(2)[:, :, pixels].mul_(inside)
    else:
        maps = inputs.unflatten(0, (-1, windows)).transpose(1, 2)  # (n, channels, windows, *sides)
        window, positions = positions // len(pixels), positions % len(pixels)
        read = window[..., None] * math.prod(inputs.shape[2:]) + pixels[positions]
        read = read.flatten(1)[:, None].expand(-1, maps.shape[1], -1)
        patches = maps.flatten(2).gather(2, read).unflatten(2, (-1, pixels.shape[1]))
        patches.mul_(inside[positions][:, None])
    return patches.transpose(1, 2).flatten(0, 1).flatten(1)  # from (n, channels, positions, kernel)


def _tokens(inputs: Tensor) -> Float[Tensor, "n tokens width"]:
    """Inputs of a linear or attention layer with all axes between the first and the last as one."""
    return inputs.reshape(inputs.shape[0], -1, inputs.shape[-1])


def _patch_pixels(
    module: _ConvNd, sides: torch.Size, device: torch.device
) -> tuple[Int64[Tensor, "positions kernel"], Bool[Tensor, "positions kernel"]]:
    """For each output position the flat indices of the pixels under the kernel, and which are real."""
    padding = tuple(module._reversed_padding_repeated_twice)
    shape = module.stride, module.kernel_size, module.dilation
    return _unfolded_indices(tuple(sides), padding, module.padding_mode, *shape, device)


@lru_cache(maxsize=128)  # the same few layers are asked for in every batch
def _unfolded_indices(
    sides: tuple[int, ...],
    padding: tuple[int, ...],
    mode: str,
    strides: tuple[int, ...],
    kernels: tuple[int, ...],
    dilations: tuple[int, ...],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """The padded picture of indices, unfolded: reflected and circular padding are real pixels."""
    numbers = torch.arange(1, math.prod(sides) + 1, dtype=torch.float64, device=device)
    mode = "constant" if mode == "zeros" else mode
    picture = nn.functional.pad(numbers.reshape(1, 1, *sides), padding, mode=mode)[0, 0]
    corners = offsets = torch.zeros(1, dtype=torch.int64, device=device)
    for side, stride, kernel, dilation in zip(
        picture.shape, strides, kernels, dilations, strict=True
    ):
        reach = dilation * (kernel - 1) + 1
        starts = torch.arange(0, side - reach + 1, stride, device=device)
        steps = torch.arange(0, reach, dilation, device=device)
        corners = (corners[:, None] * side + starts).flatten()
        offsets = (offsets[:, None] * side + steps).flatten()
    found = picture.flatten()[corners[:, None] + offsets].long()
    return (found - 1).clamp(min=0), found > 0
