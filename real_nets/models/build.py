"""Registry of networks by name, and the construction of a network from plain values."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, get_args

import torch
from torch import nn

from rankdeficit.checks import check_at_least, check_positive
from rankdeficit.control.attention import set_attention_temperature
from rankdeficit.control.classifier import check_one_classifier, find_classifier
from rankdeficit.control.interventions.apply import change_classifier
from rankdeficit.control.interventions.options import InterventionOptions
from rankdeficit.control.surgery import (
    HeadNorm,
    Initialisation,
    change_head,
    initialise,
    scale_logits,
    scale_weights,
)
from rankdeficit.experiments.own_code import names_object
from real_nets.models.libraries import LIBRARIES
from real_nets.models.own import FORMS, OwnNetwork
from real_nets.models.parts import Norm, Shape, Stem

BudgetName = Literal["smoke", "small", "paper"]
JobChanges = Mapping[str, Any]
"""Values of some fields of a job."""
P = ParamSpec("P")
Maker = TypeVar("Maker", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class HighTemperatures:
    """Temperatures at which a network has a low logit norm, beside its baseline at T = 1."""

    low_norm: float
    """The one that comparisons call low logit norm."""
    reason: str
    """Why this one; chosen before training, for all networks of a kind."""
    others: tuple[float, ...] = ()
    """Further ones, shown beside it."""


FEW_STEPS = HighTemperatures(
    10.0, "within few steps a matched training leaves its initial loss at no higher one"
)


@dataclass(frozen=True)
class Definition:
    """Properties of a registered network."""

    make: Callable[..., nn.Module]
    """Builds the network from `inputs`, `classes` and those of the options width, depth, stem, norm and
    pretrained that apply to it. Draws weights from torch's global generator."""
    paper_name: str
    """Name in tables and in the cells of `real_nets.reproduce`."""
    convolutional: bool = False
    """Whether the budgets' recipes for convolutional networks apply to it."""
    options: Mapping[BudgetName, JobChanges] = field(default_factory=dict)
    """Job options by budget, which override the budget's own."""
    temperatures: Mapping[BudgetName, HighTemperatures] = field(default_factory=dict)
    """High temperatures by budget, where they differ from the budget's own."""


MODELS: dict[str, Definition] = {}
"""Definitions by the name of the function that builds the network."""


def _decorator(
    define: Callable[Concatenate[Callable[..., nn.Module], P], Definition],
) -> Callable[P, Callable[[Maker], Maker]]:
    def register(*arguments: P.args, **options: P.kwargs) -> Callable[[Maker], Maker]:
        def add(make: Maker) -> Maker:
            MODELS[make.__name__] = define(make, *arguments, **options)
            return make

        return add

    return register


register = _decorator(Definition)
"""Decorator that registers a function as a network; its arguments are the fields of `Definition` after
`make`."""


def model_of_paper(name: str) -> str:
    """The registered name of the network that tables call `name`; other names are returned unchanged."""
    known = {definition.paper_name: own for own, definition in MODELS.items()}
    return known.get(name, name)


def choices() -> str:
    """The names of all networks, for messages."""
    return ", ".join([*sorted(MODELS), *(f"{library}:NAME" for library in LIBRARIES), FORMS])


def model_help() -> str:
    """Help text of the option --model."""
    return f"Name of the network, one of {choices()}."


CHOICES = {"stem": Stem, "norm": Norm, "head_norm": HeadNorm, "init": Initialisation}
OPTIONS = ("width", "depth", "stem", "norm", "pretrained")
"""Options that are passed to the network's function if they differ from their defaults."""


@dataclass(frozen=True, kw_only=True)
class StructureOptions(InterventionOptions):
    """Options of a network's structure."""

    width: int | None = None
    """Width of hidden layers (mlp) or of the embedding (vit), channels of the first stage (ResNets, VGG)
    [default: the network's own]."""
    depth: int | None = None
    """Number of weight layers (mlp) or blocks (vit) [default: the network's own]."""
    stem: Stem = "auto"
    """First layers: cifar is for small images; auto means cifar up to 64 pixels, and leaves torchvision's
    and timm's networks unchanged."""
    norm: Norm = "default"
    """Type of normalisation layers."""
    head_rank: int | None = None
    """Factor the classifier through this number of dimensions, which bounds the rank of the logits."""
    head_norm: HeadNorm = "none"
    """Normalisation of the logits."""
    attention_temperature: float = 1.0
    """Temperature T of attention, softmax(QK^T / (sqrt(d) T)), at the start if it is learned."""
    learned_attention: bool = False
    """Learn the temperature of each attention head."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(StructureOptions):
    """Options of a network's structure and initial weights."""

    init: Initialisation = "default"
    """Distribution of the initial weights; default: the network's own."""
    init_scale: float = 1.0
    """Factor on all initial weights, except gains and biases."""
    head_scale: float = 1.0
    """Factor on the initial classifier, and so on the logits."""
    pretrained: bool = False
    """Start from pretrained weights that timm downloads (vit_b16 and timm:NAME only)."""


@dataclass(frozen=True)
class Architecture(NetworkOptions):
    """A network with all its options, ready to build.

    Raises ValueError for unknown names, values out of range, and options that do not apply to the
    network, such as the depth of a ResNet. Conflicts with inputs and classes are found by `build`.
    """

    name: str
    """torchvision:NAME, timm:NAME, path/to/file.py:NAME, package.module:NAME, or a name in `MODELS`."""
    classes: int
    inputs: Shape
    """Channels, height and width of an image."""

    def __post_init__(self) -> None:
        check_options(self.name, self._options())
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
        self.check_scale(self.head_scale)
        if self.pretrained and self.init != "default":
            raise ValueError(f"init is {self.init!r}, which would overwrite the pretrained weights")
        check_positive(
            init_scale=self.init_scale,
            head_scale=self.head_scale,
            attention_temperature=self.attention_temperature,
        )

    def build(self, seed: int) -> nn.Module:
        """The network on the CPU in evaluation mode, with initial weights drawn from the seed.

        torch's global generator is left unchanged. Raises ValueError for names unknown to a library,
        missing packages or pretrained weights, images or numbers of classes that the network cannot
        take, and a stem or head that the network does not have, or of which it has several.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            make = _maker(self.name)
            model = make(inputs=self.inputs, classes=self.classes, **self._options())
            self._check_head(model)
            initialise(model, self.init)
            change_head(model, self.classes, self.head_rank, self.head_norm)
            model = change_classifier(model, self.classes, self.interventions)
        if self.init_scale != 1:
            scale_weights(model, self.init_scale)
        if self.head_scale != 1:
            scale_logits(model, self.classes, self.head_scale)
        if self.attention_temperature != 1 or self.learned_attention:
            set_attention_temperature(model, self.attention_temperature, self.learned_attention)
        return model.eval()

    def takes(self, option: str) -> bool:
        """Whether the network has this option: width, depth, stem, norm or pretrained."""
        return option in inspect.signature(_maker(self.name)).parameters

    def _check_head(self, model: nn.Module) -> None:
        """Raise ValueError if head options would change only one of several classifiers."""
        changes = {"head_rank": None, "head_norm": "none", "head_scale": 1.0, "intervention": ()}
        problems = [
            f"{name} is {getattr(self, name)}"
            for name, usual in changes.items()
            if getattr(self, name) != usual
        ]
        if problems:
            _, classifier = find_classifier(model, self.classes)
            remedy = "leave it out, or take another model"
            check_one_classifier(model, classifier, self.inputs, " and ".join(problems), remedy)

    def _options(self) -> dict[str, Any]:
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        return {name: own[name] for name in OPTIONS if own[name] != defaults[name]}


def check_options(name: str, options: dict[str, Any]) -> None:
    """Raise ValueError for unknown networks, options that do not apply, and sizes below 1."""
    known = inspect.signature(_maker(name)).parameters
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"{option} is {value!r}, but {name} has no such option; leave it out")
        if option in ("width", "depth"):
            check_at_least(1, **{option: value})


def _maker(name: str) -> Callable[..., nn.Module]:
    source, colon, own_name = name.partition(":")
    if colon and source in LIBRARIES:
        return partial(LIBRARIES[source], own_name)
    if name not in MODELS and names_object(name):
        return OwnNetwork(name)
    if name not in MODELS:
        raise ValueError(f"model is {name!r}; it must be one of {choices()}")
    return MODELS[name].make
