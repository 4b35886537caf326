"""Networks that tests and benchmarks share."""

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class NarrowResNet(ResNet):
    """torchvision's ResNet-18 at a width of choice, with the stem for 32 x 32 images."""

    def __init__(self, width: int, classes: int) -> None:
        self.width = width
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=classes)
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity()  # type: ignore[assignment]
        for number, stride in enumerate((1, 2, 2, 2)):
            planes = width * 2**number
            setattr(self, f"layer{number + 1}", self._make_layer(BasicBlock, planes, 2, stride))
        self.fc = nn.Linear(8 * width, classes)


def narrow_resnet18(width: int = 16, classes: int = 100, seed: int = 0) -> NarrowResNet:
    """A ResNet-18 with weights of a seed; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NarrowResNet(width, classes)
