"""The multi-layer perceptron."""

import math
from itertools import pairwise

from torch import nn

from real_nets.models.build import HighTemperatures, register
from real_nets.models.parts import Norm, Shape, vector_norm


@register(
    "MLP",
    options={
        "smoke": {"optimizer": "adamw", "lr": 3e-4, "clip_norm": None, "width": 256, "epochs": 30},
        "small": {"width": 512, "epochs": 25},
        "paper": {"width": 512, "epochs": 100},
    },
    temperatures={
        "small": HighTemperatures(
            50.0,
            "the MLP fits CIFAR-10 at it within 25 epochs, and its networks are cheap enough for others",
            others=(10.0, 100.0, 200.0),
        )
    },
)
def mlp(
    *, inputs: Shape, classes: int, width: int = 512, depth: int = 8, norm: Norm = "none"
) -> nn.Sequential:
    """ReLU network of `depth` linear layers, including the classifier.

    He initialisation (weights N(0, 2 / fan_in), biases 0) makes the norm of the activations, and so the
    initial logits norm, independent of depth. Normalisation layers precede each ReLU.
    """
    sizes = [math.prod(inputs)] + [width] * (depth - 1)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers.append(nn.Linear(before, after))
        if norm != "none":
            layers.append(vector_norm(norm)(after))
        layers.append(nn.ReLU())
    layers.append(nn.Linear(sizes[-1], classes))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
