"""A data set run through a network, as a stream of blocks of samples with all that was read of them."""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rankdeficit.diagnostics.reading.batches import checked_batch
from rankdeficit.diagnostics.reading.inputs import Inputs, explained
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.pooling import pool_features
from rankdeficit.diagnostics.reading.taps import Layer, reading, undisturbed
from rankdeficit.diagnostics.reading.tokens import (
    Tokens,
    Value,
    chosen_tokens,
    fits,
    tokens_of,
)
from rankdeficit.diagnostics.reading.trace import Place
from rankdeficit.diagnostics.reading.unfolding import input_rows, rows_are_tokens, rows_per_sample
from rankdeficit.diagnostics.states.sampling import draws, positions

BLOCK = 1024
"""Samples of a block, at least: a few large products are faster than many small ones."""


MOST_CLASSES = 2**20
"""Of OOD data. Larger labels are not classes numbered from 0, and their probes would fit in no memory."""


class NonFiniteLogitsError(ValueError):
    """The network makes logits that are NaN or infinite."""


@dataclass
class Block:
    """Some samples of a data set; all tensors are on the network's device."""

    labels: Int64[Tensor, " n"]
    keys: Int64[Tensor, " n"]
    """`sample_keys` of the inputs."""
    logits: Float[Tensor, "n classes"]
    penultimate: Float[Tensor, "n width"]
    """What the classifier reads."""
    features: dict[str, Float[Tensor, "n _"]] = field(default_factory=dict)
    """Pooled representation after each layer."""
    raw: dict[str, Float[Tensor, "n _"]] = field(default_factory=dict)
    """Some entries of each layer's own output."""
    rows: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)
    """Some rows of what each layer with a weight matrix reads, the same number of every sample."""

    unmasked: frozenset[str] = frozenset()
    """Modules that read or make other tokens than the mask's, so that padding counts in them."""

    def part(self, of: str) -> dict[str, Tensor]:
        """The tensors of that name by layer; one called "" where it is not of layers."""
        found = (self.raw or self.features) if of == "probed" else getattr(self, of)
        return found if isinstance(found, dict) else {"": found}


@dataclass(frozen=True)
class Reading:
    """What is read of every sample besides labels, logits and penultimate features."""

    grid: int = 2
    """Cells per side to which maps are averaged; penultimate maps are averaged whole."""
    features: bool = False
    """Read the representation after each layer."""
    rows: int = 0
    """Rows of each layer's input per sample: patches of a convolution, tokens."""
    raw: int = 0
    """Number of entries of each layer's own output, before normalisation and activation."""


def blocks(
    network: Network,
    batches: Iterable[Any],
    name: str,
    reading_of: Reading,
    *,
    own_labels: bool = False,
    labelled: bool = True,
    on_batch: Callable[[Tensor, Inputs, Tensor], None] | None = None,
) -> Generator[Block, None, None]:
    """Run the network in evaluation mode, without gradients, over all (input, label) batches.

    name: of the data set, for messages. own_labels: labels are not the network's classes.
    labelled: without it labels are not read, and are all 0.
    on_batch: hears keys, inputs and labels of each batch. Hooks and modes last as long as the
    generator: close it. Raises ValueError, naming data set and batch, for batches that are no pairs,
    labels out of range, inputs that the network cannot take, and NaN or infinite inputs or logits.
    """
    with torch.no_grad(), undisturbed(network.model):
        reader, forward = _Reader(network, reading_of), network.forward
        with reading(network.model, reader.places, reader.read):
            for number, batch in enumerate(batches):
                where = f"{name}, batch {number}"
                inputs, labels = checked_batch(
                    batch, where, forward, labelled=labelled, mask=network.mask
                )
                if not len(labels):
                    continue
                check_labels(labels, None if own_labels else network.classes, where)
                reader.begin(inputs.keys().to(network.device), inputs.mask, where)
                with explained(where, inputs):
                    logits = network.logits(inputs)
                reader.end(logits, labels.to(network.device), where)
                if on_batch is not None:
                    on_batch(reader.keys, inputs, labels)
                if reader.samples >= BLOCK:
                    yield reader.block()
            if reader.samples:
                yield reader.block()


class _Reader:
    """Gathers what the hooks read until a block is full."""

    def __init__(self, network: Network, wanted: Reading) -> None:
        self._network, self._wanted = network, wanted
        layers = network.layers.chosen
        self._features: dict[Place, list[Layer]] = defaultdict(list)
        self._inputs: dict[Place, tuple[int, Layer]] = {}
        if wanted.features:
            for layer in layers:
                self._features[layer.representation].append(layer)
        if wanted.rows:
            for salt, layer in enumerate(layers):
                if network.weight(layer) is not None:
                    self._inputs[layer.input] = salt, layer
        self._raw: dict[Place, list[tuple[int, Layer]]] = defaultdict(list)
        for salt, layer in enumerate(layers if wanted.raw else ()):
            self._raw[replace(layer.input, side="output")].append((salt, layer))
        penultimate = network.layers.penultimate
        self.places = list({*self._features, *self._raw, *self._inputs, penultimate})
        self.samples = 0
        self._parts: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        self._widths: dict[tuple[str, str], int] = {}
        self._unmasked: set[str] = set()

    def begin(self, keys: Tensor, mask: Bool[Tensor, "n tokens"] | None, where: str) -> None:
        """A batch with these keys goes into the network; the mask tells its real tokens."""
        self.keys, self._where = keys, where
        self.mask = mask
        self._drawn = draws(keys, self._wanted.rows, len(self._network.layers.chosen))
        self._seen: set[Place] = set()

    def read(self, place: Place, value: Value) -> None:
        """Take what a hook reads; at once, since later operations may change the tensor in place."""
        self._seen.add(place)
        if place == self._network.layers.penultimate:
            own = self._tokens(value, self._network.layers.classifier.input_axis)
            self._put_features("", "penultimate", self._pooled(own, 1, own.values.ndim == 3, place))
        for layer in self._features.get(place, ()):
            if place.module:  # the logits are read at the end, as the user selects them
                own = self._tokens(value, layer.samples_axis)
                pooled = self._pooled(
                    own, self._wanted.grid, layer.channels_last or own.packed, place
                )
                self._put_features("features", layer.name, pooled)
        for salt, layer in self._raw.get(place, ()):
            own = self._tokens(value, layer.output_axis)
            self._put_features("raw", layer.name, self._entries(own, salt, place))
        if place in self._inputs:
            salt, layer = self._inputs[place]
            module = self._network.module(layer.module)
            own = self._tokens(value, layer.input_axis)
            if own.mask is not None and rows_are_tokens(module, own.values, own.mask):
                chosen = chosen_tokens(self._drawn[:, salt], own.mask)
            else:
                self._unmasked |= (
                    {place.module} if own.mask is not None and own.values.ndim > 2 else set()
                )
                available = own.windows * rows_per_sample(module, own.values)
                chosen = positions(self._drawn[:, salt], available)
            rows = input_rows(module, own.values, chosen, own.windows)
            self._parts["rows", layer.name].append(rows)  # a copy, unlike other parts

    def _tokens(self, value: Value, axis: int) -> Tokens:
        return tokens_of(value, len(self.keys), axis, self.mask)

    def _pooled(self, own: Tokens, grid: int, channels_last: bool, place: Place) -> Tensor:
        """Features in memory of their own; places whose tokens the mask does not tell are remembered."""
        masked = fits(own.values, own.mask, 1 if channels_last else 2)
        if own.mask is not None and own.values.ndim > 2 and not masked:
            self._unmasked.add(place.module)
        found = pool_features(own.values, grid, channels_last, own.mask, own.windows)
        return found.clone() if found is own.values else found

    def _entries(self, own: Tokens, salt: int, place: Place) -> Tensor:
        """Entries of a layer's own output, drawn once for all samples."""
        if own.mask is not None and own.values.ndim > 2:
            raise ValueError(
                f"{self._where}: {place.module} has tokens under a mask; probes of raw outputs would "
                "read padding, so take another preset"
            )
        flat = own.values.reshape(len(own.values) // own.windows, -1)
        generator = torch.Generator().manual_seed(salt)
        chosen = (
            torch.randperm(flat.shape[1], generator=generator)[: self._wanted.raw].sort().values
        )
        return flat[:, chosen.to(flat.device)]

    def end(self, logits: Tensor, labels: Tensor, where: str) -> None:
        """Take the logits and labels of the batch that the network has processed."""
        if logits.shape != (len(labels), self._network.classes):
            raise ValueError(
                f"{where}: logits have shape {tuple(logits.shape)} where {len(labels)} samples of "
                f"{self._network.classes} classes were expected"
            )
        if not bool(logits.isfinite().all()):
            bad = (~logits.isfinite()).any(dim=1).nonzero().flatten().tolist()
            raise NonFiniteLogitsError(f"{where}: logits of samples {bad[:5]} are NaN or infinite")
        if missed := set(self.places) - self._seen:
            names = ", ".join(sorted({place.module for place in missed})[:3])
            raise ValueError(
                f"{where}: {names} did not run as in the first batch; networks whose path depends on "
                "the input cannot be diagnosed"
            )
        for layer in self._features.get(Place("", 0, "output"), ()):
            self._put("features", layer.name, logits.clone())
        for name, value in (("labels", labels), ("keys", self.keys), ("logits", logits)):
            self._put("", name, value.clone())
        self.samples += len(labels)

    def block(self) -> Block:
        """What was gathered, which is forgotten here."""
        groups: dict[str, dict[str, Any]] = {"": {}, "features": {}, "raw": {}, "rows": {}}
        for (group, name), parts in self._parts.items():
            groups[group][name] = torch.cat(parts)
        self._parts.clear()
        self.samples = 0
        return Block(
            **groups[""],
            features=groups["features"],
            raw=groups["raw"],
            rows=groups["rows"],
            unmasked=frozenset(self._unmasked),
        )

    def _put_features(self, group: str, name: str, value: Tensor) -> None:
        layer = name if group else f"what {self._network.layers.classifier.name} reads"
        if len(value) != len(self.keys):
            raise ValueError(
                f"{self._where}: {layer} has {len(value)} rows where the batch has {len(self.keys)} "
                "samples; choose layers with one row per sample with layers=[...]"
            )
        width = self._widths.setdefault((group, name), value.shape[1])
        if value.shape[1] != width:
            raise ValueError(
                f"{self._where}: {layer} has {value.shape[1]} features after {width} in batches before; "
                "take grid=1, which averages maps of any size to one cell, or inputs of one size"
            )
        self._put(group, name, value)

    def _put(self, group: str, name: str, value: Tensor) -> None:
        self._parts[group, name].append(value)


def check_labels(labels: Tensor, classes: int | None, where: str) -> None:
    """Raise ValueError for labels out of range; without classes, -1 stands for no label."""
    low, high = int(labels.min()), int(labels.max())
    if classes is None and high >= MOST_CLASSES:
        raise ValueError(f"{where}: labels lie in {low}..{high}; number the classes from 0")
    if low < (-1 if classes is None else 0) or (classes is not None and high >= classes):
        own = "0 or more, or be -1 where there is none"
        bound = own if classes is None else f"in 0..{classes - 1}, the network's logits"
        raise ValueError(f"{where}: labels lie in {low}..{high}; they must lie {bound}")
