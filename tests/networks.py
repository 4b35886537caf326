"""Networks that tests and benchmarks share."""

from torch import nn

from real_nets.models import Architecture


def narrow_resnet18(width: int = 16, classes: int = 100, seed: int = 0) -> nn.Module:
    """A ResNet-18 for 32 x 32 images in training mode, with weights of a seed."""
    return Architecture("resnet18", classes, (3, 32, 32), width=width).build(seed).train()
