"""Linear probes on the layers of a network, which show where it can be cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rankdeficit.control.compression.early import Early, left_early, unused_modules
from rankdeficit.control.compression.parts import OnProgress, Part, Runner, in_order
from rankdeficit.control.compression.structure import Cut, restructured
from rankdeficit.diagnostics.measures.probes import Probe, fit_probe, predict
from rankdeficit.diagnostics.reading.inputs import Inputs
from rankdeficit.diagnostics.reading.pooling import pool_features
from rankdeficit.diagnostics.reading.taps import Layer, reading, undisturbed
from rankdeficit.diagnostics.reading.tokens import Value
from rankdeficit.diagnostics.reading.trace import Place

NEVER = -1e4
"""Bias for classes without fitting samples."""

MEMORY = 2**30
"""Maximum bytes of features kept at once."""


@dataclass(frozen=True)
class Probed:
    """A layer's linear probe and its correct predictions on the exploring samples."""

    layer: Layer
    probe: Probe
    correct: Bool[Tensor, " n"]
    """In the order of `Runner.correct`."""


@dataclass(frozen=True)
class Prober:
    """Fits probes on the layers of a network."""

    model: nn.Module
    runner: Runner
    fit: Part
    explore: Part
    classes: int
    grid: int
    samples: int
    """Number of fitting and exploring samples, from which the memory of features follows."""
    on_progress: OnProgress

    def backwards(self, layers: Sequence[Layer]) -> Iterator[Probed]:
        """Fit and yield the probes of the layers, starting with the last layer."""
        usable = [own for own in layers if own.representation.call == own.samples_axis == 0]
        for group in self._groups(list(reversed(usable))):
            features, labels, _ = self._read(group, self.fit)
            held_out, targets, order = self._read(group, self.explore)
            for layer in group:
                place = layer.representation
                if place not in features:
                    continue
                self.on_progress("probes", layers.index(layer) + 1, len(layers))
                probe = fit_probe(features[place], labels, self.classes)
                right = predict(probe, held_out[place]) == targets
                yield Probed(layer, probe, right[order].cpu())

    def _groups(self, layers: Sequence[Layer]) -> Iterator[list[Layer]]:
        """Groups of consecutive layers whose features fit into memory together."""
        inputs = next(iter(self.fit))[0][:1].on(self.runner.device, self.runner.dtype)
        with torch.no_grad(), undisturbed(self.model):
            widths = {place: own.shape[1] for place, own in self._pooled(layers, inputs).items()}
        group: list[Layer] = []
        taken = 0
        for layer in layers:
            needed = 4 * self.samples * widths.get(layer.representation, 0)
            if group and taken + needed > MEMORY:
                yield group
                group, taken = [], 0
            group.append(layer)
            taken += needed
        if group:
            yield group

    def _read(
        self, layers: Sequence[Layer], part: Part
    ) -> tuple[dict[Place, Float[Tensor, "n features"]], Int64[Tensor, " n"], Int64[Tensor, " n"]]:
        """Pooled features of a part by place, labels, and the indices that sort the samples by key."""
        found: dict[Place, list[Tensor]] = {}
        keys, targets = [], []
        with torch.no_grad(), undisturbed(self.model):
            for inputs, labels in self.runner.batches(part):
                for place, own in self._pooled(layers, inputs).items():
                    found.setdefault(place, []).append(own)
                keys.append(inputs.keys().cpu())
                targets.append(labels)
        labels = torch.cat(targets)
        order = in_order(torch.cat(keys), labels.cpu()).to(labels.device)
        return {place: torch.cat(own) for place, own in found.items()}, labels, order

    def _pooled(self, layers: Sequence[Layer], inputs: Inputs) -> dict[Place, Tensor]:
        """Pooled features of a batch by place, except at places whose value is not a plain tensor."""
        last = {own.representation: own.channels_last for own in layers}
        found: dict[Place, Tensor] = {}

        def visit(place: Place, value: Value) -> None:
            if isinstance(value, Tensor):
                found[place] = pool_features(value, self.grid, last[place])

        with reading(self.model, list(last), visit):
            inputs.run(self.model)
        return found


def cut_at(model: nn.Module, probed: Probed, grid: int, inputs: Inputs) -> tuple[nn.Module, Cut]:
    """The network up to a layer with the layer's probe as head, and the edit that makes it.

    inputs: a batch on the network's device. Modules that the layer's representation does not depend on
    are dropped, unless the network's code fails without them.
    """
    layer, probe = probed.layer, probed.probe
    place = layer.representation
    with undisturbed(model):
        dropped = unused_modules(
            model, lambda: _early(model, place, inputs), place.module, place.side
        )
    scaled = probe.weight.double() / probe.scale
    bias = probe.bias.clamp(min=NEVER)  # minus infinity for classes without samples
    edit = Cut(
        layer.name, place.module, place.side, grid, layer.channels_last, len(probe.mean),
        len(probe.bias), tuple(dropped),
    )  # fmt: skip
    if not _same_without(model, edit, place, inputs):
        edit = replace(edit, dropped=())
    made = restructured(model, [edit])
    assert isinstance(made, Early)
    assert isinstance(made.head, nn.Linear)
    with torch.no_grad():
        made.head.weight.copy_(scaled)
        made.head.bias.copy_(bias - scaled @ probe.mean)
    return made, edit


@torch.no_grad()
def _same_without(model: nn.Module, edit: Cut, place: Place, inputs: Inputs) -> bool:
    """Whether the representation is the same without the dropped modules."""
    made = restructured(model, [edit])
    assert isinstance(made, Early)
    with undisturbed(model), undisturbed(made):
        expected = _early(model, place, inputs)
        try:
            return torch.equal(_early(made.body, place, inputs), expected)
        except Exception:  # of any kind: the network's code reads a dropped module
            return False


def _early(body: nn.Module, place: Place, inputs: Inputs) -> Tensor:
    return left_early(body, place.module, place.side, *inputs.positional, **inputs.named)
