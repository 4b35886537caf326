"""Networks of a user's own: path/to/file.py:NAME or package.module:NAME."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from rankdeficit.experiments.own_code import find_object, told
from real_nets.models.parts import Shape

CLASSES = ("num_classes", "classes", "n_classes", "num_labels")
"""Names of the argument that takes the number of classes."""

FORMS = "path/to/file.py:NAME, package.module:NAME"


class OwnNetwork:
    """Makes a network from a function, a class or a module of a file or package.

    A function or class gets the number of classes where it takes it under one of `CLASSES`, and
    `inputs`, the shape of an image, where it takes that; it must require no other argument.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *, inputs: Shape, classes: int) -> nn.Module:
        """The network. Raises ValueError for what cannot be imported, called, or is no network."""
        found = find_object(self.name, "model")
        if isinstance(found, nn.Module):
            return copy.deepcopy(found)
        if not callable(found):
            raise ValueError(
                f"model is {self.name!r}, a {type(found).__name__}; it must be a function or class that "
                "makes a torch.nn.Module"
            )
        arguments = self._arguments(found, inputs, classes)
        try:
            model = found(**arguments)
        except Exception as error:  # of any kind, from code that is not ours
            raise ValueError(f"model {self.name!r} cannot be made: {told(error)}") from error
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"model {self.name!r} makes a {type(model).__name__}; it must make a torch.nn.Module"
            )
        return model

    def _arguments(self, make: Callable[..., Any], inputs: Shape, classes: int) -> dict[str, Any]:
        try:
            known = inspect.signature(make).parameters
        except ValueError:  # written in C
            return {}
        arguments: dict[str, Any] = {"inputs": inputs} if "inputs" in known else {}
        arguments |= {name: classes for name in CLASSES if name in known}
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        required = [
            name
            for name, own in known.items()
            if own.default is own.empty and own.kind not in several and name not in arguments
        ]
        if required:
            raise ValueError(
                f"model {self.name!r} requires {', '.join(required)}; name a function that requires "
                "nothing but num_classes, such as `def make_net(): return Net(...)`"
            )
        return arguments
