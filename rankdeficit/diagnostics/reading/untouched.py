"""A network that is read and is afterwards as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from rankdeficit.diagnostics.reading.taps import undisturbed


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, after which modes and buffers are what they were.

    Weights of a parametrisation such as spectral_norm change whenever they are read in training mode, and
    observers and counters of a network in every forward pass.
    """
    with undisturbed(model), same_buffers(model):
        yield


@contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """Buffers, such as BatchNorm's running averages, are afterwards exactly what they were."""
    kept = [
        (module, name, own, own.detach().clone())
        for module in model.modules()
        for name, own in module._buffers.items()
        if own is not None and not is_lazy(own)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, own, values in kept:
                module._buffers[name] = own
                if not torch.equal(own, values):  # a copy would end a backward pass that needs it
                    own.resize_(values.shape).copy_(values)
