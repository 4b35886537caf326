"""Memory layout of a network: channels last, except where that triggers a bug of oneDNN on CPUs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.taps import undisturbed

SAFE_CHANNELS = 16
"""Number of floats in an AVX-512 register."""
LEAST_CHANNELS = 8
"""Number of floats in an AVX2 register."""
SAFE_POSITIONS = 512
"""Positions of a map that one thread processes at once, given a first-level cache of at least 32 KiB."""


def safe_layout(
    model: nn.Module, size: tuple[int, int], device: torch.device
) -> torch.memory_format:
    """Channels last, or contiguous if training in channels last would corrupt memory on that device.

    oneDNN computes the weight gradient of a strided 1 x 1 convolution from a copy of each image. It
    allocates the copy for the actual channels, but steps through it as if each position filled a
    register: with fewer channels, all chunks of a map except the first are written out of bounds
    (uxlfoundation/oneDNN issue 6035). A small map in a single thread is one chunk.

    size: height and width of the images.
    """
    narrow = _narrow(model)
    if device.type != "cpu" or not narrow:
        return torch.channels_last
    if torch.get_num_threads() > 1 or min(m.in_channels for m in narrow) < LEAST_CHANNELS:
        return torch.contiguous_format
    small = _largest_map(model, narrow, size) <= SAFE_POSITIONS
    return torch.channels_last if small else torch.contiguous_format


def _narrow(model: nn.Module) -> list[nn.Conv2d]:
    """Strided 1 x 1 convolutions with fewer input channels than a register holds floats."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels < SAFE_CHANNELS
    ]


@torch.no_grad()
def _largest_map(model: nn.Module, modules: Sequence[nn.Module], size: tuple[int, int]) -> int:
    """Height times width of the largest output map of the modules."""
    positions = [0]

    def note(module: nn.Module, arguments: object, output: Tensor) -> None:
        positions.append(output.shape[-2] * output.shape[-1])

    hooks = [module.register_forward_hook(note) for module in modules]
    like = next(model.parameters())
    try:
        with torch.random.fork_rng(devices=[]), undisturbed(model):
            model(torch.zeros(1, 3, *size, dtype=like.dtype, device=like.device))
    finally:
        for hook in hooks:
            hook.remove()
    return max(positions)
