"""Settings of commands as the plain values of settings.json, and back."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def settings_record(settings: Any, leave_out: Iterable[str]) -> dict[str, Any]:
    """A settings dataclass as plain values, without the fields in leave_out."""
    return {key: value for key, value in asdict(settings).items() if key not in set(leave_out)}


def restore_settings(kind: type[T], record: dict[str, Any], leave_out: Iterable[str]) -> T:
    """The settings dataclass whose `settings_record` this is; lists become tuples, texts paths.

    Raises ValueError for names that are missing or unknown and for values of another type.
    """
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in leave_out}
    if differing := sorted(set(record) ^ set(hints)):
        raise ValueError(
            f"settings.json and this version differ in {differing[0]!r}; "
            "resume with the version that wrote it"
        )
    return kind(**{name: _typed(name, record[name], hint) for name, hint in hints.items()})


def _typed(name: str, value: Any, hint: Any) -> Any:
    """A JSON value as the type of a settings field."""
    options = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    for option in options:
        if get_origin(option) is tuple and isinstance(value, list):
            return tuple(_typed(name, item, get_args(option)[0]) for item in value)
        if get_origin(option) is Literal and value in get_args(option):
            return value
        if option is Path and isinstance(value, str):
            return Path(value)
        if option is float and type(value) is int:
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    raise ValueError(f"settings.json is damaged: {name} is {value!r}")
