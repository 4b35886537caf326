"""What an intervention on the logits is, and the registry in which commands find all of them.

An intervention is one class in one file of this package, found by itself. It is of one of two kinds:
`LossChange` changes the training loss and leaves the network, so that raw logits are diagnosed;
`HeadChange` changes the classification head, so that the logits are those that the softmax sees.
"""

import difflib
import functools
import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Seen:
    """What a change of the loss sees of a forward pass."""

    logits: Float[Tensor, "n c"]
    temperature: float
    head: nn.Linear | None = None
    """The linear layer that made the logits; None where no change needs it."""
    features: Float[Tensor, "n d"] | None = None
    """What that layer read, with its gradient; None where no change needs it."""


@dataclass(frozen=True)
class Intervention(ABC):
    """One change. The first line of a subclass's docstring is its help."""

    value: float | None
    """Its strength, by default `default`; None where it has none."""

    name: ClassVar[str]
    symbol: ClassVar[str]
    """Name of the value in formulas; empty where it has none."""
    default: ClassVar[float | None]
    may_be_zero: ClassVar[bool] = False
    """Whether the value 0 is allowed, at which nothing changes."""
    source: ClassVar[str]
    """Where it is defined."""
    diagnosed: ClassVar[str]
    """Which logits are diagnosed, and what norm the loss sees."""

    def __post_init__(self) -> None:
        if self.value is None:
            return
        above = self.value >= 0 if self.may_be_zero else self.value > 0
        if not (above and self.value < math.inf):
            least = "not negative" if self.may_be_zero else "positive"
            raise ValueError(
                f"intervention {self.name} has {self.symbol} = {self.value:g}; it must be {least} and "
                "finite"
            )

    @property
    def spelled(self) -> str:
        """NAME=VALUE, or NAME."""
        return self.name if self.value is None else f"{self.name}={self.value:g}"

    @classmethod
    def help(cls) -> str:
        """What it does, in one line."""
        return (cls.__doc__ or "").strip().partition("\n")[0].rstrip(".")


class LossChange(Intervention):
    """A change of the training loss, which is `loss(logits(seen)) + penalty(seen)`."""

    needs_head: ClassVar[bool] = False
    """Whether it reads the head, which must then be linear."""
    needs_features: ClassVar[bool] = False
    """Whether it reads the features."""
    least_batch: ClassVar[int] = 1
    """Smallest batch that it applies to; it leaves smaller ones, as at the end of an epoch, unchanged."""

    def logits(self, seen: Seen) -> Float[Tensor, "n c"]:
        """Logits that the loss gets instead."""
        return seen.logits

    def norm(self, norm: float, temperature: float) -> float | None:
        """Effective norm of the logits that the loss gets, from that of the network's.

        None where that norm alone does not tell it.
        """
        return norm

    def penalty(self, seen: Seen) -> Float[Tensor, ""] | None:
        """What is added to the loss, from the logits that it gets; None for nothing."""
        return None


class HeadChange(Intervention):
    """A change of the classification head."""

    replaces: ClassVar[bool] = False
    """Whether it replaces the linear layer; otherwise it follows it."""
    scale_free: ClassVar[bool] = False
    """Whether the scale of the head's weights changes nothing."""

    @abstractmethod
    def module(self, head: nn.Linear) -> nn.Module:
        """The module that replaces the head or follows it, with its device and precision."""


_KINDS: dict[str, type[Intervention]] = {}
K = TypeVar("K", bound=type[Intervention])


def intervention(name: str, default: float | None = None, symbol: str = "") -> Callable[[K], K]:
    """Decorate an intervention, so that commands find it by its name.

    default, symbol: of its value; without them it takes none. Raises ValueError for a name that is taken,
    and for a class without docstring.
    """

    def register(kind: K) -> K:
        kind.name, kind.default, kind.symbol = name, default, symbol
        kind.source = f"{kind.__module__}.{kind.__qualname__}"
        if name in _KINDS and _KINDS[name].source != kind.source:
            raise ValueError(
                f"intervention {name!r} is defined twice ({_KINDS[name].source}); choose another name"
            )
        if not kind.help():
            raise ValueError(f"intervention {name!r} has no docstring; its first line is the help")
        _KINDS[name] = kind
        return kind

    return register


def available_interventions() -> dict[str, type[Intervention]]:
    """All interventions by name."""
    _discover()
    return dict(sorted(_KINDS.items()))


def find_interventions(names: Iterable[str]) -> list[Intervention]:
    """Interventions spelled NAME or NAME=VALUE.

    Raises ValueError for unknown names, listing close ones, for values that are no numbers or out of
    range, for one that is named twice, and for two that replace the head.
    """
    found = [_find(spelled) for spelled in names]
    for one in found:
        if sum(other.name == one.name for other in found) > 1:
            raise ValueError(f"intervention {one.name} is given twice; give it once")
    replacing = [one.name for one in found if isinstance(one, HeadChange) and one.replaces]
    if len(replacing) > 1:
        raise ValueError(
            f"interventions {' and '.join(replacing)} both replace the head; choose one"
        )
    linear = [one.name for one in found if isinstance(one, LossChange) and one.needs_head]
    heads = [one.name for one in found if isinstance(one, HeadChange)]
    if linear and heads:
        raise ValueError(
            f"intervention {linear[0]} needs a linear head, which {heads[0]} changes; choose one"
        )
    return found


def _find(spelled: str) -> Intervention:
    name, equals, text = spelled.partition("=")
    known = available_interventions()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3) or list(known)
        raise ValueError(
            f"intervention is {name!r}, which is unknown; choose from {', '.join(close)}"
        )
    kind = known[name]
    if equals and not kind.symbol:
        raise ValueError(f"intervention {name} takes no value; leave out ={text}")
    try:
        return kind(float(text) if equals else kind.default)
    except ValueError as error:
        if str(error).startswith("could not convert"):
            raise ValueError(
                f"intervention {name} has {kind.symbol} = {text!r}, which is no number"
            ) from error
        raise


@functools.cache
def _discover() -> None:
    package = importlib.import_module("rankdeficit.control.interventions")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
