"""The functions that make networks, by name, and the options that each of them takes.

Such a function takes `inputs` (channels, height and width of an image) and `classes`, and those of the
options width, depth, stem, norm and pretrained that have a meaning for it, with its own defaults.
Weights come from torch's global generator.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from torch import nn

from rankdeficit.checks import check_at_least
from real_nets.models.libraries import LIBRARIES
from real_nets.models.parts import Shape

Maker = TypeVar("Maker", bound=Callable[..., nn.Module])
MODELS: dict[str, Callable[..., nn.Module]] = {}


def register(function: Maker) -> Maker:
    """Make a network known by its function's name."""
    MODELS[function.__name__] = function
    return function


def build(name: str, *, inputs: Shape, classes: int, **options: Any) -> nn.Module:
    """The network of that name, in training mode. Raises ValueError as `check_options`."""
    check_options(name, options)
    return _maker(name)(inputs=inputs, classes=classes, **options)


def check_options(name: str, options: dict[str, Any]) -> None:
    """Raise ValueError for unknown names, options that the network lacks, and sizes below 1."""
    known = inspect.signature(_maker(name)).parameters
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"{option} is {value!r}, but {name} has none to choose; leave it out")
        if option in ("width", "depth"):
            check_at_least(1, **{option: value})


def _maker(name: str) -> Callable[..., nn.Module]:
    source, colon, own_name = name.partition(":")
    if colon and source in LIBRARIES:
        return partial(LIBRARIES[source], own_name)
    if name not in MODELS:
        choices = [*sorted(MODELS), *(f"{library}:NAME" for library in LIBRARIES)]
        raise ValueError(f"model is {name!r}; it must be one of {', '.join(choices)}")
    return MODELS[name]
