"""Networks defined by the user: path/to/file.py:NAME or package.module:NAME."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from rankdeficit.experiments.own_code import find_object, told
from real_nets.models.parts import Shape

CLASSES = ("num_classes", "classes", "n_classes", "num_labels")
"""Parameter names that stand for the number of classes."""

FORMS = "path/to/file.py:NAME, package.module:NAME"


class OwnNetwork:
    """Builds a network from a function, class or torch module in a user's file or package.

    A function or class is called with the number of classes if it has a parameter named in `CLASSES`,
    and with the shape of an image if it has a parameter `inputs`. It must not require others.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *, inputs: Shape, classes: int) -> nn.Module:
        """Build the network. Raises ValueError if importing or calling fails or gives no network."""
        found = find_object(self.name, "model")
        if isinstance(found, nn.Module):
            return copy.deepcopy(found)
        if not callable(found):
            raise ValueError(
                f"model is {self.name!r}, of type {type(found).__name__}; it must be a torch.nn.Module, "
                "or a function or class that returns one"
            )
        arguments = self._arguments(found, inputs, classes)
        try:
            model = found(**arguments)
        except Exception as error:  # of any kind, from code that is not ours
            raise ValueError(f"model {self.name!r} could not be built: {told(error)}") from error
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"model {self.name!r} returned a {type(model).__name__}; it must return a torch.nn.Module"
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
                f"model {self.name!r} requires the arguments {', '.join(required)}; name a function "
                "that requires at most num_classes, such as `def make_net(): return Net(...)`"
            )
        return arguments
