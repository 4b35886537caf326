"""All that a network is built from, as plain values."""

import math
from dataclasses import dataclass, fields
from typing import Any, get_args

import torch
from torch import nn

from rankdeficit.checks import check_at_least
from real_nets.models import registry
from real_nets.models.heads import check_one_classifier
from real_nets.models.norms import Norm
from real_nets.models.parts import Shape, Stem
from real_nets.models.surgery import (
    HeadNorm,
    Initialisation,
    change_head,
    find_classifier,
    initialise,
    scale_logits,
    scale_weights,
)

CHOICES = {"stem": Stem, "norm": Norm, "head_norm": HeadNorm, "init": Initialisation}
OPTIONS = ("width", "depth", "stem", "norm", "pretrained")
"""Handed on to the network's function, where they are not at their defaults."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What can be chosen of a network."""

    width: int | None = None
    """Width of hidden layers, channels of the first stage, or width of the embedding [default: the
    network's own]."""
    depth: int | None = None
    """Weight layers of mlp, blocks of vit [default: the network's own]."""
    stem: Stem = "auto"
    """First layers: cifar is for small images; auto takes it up to 64 pixels, torchvision's and timm's
    networks stay as they are."""
    norm: Norm = "default"
    """Normalisation within the network."""
    head_rank: int | None = None
    """Factor the classifier through so many dimensions, which bounds the rank of the logits."""
    head_norm: HeadNorm = "none"
    """Normalisation after the logits."""
    init: Initialisation = "default"
    """Initial distribution of all weights; default: the network's own."""
    init_scale: float = 1.0
    """Factor of all initial weights, gains and biases excepted."""
    head_scale: float = 1.0
    """Factor of the initial classifier, and with it of the logits."""
    pretrained: bool = False
    """Start from weights that timm downloads, for vit_b16 and timm:NAME."""


@dataclass(frozen=True)
class Architecture(NetworkOptions):
    """What a network is built from.

    Raises ValueError for unknown names, values out of range, and options without a meaning for the
    network, such as the depth of a ResNet; what depends on inputs and classes is found when it is built.
    """

    name: str
    """torchvision:NAME, timm:NAME, or a name in `MODELS`."""
    classes: int
    inputs: Shape
    """Channels, height and width of an image."""

    def __post_init__(self) -> None:
        registry.check_options(self.name, self._options())
        check_at_least(2, classes=self.classes)
        if len(self.inputs) != 3 or min(self.inputs) < 1:
            raise ValueError(
                f"inputs is {self.inputs}; it must be channels, height and width, each at least 1"
            )
        for name, choices in CHOICES.items():
            value, known = getattr(self, name), get_args(choices)
            if value not in known:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
        if self.head_rank is not None:
            check_at_least(1, head_rank=self.head_rank)
        if self.pretrained and self.init != "default":
            raise ValueError(f"init is {self.init!r}, which would overwrite the pretrained weights")
        for name in ("init_scale", "head_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive and finite")

    def build(self, seed: int) -> nn.Module:
        """The network on the CPU in evaluation mode, with weights of a seed.

        torch's global generator is left as it was. Raises ValueError for names that a library does not
        know, packages or pretrained weights that are missing, images or a number of classes that do
        not suit the network, a stem or head for a network that has none to change, and a head for one
        that has several.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = registry.build(
                self.name, inputs=self.inputs, classes=self.classes, **self._options()
            )
            self._check_head(model)
            initialise(model, self.init)
            change_head(model, self.classes, self.head_rank, self.head_norm)
        if self.init_scale != 1:
            scale_weights(model, self.init_scale)
        if self.head_scale != 1:
            scale_logits(model, self.classes, self.head_scale)
        return model.eval()

    def _check_head(self, model: nn.Module) -> None:
        """Raise ValueError where only one of several classifiers would be changed."""
        changes = {"head_rank": None, "head_norm": "none", "head_scale": 1.0}
        told = [
            f"{name} is {getattr(self, name)}"
            for name, usual in changes.items()
            if getattr(self, name) != usual
        ]
        if told:
            _, classifier = find_classifier(model, self.classes)
            mend = "leave it out, or take another model"
            check_one_classifier(model, classifier, self.inputs, " and ".join(told), mend)

    def _options(self) -> dict[str, Any]:
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        return {name: own[name] for name in OPTIONS if own[name] != defaults[name]}
