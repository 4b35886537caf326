"""torchvision's residual networks (He et al., 2016, arXiv 1512.03385) at any width and normalisation.

`width` is the number of channels of the first stage; each later stage has twice as many.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from real_nets.models.build import register
from real_nets.models.parts import (
    Norm,
    Shape,
    Stem,
    check_colours,
    is_small,
    map_norm,
    use_small_stem,
)

STAGES = 4


@register("ResNet-18", convolutional=True)
def resnet18(
    *, inputs: Shape, classes: int, width: int = 64, stem: Stem = "auto", norm: Norm = "batch"
) -> ResNet:
    """torchvision's ResNet-18."""
    return _resnet(BasicBlock, (2, 2, 2, 2), inputs, classes, width, stem, norm)


@register("ResNet-20", convolutional=True)
def resnet20(
    *, inputs: Shape, classes: int, width: int = 16, stem: Stem = "auto", norm: Norm = "batch"
) -> ResNet:
    """The ResNet-20 for CIFAR: three stages of three blocks.

    As in all of torchvision's ResNets, shortcuts that change shape are projections (option B of He et
    al.), where the original networks for CIFAR pad with zeros (option A).
    """
    return _resnet(BasicBlock, (3, 3, 3), inputs, classes, width, stem, norm)


@register("ResNet-34", convolutional=True)
def resnet34(
    *, inputs: Shape, classes: int, width: int = 64, stem: Stem = "auto", norm: Norm = "batch"
) -> ResNet:
    """torchvision's ResNet-34."""
    return _resnet(BasicBlock, (3, 4, 6, 3), inputs, classes, width, stem, norm)


@register("ResNet-50", convolutional=True)
def resnet50(
    *, inputs: Shape, classes: int, width: int = 64, stem: Stem = "auto", norm: Norm = "batch"
) -> ResNet:
    """torchvision's ResNet-50, whose bottlenecks expand their channels by 4."""
    return _resnet(Bottleneck, (3, 4, 6, 3), inputs, classes, width, stem, norm)


class ScaledResNet(ResNet):
    """torchvision's ResNet with a given number of blocks per stage and a given width.

    With four stages and width 64, equal seeds give the same weights as in torchvision.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: Sequence[int],
        classes: int,
        width: int,
        norm_layer: Callable[[int], nn.Module],
    ) -> None:
        with torch.device("meta"):  # no memory: all parts that depend on width are replaced
            super().__init__(block, [1] * STAGES, norm_layer=norm_layer)
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = norm_layer(width)
        for stage in range(STAGES):
            layer: nn.Module = nn.Identity()
            if stage < len(blocks):
                stride = 1 if stage == 0 else 2
                layer = self._make_layer(block, width * 2**stage, blocks[stage], stride)
            setattr(self, f"layer{stage + 1}", layer)
        self.fc = nn.Linear(self.inplanes, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _resnet(
    block: type[BasicBlock] | type[Bottleneck],
    blocks: Sequence[int],
    inputs: Shape,
    classes: int,
    width: int,
    stem: Stem,
    norm: Norm,
) -> ResNet:
    check_colours(inputs)
    model = ScaledResNet(block, blocks, classes, width, map_norm(norm))
    if is_small(stem, inputs):
        use_small_stem(model, "ResNet")
    return model
