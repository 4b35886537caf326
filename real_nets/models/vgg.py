"""torchvision's VGG networks (Simonyan and Zisserman, 2015, arXiv 1409.1556) at any width."""

import torch
from torch import nn
from torchvision.models.vgg import VGG, cfgs, make_layers

from real_nets.models.build import register
from real_nets.models.parts import Norm, Shape, Stem, check_colours, is_small, map_norm

FULL_WIDTH = 64
HALVINGS = 5


@register("VGG-19", convolutional=True)
def vgg19(
    *, inputs: Shape, classes: int, width: int = 64, stem: Stem = "auto", norm: Norm = "batch"
) -> VGG:
    """torchvision's VGG-19 (vgg19_bn) with `width` channels in its first stage.

    For small images, the classifier reads one vector of 8 width channels through three linear layers of
    that width, instead of 7 x 7 cells through layers of 64 width. These layers keep torch's default
    initialisation, as usual for CIFAR: torchvision's standard deviation of 0.01 is meant for thousands of
    inputs, and would make the logits at width 64 seventeen times smaller still.
    Raises ValueError for images below 32 pixels, which five poolings would reduce to nothing.
    """
    check_colours(inputs)
    if min(inputs[1:]) < 2**HALVINGS:
        raise ValueError(
            f"inputs are images of {inputs[1]} x {inputs[2]}; vgg19 takes {2**HALVINGS} or more "
            "pixels a side"
        )
    small = is_small(stem, inputs)
    cells = 1 if small else 7
    channels, hidden = 8 * width, (8 if small else 64) * width
    with torch.device("meta"):  # no memory: all parts are replaced
        model = VGG(nn.Identity(), init_weights=False)
    model.features = _features(width, norm)
    model.avgpool = nn.AdaptiveAvgPool2d((cells, cells))
    model.classifier = nn.Sequential(
        nn.Linear(channels * cells**2, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(hidden, classes),
    )
    _initialise(model, small)
    return model


def _features(width: int, norm: Norm) -> nn.Sequential:
    scaled = [c if isinstance(c, str) else c * width // FULL_WIDTH for c in cfgs["E"]]
    features = make_layers(scaled, batch_norm=norm != "none")
    for number, module in enumerate(features):
        if isinstance(module, nn.BatchNorm2d):
            features[number] = map_norm(norm)(module.num_features)
    return features


def _initialise(model: VGG, small: bool) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and not small:
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
