"""A classifier together with the layers found in it and the way its output is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.contexts import PLAIN, Defaults
from rankdeficit.diagnostics.reading.inputs import Forward, Inputs, explained
from rankdeficit.diagnostics.reading.masks import MaskOf
from rankdeficit.diagnostics.reading.outputs import Kind, as_logits, kind_of_outputs
from rankdeficit.diagnostics.reading.taps import (
    Layer,
    Layers,
    Select,
    find_layers,
    undisturbed,
)
from rankdeficit.diagnostics.reading.unfolding import multiply_the_same, weight_matrix
from rankdeficit.diagnostics.reading.wrappers import unwrap

TRACED = 7
"""Samples from which layers are found, at most."""


@dataclass(frozen=True)
class Network:
    """A network under diagnosis; nothing in it is changed."""

    model: nn.Module
    layers: Layers
    classes: int
    select: Select
    device: torch.device
    dtype: torch.dtype
    """Precision of its weights, in which it gets its inputs."""
    outputs: Kind = "logits"
    """What it returns for a class."""
    defaults: Defaults = PLAIN
    """Torch's defaults under which it runs."""
    mask: MaskOf = None
    """How the padding of a batch is told."""

    @classmethod
    def of(
        cls,
        model: nn.Module,
        batch: Tensor | Inputs,
        patterns: Sequence[str] | None,
        select: Select,
        defaults: Defaults = PLAIN,
    ) -> "Network":
        """Find the layers by running a batch. Raises ValueError as `unwrap` and `find_layers`."""
        model = unwrap(model)
        weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
        inputs = Inputs.of(batch)[:TRACED].on(weight.device, weight.dtype)
        with defaults.used():
            layers = find_layers(model, inputs, patterns, select)
            with torch.no_grad(), undisturbed(model):
                inputs = inputs[:2]
                outputs = select(inputs.run(model))
        if outputs.ndim not in (1, 2) or len(outputs) != len(inputs) or not outputs.numel():
            raise ValueError(
                f"the model makes an output of shape {tuple(outputs.shape)} of {len(inputs)} inputs; "
                "logits must be (n, classes), or one logit per sample for two classes"
            )
        classes = max(2, outputs[0].numel())
        found = weight.device, weight.dtype
        return cls(model, layers, classes, select, *found, defaults=defaults)

    def told_by(self, batches: Mapping[str, Inputs]) -> "Network":
        """The same, with what it returns told by its outputs of these batches, by their names.

        Raises ValueError, naming the batch, for one that the model cannot take.
        """
        found = []
        with torch.no_grad(), undisturbed(self.model):
            for where, batch in batches.items():
                with explained(where, batch):
                    found.append(self._run(batch))
        return replace(self, outputs=kind_of_outputs(found))

    @property
    def forward(self) -> Forward:
        """What its forward pass takes."""
        return Forward.of(self.model)

    def logits(self, inputs: Tensor | Inputs) -> Float[Tensor, "n classes"]:
        """Logits of a batch of inputs that lie on any device; log-probabilities of probabilities."""
        return as_logits(self._run(inputs), self.outputs)

    def _run(self, inputs: Tensor | Inputs) -> Tensor:
        with self.defaults.used():
            moved = Inputs.of(inputs).on(self.device, self.dtype)
            outputs = self.select(moved.run(self.model))
        return outputs[:, None] if outputs.ndim == 1 else outputs

    @property
    def classifier(self) -> nn.Linear | None:
        """The last weight layer, where it is a linear one that makes the logits."""
        module = self.model.get_submodule(self.layers.classifier.module)
        if isinstance(module, nn.Linear) and module.out_features == self.classes:
            return module
        return None

    def module(self, name: str) -> nn.Module:
        """The module of that name."""
        return self.model.get_submodule(name)

    def weight(self, layer: Layer) -> Float[Tensor, "out width"] | None:
        """W of a layer, with that of the modules beside it below: queries, keys and values, say.

        None where its module multiplies its input by no single matrix.
        """
        found = [weight_matrix(self.module(name)) for name in self.multiplying(layer)]
        known = [own for own in found if own is not None]
        return (
            None if len(known) < len(found) else known[0] if len(known) == 1 else torch.cat(known)
        )

    def multiplying(self, layer: Layer) -> list[str]:
        """Names of the modules whose matrices are the layer's: its own, and those on the same rows."""
        own = self.module(layer.module)
        beside = [name for name in layer.beside if multiply_the_same(own, self.module(name))]
        return [layer.module, *beside]
