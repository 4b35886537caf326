"""What a measure needs of a pass over a data set: states to stream, rows to keep, samples to choose."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
import torch.distributed as distributed

MATRIX_MEMORY = 2**31
"""Default maximum bytes of one streamed matrix: 16,384 features in float64."""


@runtime_checkable
class State(Protocol):
    """A streamed state. Its `update` takes what `Stream.of` and `Stream.also` name."""

    @property
    def update(self) -> Callable[..., None]:
        """Add samples."""

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Replace the state on every process of the group by the merge of all of theirs."""


S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class Shape:
    """What a state is made for."""

    width: int
    """Columns of what it reads."""
    classes: int
    """Of the network."""
    temperature: float
    """Of training."""
    device: torch.device
    matrix_memory: int = MATRIX_MEMORY
    """Maximum bytes of its matrices, or of the rows kept instead of them."""


@dataclass(frozen=True)
class Stream(Generic[S]):
    """A state to fill in a pass. Measures that need equal streams share one state.

    of: what it reads of each block of samples: the logits (n, classes), the penultimate features
        (n, width), the pooled features after every layer (n, features), or some rows of what every
        layer with a weight matrix reads (rows, width). The latter two have a state per layer.
    make: a new state. also: further arguments of its `update`.
    """

    of: Literal["logits", "penultimate", "features", "rows"]
    make: Callable[[Shape], S]
    also: tuple[Literal["labels", "keys"], ...] = ()


@dataclass(frozen=True)
class Rows:
    """Rows that are kept to be read after the pass."""

    of: Literal["logits", "penultimate", "features", "probed"]
    """`probed`: what probes of layers read, by default the pooled features after every layer."""


@dataclass(frozen=True)
class Samples:
    """Inputs with their labels, chosen by content; the settings of the diagnosis tell how many."""


Need = Stream[Any] | Rows | Samples


@dataclass(frozen=True)
class Needs:
    """What a measure needs of each data set of a diagnosis."""

    train: tuple[Need, ...] = ()
    test: tuple[Need, ...] = ()
    ood: tuple[Need, ...] = ()
    """Of the test samples of every OOD data set."""
    ood_pair: tuple[Need, ...] = ()
    """Of the train and of the test samples of the OOD data sets that have both."""

    @classmethod
    def of(cls, several: Iterable["Needs"]) -> "Needs":
        """What several measures need together."""
        together = cls()
        for own in several:
            together = cls(
                train=together.train + own.train,
                test=together.test + own.test,
                ood=together.ood + own.ood,
                ood_pair=together.ood_pair + own.ood_pair,
            )
        return together


@dataclass(frozen=True)
class Wanted:
    """What one pass over a data set is to leave behind, besides labels and predictions."""

    needs: tuple[Need, ...] = ()
    rows_per_sample: int = 1
    """Rows of each layer's input, where a stream reads them."""
    samples: int = 0
    """Number of inputs that `Samples` keeps."""
    own_labels: bool = False
    """Labels are of the data set's own classes, not the network's."""
    labelled: bool = True
    """Labels are read; nothing may need them otherwise."""
    matrix_memory: int = MATRIX_MEMORY
    """Maximum bytes of each streamed matrix."""
    raw: int = 0
    """Entries of every layer's own output that probes read instead of pooled features."""

    def plus(self, needs: tuple[Need, ...]) -> "Wanted":
        """The same with further needs."""
        return replace(self, needs=(*self.needs, *needs))

    @property
    def streams(self) -> list[Stream[Any]]:
        """The states, each once."""
        return list(dict.fromkeys(need for need in self.needs if isinstance(need, Stream)))

    @property
    def kept(self) -> set[str]:
        """Names of the rows that are kept."""
        return {need.of for need in self.needs if isinstance(need, Rows)}

    @property
    def subset(self) -> int:
        """Number of inputs to keep; 0 where nothing needs them."""
        return self.samples if any(isinstance(need, Samples) for need in self.needs) else 0

    def reads(self, name: str) -> bool:
        """Whether a stream or kept rows need this part of a block."""
        return name in self.kept or any(stream.of == name for stream in self.streams)
