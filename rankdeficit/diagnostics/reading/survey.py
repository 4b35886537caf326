"""What one pass over a data set leaves behind: streamed states, and the rows that are read again."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.distributed as distributed
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.diagnostics.reading.blocks import Block, Reading, blocks
from rankdeficit.diagnostics.reading.inputs import Inputs
from rankdeficit.diagnostics.reading.needs import S, Shape, State, Stream, Wanted
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.store import RowStore
from rankdeficit.distributed import gather_rows, raise_together, rank_and_size

OnProgress = Callable[[str, int], None]


class Subset(NamedTuple):
    """Some samples, in the order of their keys."""

    keys: Int64[Tensor, " n"]
    inputs: list[Inputs]
    """One by one, without padding: their shapes may differ."""
    labels: Int64[Tensor, " n"]


class Survey:
    """What one pass over a data set left: states, kept rows, labels and predictions."""

    def __init__(
        self, name: str, network: Network, wanted: Wanted, temperature: float, store: RowStore
    ) -> None:
        self.name, self.wanted = name, wanted
        self._store, self._network, self._temperature = store, network, temperature
        self._states: dict[Stream[Any], dict[str, State]] = {s: {} for s in wanted.streams}
        self.widths: dict[str, int] = {}
        """Features of the representation after each layer, where it was read."""
        self.penultimate_width = 0
        """Features that the classifier reads."""
        self.unmasked: frozenset[str] = frozenset()
        """Modules read whose output has other tokens than the mask of padding."""
        self.subset: Subset | None = None
        """The samples with the smallest keys."""
        none = torch.zeros(0, dtype=torch.int64)
        self.labels: Int64[Tensor, " n"] = none
        self.predictions: Int64[Tensor, " n"] = none
        self.keys: Int64[Tensor, " n"] = none

    @property
    def device(self) -> torch.device:
        """Where the network is, and the states; kept rows are in the CPU's memory or in files."""
        return self._network.device

    @property
    def samples(self) -> int:
        """Samples seen."""
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        """Share of samples whose largest logit is that of their label."""
        return float((self.predictions == self.labels).double().mean())

    @property
    def largest_class(self) -> float:
        """Share of samples with the most frequent label."""
        return int(self.labels.unique(return_counts=True)[1].max()) / self.samples

    @property
    def seen_classes(self) -> int:
        """Number of classes that have samples."""
        return len(self.labels.unique())

    def state(self, stream: Stream[S]) -> S:
        """The state of a stream of logits or penultimate features."""
        (found,) = self._states[stream].values()
        return cast("S", found)

    def by_layer(self, stream: Stream[S]) -> dict[str, S]:
        """The state of each layer, by name; `rows` have none where a layer has no weight matrix."""
        return cast("dict[str, S]", self._states[stream])

    def update(self, block: Block) -> None:
        """Add the next samples."""
        self.labels = torch.cat([self.labels, block.labels.cpu()])
        self.keys = torch.cat([self.keys, block.keys.cpu()])
        self.predictions = torch.cat([self.predictions, block.logits.argmax(dim=1).cpu()])
        self.unmasked |= block.unmasked
        self.penultimate_width = block.penultimate.shape[1]
        self.widths = {name: rows.shape[1] for name, rows in block.features.items()}
        for stream, states in self._states.items():
            more = [getattr(block, name) for name in stream.also]
            for name, rows in block.part(stream.of).items():
                if name not in states:
                    states[name] = stream.make(self._shape(rows.shape[1]))
                states[name].update(rows, *more)
        for of in sorted(self.wanted.kept):
            for name, rows in block.part(of).items():
                self._store.append(f"{self.name}/{of}/{name}", rows)

    def consider(self, keys: Tensor, inputs: Inputs, labels: Tensor) -> None:
        """Keep those of these inputs, and of the ones kept, that have the smallest keys."""
        if not self.wanted.subset:
            return
        kept = self.subset or Subset(self.keys[:0], [], self.labels[:0])
        own, all_keys = len(kept.inputs), torch.cat([kept.keys, keys.cpu()])
        chosen = all_keys.argsort(stable=True)[: self.wanted.subset]
        samples = [kept.inputs[i] if i < own else inputs.sample(i - own) for i in chosen.tolist()]
        all_labels = torch.cat([kept.labels, labels.cpu()])
        self.subset = Subset(all_keys[chosen], samples, all_labels[chosen])

    def share(self) -> None:
        """Merge the states of all processes, and sort samples independently of the loader."""
        if rank_and_size()[1] > 1:
            for states in self._states.values():
                for state in states.values():
                    state.all_reduce()
            if self.subset is not None:
                parts: list[Subset] = [self.subset] * rank_and_size()[1]
                distributed.all_gather_object(parts, self.subset)
                self.subset = _smallest(parts, self.wanted.subset)
        self._order = _everywhere(self.keys).argsort(stable=True)
        self.keys, self.labels, self.predictions = (
            _everywhere(values)[self._order]
            for values in (self.keys, self.labels, self.predictions)
        )

    def rows(
        self, of: Literal["logits", "penultimate"], process: int | None = None
    ) -> Float[Tensor, "n width"] | None:
        """Kept rows of all samples, in the order of their keys.

        process: which one gets them, the others get None; without it all do.
        """
        return self._rows(f"{of}/", process)

    def features(
        self, layer: str, process: int | None = None
    ) -> Float[Tensor, "n features"] | None:
        """Kept features of a layer, in the same way."""
        return self._rows(f"features/{layer}", process)

    def probed(self, layer: str, process: int | None = None) -> Float[Tensor, "n features"] | None:
        """What probes of a layer read, in the same way."""
        return self._rows(f"probed/{layer}", process)

    def _rows(self, name: str, process: int | None) -> Tensor | None:
        rows = gather_rows(self._store.read(f"{self.name}/{name}"), process)
        return None if rows is None else rows[self._order]

    def _shape(self, width: int) -> Shape:
        own = self._network.classes, self._temperature, self.device
        return Shape(width, *own, matrix_memory=self.wanted.matrix_memory)


def survey(
    name: str,
    network: Network,
    batches: Iterable[Any],
    wanted: Wanted,
    *,
    temperature: float,
    grid: int,
    store: RowStore,
    on_progress: OnProgress | None = None,
) -> Survey:
    """One pass over a data set (of every process: its share).

    Raises ValueError as `blocks`, in all processes if it occurs in one.
    """
    result = Survey(name, network, wanted, temperature, store)
    probed = wanted.reads("probed")
    read = Reading(
        grid=grid,
        features=wanted.reads("features") or (probed and not wanted.raw),
        raw=wanted.raw if probed else 0,
        rows=wanted.rows_per_sample if wanted.reads("rows") else 0,
    )
    stream = blocks(
        network,
        batches,
        name,
        read,
        own_labels=wanted.own_labels,
        labelled=wanted.labelled,
        on_batch=result.consider,
    )
    failure: ValueError | None = None
    try:
        with contextlib.closing(stream):
            for block in stream:
                result.update(block)
                if on_progress is not None:
                    on_progress(name, result.samples)
        if not result.samples:
            raise ValueError(f"{name} is empty; give at least one batch of (inputs, labels)")
    except ValueError as error:
        failure = error
    raise_together(failure)  # the others wait for this process where states are shared
    result.share()
    return result


def _smallest(parts: list[Subset], count: int) -> Subset:
    """The samples of all parts that have the smallest keys."""
    keys, labels = (
        torch.cat(own) for own in zip(*((p.keys, p.labels) for p in parts), strict=True)
    )
    inputs = [own for part in parts for own in part.inputs]
    chosen = keys.argsort(stable=True)[:count]
    return Subset(keys[chosen], [inputs[i] for i in chosen.tolist()], labels[chosen])


def _everywhere(rows: Tensor) -> Tensor:
    gathered = gather_rows(rows)
    assert gathered is not None
    return gathered
