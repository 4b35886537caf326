"""What a model gets for a batch: one tensor, or several by position or by keyword."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.tokens import Mask
from rankdeficit.diagnostics.states.sampling import combined_keys, sample_keys, token_keys

UNFIT = (RuntimeError, TypeError, AttributeError, AssertionError, LookupError)
"""What networks raise for inputs that they cannot take."""


@dataclass(frozen=True)
class Inputs:
    """Arguments of a model for a batch; every tensor has one row per sample."""

    positional: tuple[Tensor, ...] = ()
    named: Mapping[str, Tensor] = field(default_factory=dict)
    mask: Mask | None = None
    """True at tokens, False at padding; None where nothing tells padding."""

    @classmethod
    def of(cls, values: "Tensor | Inputs") -> "Inputs":
        """A tensor as the only argument; inputs as they are."""
        return values if isinstance(values, Inputs) else cls((values,))

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors; those by keyword in the order of their names."""
        return [*self.positional, *(self.named[name] for name in sorted(self.named))]

    @property
    def shapes(self) -> tuple[tuple[str, tuple[int, ...], torch.dtype], ...]:
        """Name, shape without the first axis and precision of every tensor."""
        named = [("", own) for own in self.positional]
        named += [(name, self.named[name]) for name in sorted(self.named)]
        named += [] if self.mask is None else [("mask", self.mask)]
        return tuple((name, tuple(own.shape[1:]), own.dtype) for name, own in named)

    def __len__(self) -> int:
        """Samples."""
        return len(self.tensors[0])

    def __getitem__(self, rows: slice | Int64[Tensor, " chosen"]) -> "Inputs":
        """Some samples."""
        return self._map(lambda tensor: tensor[rows])

    def __str__(self) -> str:
        """Shapes and precisions, for messages."""
        named = [("", own) for own in self.positional] + list(self.named.items())
        told = [f"{f'{name} ' if name else ''}{tuple(x.shape)} and {x.dtype}" for name, x in named]
        return "; ".join(told)

    def on(self, device: torch.device, dtype: torch.dtype) -> "Inputs":
        """Copies on a device, floating-point ones in this precision; integers (tokens) stay.

        Copies, as a network may change what it gets in place.
        """
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=True, copy=True))
        return moved._map(lambda own: own.to(dtype) if own.is_floating_point() else own)

    def run(self, model: nn.Module) -> Any:
        """What the model returns."""
        return model(*self.positional, **self.named)

    def keys(self) -> Int64[Tensor, " n"]:
        """`sample_keys` of the samples; padding and the order of keywords do not count."""
        mask = self.mask
        if mask is None and len(self.tensors) == 1:
            return sample_keys(self.tensors[0])
        found = []
        for tensor in self.tensors:
            if mask is not None and tensor.shape[:2] == mask.shape:
                found.append(token_keys(tensor, mask))
            else:
                found.append(sample_keys(tensor))
        return combined_keys(found)

    def sample(self, number: int) -> "Inputs":
        """One sample in the CPU's memory, without the padding at its end."""
        own = self[number : number + 1]
        mask = own.mask
        if mask is not None and bool(mask.any()):
            shape, end = mask.shape, int(mask[0].nonzero().max()) + 1
            own = own._map(lambda tensor: tensor[:, :end] if tensor.shape[:2] == shape else tensor)
        return own._map(lambda tensor: tensor.detach().cpu().clone())

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Inputs":
        named = {name: function(tensor) for name, tensor in self.named.items()}
        mask = None if self.mask is None else function(self.mask)
        return Inputs(tuple(map(function, self.positional)), named, mask)


@contextmanager
def explained(where: str, inputs: Inputs) -> Iterator[None]:
    """Turn what torch or a network says of inputs that it cannot take into a ValueError naming them."""
    try:
        yield
    except UNFIT as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise
        reason = (
            str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
        )
        raise ValueError(
            f"{where}: the model cannot take inputs of shape {inputs} ({reason})"
        ) from error


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Samples of several inputs of the same shapes, one after the other."""
    positional = zip(*(own.positional for own in parts), strict=True)
    names = parts[0].named
    masks = [own.mask for own in parts if own.mask is not None]
    return Inputs(
        tuple(torch.cat(own) for own in positional),
        {name: torch.cat([own.named[name] for own in parts]) for name in names},
        torch.cat(masks) if len(masks) == len(parts) else None,
    )


def chunks(
    inputs: Sequence[Inputs], labels: Int64[Tensor, " n"], size: int
) -> Iterator[tuple[Inputs, Int64[Tensor, " _"]]]:
    """Samples of equal shapes together, `size` at most; their order stays within a shape.

    inputs: one by one, or in parts of any size.
    """
    groups: dict[Any, list[tuple[Inputs, Tensor]]] = {}
    for own, label in zip(inputs, labels.split([len(own) for own in inputs]), strict=True):
        groups.setdefault(own.shapes, []).append((own, label))
    for group in groups.values():
        together = joined([own for own, _ in group])
        targets = torch.cat([label for _, label in group])
        for start in range(0, len(together), size):
            yield together[start : start + size], targets[start : start + size]


@dataclass(frozen=True)
class Forward:
    """What the forward pass of a model takes."""

    ordered: tuple[str, ...]
    """Arguments that can be given by position, in their order."""
    names: frozenset[str]
    """Arguments that can be given by name."""
    required: int
    """Positional arguments without a default."""
    any_position: bool
    """Whether it has *args."""
    any_name: bool
    """Whether it has **kwargs."""

    @classmethod
    def of(cls, model: nn.Module) -> "Forward":
        """From the signature of `forward`; without one it takes anything."""
        try:
            parameters = list(inspect.signature(model.forward).parameters.values())
        except (TypeError, ValueError):
            return ANYTHING
        kinds = inspect.Parameter
        by_position = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        by_name = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        ordered = [own for own in parameters if own.kind in by_position]
        return cls(
            tuple(own.name for own in ordered),
            frozenset(own.name for own in parameters if own.kind in by_name),
            sum(own.default is own.empty for own in ordered),
            any(own.kind == kinds.VAR_POSITIONAL for own in parameters),
            any(own.kind == kinds.VAR_KEYWORD for own in parameters),
        )

    def takes(self, count: int) -> bool:
        """Whether it takes so many arguments by position."""
        return self.required <= count and (self.any_position or count <= len(self.ordered))

    def by_position(self, tensors: Sequence[Tensor]) -> Inputs:
        """These arguments; several by their names where they have some, which tell what a mask is."""
        names = self.ordered[: len(tensors)]
        if len(tensors) < 2 or len(names) < len(tensors) or not self.names.issuperset(names):
            return Inputs(tuple(tensors))
        return Inputs(named=dict(zip(names, tensors, strict=True)))

    def by_name(self, tensors: Mapping[str, Tensor]) -> Inputs | None:
        """Those that it takes, by name; None where it takes none of several. A single one goes first."""
        known = {name: own for name, own in tensors.items() if name in self.names}
        if len(tensors) == 1 and not known and (self.ordered or self.any_position):
            return Inputs(tuple(tensors.values()))
        if self.any_name:
            known = dict(tensors)
        return Inputs(named=known) if known else None


ANYTHING = Forward((), frozenset(), 1, True, True)
"""Of a model that does not tell."""
