"""Networks of a user's own: path/to/file.py:NAME or package.module:NAME."""

import copy
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

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
        found = self._find()
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
            raise ValueError(f"model {self.name!r} cannot be made: {_told(error)}") from error
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

    def _find(self) -> Any:
        source, _, path = self.name.rpartition(":")
        try:
            module = _from_file(source) if source.endswith(".py") else _from_package(source)
        except ValueError:
            raise
        except Exception as error:  # of any kind, from code that is not ours
            raise ValueError(f"model is {self.name!r}: {source} fails: {_told(error)}") from error
        found: Any = module
        for part in path.split("."):
            if not hasattr(found, part):
                known = [own for own, value in vars(module).items() if _makes(value, module)]
                raise ValueError(
                    f"model is {self.name!r}, but {source} has no {path}; it has "
                    f"{', '.join(known[:8]) or 'nothing that makes a network'}"
                )
            found = getattr(found, part)
        return found


def is_own(name: str) -> bool:
    """Whether a name has the form of a network from a file or package."""
    source, colon, path = name.rpartition(":")
    return bool(colon and source and path)


def absolute(name: str) -> str:
    """A name with the absolute path of its file, so that it holds in any folder."""
    source, _, path = name.rpartition(":")
    return f"{Path(source).resolve()}:{path}" if source.endswith(".py") else name


@cache
def _from_file(source: str) -> ModuleType:
    path = Path(source).resolve()
    if not path.is_file():
        raise ValueError(
            f"model is in {source}, which does not exist; give the path of a Python file"
        )
    name = f"own_network_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look there
    with _importable(path.parent):
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return module


def _from_package(source: str) -> ModuleType:
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name and (source == error.name or source.startswith(f"{error.name}.")):
            raise ValueError(
                f"model is in {source!r}, which cannot be found; name an importable module, or a file by "
                "its path with .py"
            ) from error
        raise


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules be imported that lie in the folder."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _makes(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module.__name__


def _told(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
