"""Memory layout of a network: that of channels last, where the CPU can train in it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.taps import undisturbed

SAFE_CHANNELS = 16
"""Floats in a register of AVX-512."""
LEAST_CHANNELS = 8
"""Floats in one of AVX2."""
SAFE_PLACES = 512
"""Places of a map that one thread takes at once, with a first-level cache of 32 KiB or more."""


def safe_layout(
    model: nn.Module, size: tuple[int, int], device: torch.device
) -> torch.memory_format:
    """Channels last; contiguous where training in the former on that device would spoil the memory.

    oneDNN's gradient of the weights of a strided 1 x 1 convolution copies an image to a space for its
    own channels, but counts places there as if each filled a register: with fewer channels, all parts
    of a map but the first end beyond it (uxlfoundation/oneDNN issue 6035). A map is one part where it
    is small and no other thread takes some of it.

    size: height and width of the images.
    """
    narrow = _narrow(model)
    if device.type != "cpu" or not narrow:
        return torch.channels_last
    if torch.get_num_threads() > 1 or min(m.in_channels for m in narrow) < LEAST_CHANNELS:
        return torch.contiguous_format
    small = _most_places(model, narrow, size) <= SAFE_PLACES
    return torch.channels_last if small else torch.contiguous_format


def _narrow(model: nn.Module) -> list[nn.Conv2d]:
    """Strided 1 x 1 convolutions of few channels."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels < SAFE_CHANNELS
    ]


@torch.no_grad()
def _most_places(model: nn.Module, modules: Sequence[nn.Module], size: tuple[int, int]) -> int:
    """Height times width of the largest map that one of the modules makes."""
    places = [0]

    def note(module: nn.Module, arguments: object, output: Tensor) -> None:
        places.append(output.shape[-2] * output.shape[-1])

    hooks = [module.register_forward_hook(note) for module in modules]
    like = next(model.parameters())
    try:
        with torch.random.fork_rng(devices=[]), undisturbed(model):
            model(torch.zeros(1, 3, *size, dtype=like.dtype, device=like.device))
    finally:
        for hook in hooks:
            hook.remove()
    return max(places)
