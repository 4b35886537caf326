"""What one pass over a data set leaves behind: streamed states, and the rows that are read again."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.diagnostics.reading.blocks import Block, Reading, blocks
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.store import RowStore
from rankdeficit.diagnostics.states.alignment import InputDirections
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics
from rankdeficit.diagnostics.states.logits import LogitsStatistics
from rankdeficit.distributed import gather_rows, rank_and_size
from rankdeficit.gram import Gram
from rankdeficit.softmax import cross_entropy

OnProgress = Callable[[str, int], None]


@dataclass(frozen=True)
class Wanted:
    """What a pass is to measure, besides labels and predictions."""

    spectra: bool = False
    """Spectra of the logits and of the representation after every layer."""
    classes: bool = False
    """Class statistics of the penultimate features."""
    penultimate: bool = False
    """Keep what the classifier reads."""
    logits: bool = False
    """Keep the logits."""
    features: bool = False
    """Keep the pooled representation after every layer."""
    rows: int = 0
    """Rows of each layer's input per sample, for its alignment."""
    subset: int = 0
    """Keep so many inputs with their labels, chosen by content."""
    own_labels: bool = False
    """Labels are of the data set's own classes, not the network's."""


class Survey:
    """States of one data set. Fields that were not wanted stay empty."""

    def __init__(
        self, name: str, network: Network, wanted: Wanted, temperature: float, store: RowStore
    ) -> None:
        self.name, self.wanted = name, wanted
        self._store, self._network = store, network
        self.logits = LogitsStatistics(network.classes, temperature, device=network.device)
        self.layers: dict[str, Gram] = {}
        """Gram matrix of the representation after each layer."""
        self.penultimate: Gram | None = None
        """Gram matrix of what the classifier reads."""
        self.classes: ClassStatistics | None = None
        self.directions: dict[str, InputDirections] = {}
        """What each layer with a weight matrix reads."""
        self.subset: tuple[Tensor, Tensor, Tensor] | None = None
        """Keys, inputs and labels of the samples with the smallest keys."""
        self._losses = torch.zeros((), dtype=torch.float64)
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
    def loss(self) -> float:
        """Mean cross-entropy at the temperature, in nats."""
        return float(self._losses) / self.samples

    def update(self, block: Block) -> None:
        """Take in the next samples."""
        self.labels = torch.cat([self.labels, block.labels.cpu()])
        self.keys = torch.cat([self.keys, block.keys.cpu()])
        self.predictions = torch.cat([self.predictions, block.logits.argmax(dim=1).cpu()])
        device, width = self._network.device, block.penultimate.shape[1]
        if self.wanted.spectra:
            self.logits.update(block.logits)
            loss = cross_entropy(block.logits.double(), block.labels, self.logits.temperature)
            self._losses += len(block.labels) * loss.cpu()
            self.penultimate = self.penultimate or Gram(width, device=device)
            self.penultimate.update(block.penultimate)
            for name, features in block.features.items():
                if name not in self.layers:
                    self.layers[name] = Gram(features.shape[1], device=device)
                self.layers[name].update(features)
        if self.wanted.classes:
            if self.classes is None:
                self.classes = ClassStatistics(width, self._network.classes, device=device)
            self.classes.update(block.penultimate, block.labels)
        for name, rows in block.rows.items():
            if name not in self.directions:
                self.directions[name] = InputDirections(rows.shape[1], device=device)
            self.directions[name].update(rows, block.keys)
        if self.wanted.logits:
            self._keep("output", "logits", block.logits)
        if self.wanted.penultimate:
            self._keep("output", "penultimate", block.penultimate)
        if self.wanted.features:
            for name, features in block.features.items():
                self._keep("layer", name, features)

    def consider(self, keys: Tensor, inputs: Tensor, labels: Tensor) -> None:
        """Keep those of these inputs, and of the ones kept, that have the smallest keys."""
        if self.wanted.subset:
            batch = keys.cpu(), inputs.cpu(), labels.cpu()
            if self.subset is not None:
                keys, inputs, labels = map(torch.cat, zip(self.subset, batch, strict=True))
            else:
                keys, inputs, labels = batch
            chosen = keys.argsort(stable=True)[: self.wanted.subset]
            self.subset = keys[chosen], inputs[chosen], labels[chosen]

    def share(self) -> None:
        """Merge the states of all processes, and put samples in an order that no loader decides."""
        if rank_and_size()[1] > 1:
            states: list[Any] = [*self.layers.values(), *self.directions.values()]
            states += [self.logits] if self.wanted.spectra else []
            for state in (*states, self.penultimate, self.classes):
                if state is not None:
                    state.all_reduce()
            if self.subset is not None:
                (keys, inputs, labels), self.subset = self.subset, None
                self.consider(_everywhere(keys), _everywhere(inputs), _everywhere(labels))
        self._losses = _everywhere(self._losses[None]).sum()
        self._order = _everywhere(self.keys).argsort(stable=True)
        self.keys, self.labels, self.predictions = (
            _everywhere(values)[self._order]
            for values in (self.keys, self.labels, self.predictions)
        )

    def outputs(self, name: str, process: int | None = None) -> Tensor | None:
        """Kept `logits` or `penultimate` features of all samples, in the order of their keys.

        process: which one gets them, the others get None; without it all do.
        """
        return self._rows("output", name, process)

    def features(
        self, layer: str, process: int | None = None
    ) -> Float[Tensor, "n features"] | None:
        """Kept features of a layer, in the same way."""
        return self._rows("layer", layer, process)

    def _keep(self, kind: str, name: str, rows: Tensor) -> None:
        self._store.append(f"{self.name}/{kind}/{name}", rows)

    def _rows(self, kind: str, name: str, process: int | None) -> Tensor | None:
        rows = gather_rows(self._store.read(f"{self.name}/{kind}/{name}"), process)
        return None if rows is None else rows[self._order]


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
    """One pass over a data set (of every process: its share). Raises ValueError as `blocks`."""
    result = Survey(name, network, wanted, temperature, store)
    read = Reading(grid=grid, features=wanted.spectra or wanted.features, rows=wanted.rows)
    stream = blocks(
        network, batches, name, read, own_labels=wanted.own_labels, on_batch=result.consider
    )
    with contextlib.closing(stream):
        for block in stream:
            result.update(block)
            if on_progress is not None:
                on_progress(name, result.samples)
    if not result.samples:
        raise ValueError(f"{name} is empty; give at least one batch of (inputs, labels)")
    result.share()
    return result


def _everywhere(rows: Tensor) -> Tensor:
    gathered = gather_rows(rows)
    assert gathered is not None
    return gathered
