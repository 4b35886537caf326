"""Objects by the names that users give: path/to/file.py:NAME or package.module:NAME."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any


def find_object(name: str, what: str) -> Any:
    """The object of that name, imported. `what` it is for begins the messages.

    Raises ValueError where the file or module is missing or fails, and where it has no such name.
    """
    source, _, path = name.rpartition(":")
    try:
        module = _from_file(source) if source.endswith(".py") else _from_package(source)
    except _Missing as error:
        raise ValueError(f"{what} is {name!r}, but {error}") from error
    except Exception as error:  # of any kind, from code that is not ours
        raise ValueError(f"{what} is {name!r}, but {source} fails: {told(error)}") from error
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            known = [own for own, value in vars(module).items() if _defines(module, value)]
            raise ValueError(
                f"{what} is {name!r}, but {source} has no {path}; it defines "
                f"{', '.join(known[:8]) or 'nothing'}"
            )
        found = getattr(found, part)
    return found


def names_object(name: str) -> bool:
    """Whether a name has this form."""
    source, colon, path = name.rpartition(":")
    return bool(colon and source and path)


def absolute(name: str) -> str:
    """A name with the absolute path of its file, so that it holds in any folder."""
    source, _, path = name.rpartition(":")
    return f"{Path(source).resolve()}:{path}" if source.endswith(".py") else name


def told(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class _Missing(Exception):  # noqa: N818
    """A file or module that does not exist."""


@cache
def _from_file(source: str) -> ModuleType:
    path = Path(source).resolve()
    if not path.is_file():
        raise _Missing(f"{source} does not exist; give the path of a Python file")
    name = f"own_code_{path.stem}"
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
        if error.name and f"{source}.".startswith(f"{error.name}."):
            raise _Missing(
                f"{source} cannot be found; name an importable module, or a file by its path with .py"
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


def _defines(module: ModuleType, value: Any) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module.__name__
