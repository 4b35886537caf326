"""Networks of torchvision and timm by their names in these libraries."""

import difflib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torchvision
from torch import nn

from real_nets.models.parts import Shape, Stem, check_colours, use_small_stem


def from_torchvision(
    name: str, *, inputs: Shape, classes: int, stem: Stem = "imagenet"
) -> nn.Module:
    """A classifier of torchvision. Raises ValueError for unknown names, with similar ones."""
    check_colours(inputs)
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    with warnings.catch_warnings():
        # Inception and GoogLeNet announce a change of their initialisation
        warnings.simplefilter("ignore", FutureWarning)
        model = torchvision.models.get_model(name, weights=None, num_classes=classes)
    if stem == "cifar":
        use_small_stem(model, name)
    return model


def from_timm(
    name: str, *, inputs: Shape, classes: int, stem: Stem = "imagenet", pretrained: bool = False
) -> nn.Module:
    """A classifier of timm. Raises ValueError as `create_timm`."""
    check_colours(inputs)
    model = create_timm(name, pretrained, num_classes=classes)
    if stem == "cifar":
        use_small_stem(model, name)
    return model


def create_timm(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    """A network of timm, with downloaded weights if pretrained.

    Raises ValueError if timm is not installed, for unknown names (with similar ones), and if the
    weights cannot be loaded.
    """
    if importlib.util.find_spec("timm") is None:
        raise ValueError(f"model is {name!r} of timm, which is not installed: pip install timm")
    import timm

    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    except Exception as error:  # network, disk and missing weights raise many types
        if not pretrained:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"pretrained is True, but timm cannot load weights of {name} ({reason}); check the "
            "connection, or leave out --pretrained"
        ) from error


def _unknown(library: str, name: str, known: list[str]) -> ValueError:
    close = difflib.get_close_matches(name, known, n=5) or known[:5]
    return ValueError(
        f"model is {f'{library}:{name}'!r}, which {library} does not know; close names are "
        f"{', '.join(close)}"
    )


LIBRARIES: dict[str, Callable[..., nn.Module]] = {
    "torchvision": from_torchvision,
    "timm": from_timm,
}
"""Builders by the prefix of a name, before its colon."""
