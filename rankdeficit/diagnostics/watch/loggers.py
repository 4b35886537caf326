"""What gets the rows of a watch besides its folder."""

import inspect
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Logger(Protocol):
    """What takes rows, such as a run of Weights & Biases."""

    def log(self, row: dict[str, Any], /) -> Any:
        """Take the numbers of one step."""


def checked_loggers(loggers: Any) -> list[Logger]:
    """A list of these loggers. Raises ValueError unless each has a method that takes a row alone."""
    if not isinstance(loggers, Iterable) or isinstance(loggers, str | dict):
        raise ValueError(f"loggers is {loggers!r}; it must be a list of objects with log(row)")
    found = list(loggers)
    for place, own in enumerate(found):
        if not (isinstance(own, Logger) and _takes_a_row(own.log)):
            raise ValueError(
                f"loggers[{place}] is a {type(own).__name__}; it must have a method log(row), as a run "
                "of Weights & Biases has"
            )
    return found


def _takes_a_row(log: Any) -> bool:
    """Whether a function can be called with one argument; True where it has no signature to tell."""
    try:
        inspect.signature(log).bind({})
    except TypeError:
        return False
    except ValueError:
        return True
    return True
