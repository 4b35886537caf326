"""A classifier together with the layers found in it and the way its output is read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.taps import Layers, Select, find_layers, undisturbed, unwrap


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

    @classmethod
    def of(
        cls, model: nn.Module, batch: Tensor, patterns: Sequence[str] | None, select: Select
    ) -> "Network":
        """Find the layers by running a batch. Raises ValueError as `unwrap` and `find_layers`."""
        model = unwrap(model)
        weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
        inputs = _as_input(batch[:2], weight.device, weight.dtype)
        layers = find_layers(model, inputs, patterns, select)
        with torch.no_grad(), undisturbed(model):
            logits = select(model(inputs))
        if logits.ndim != 2 or len(logits) != len(inputs) or logits.shape[1] < 2:
            raise ValueError(
                f"the model makes an output of shape {tuple(logits.shape)} of {len(inputs)} inputs; "
                "logits must be (n, classes) with two classes or more"
            )
        return cls(model, layers, logits.shape[1], select, weight.device, weight.dtype)

    def logits(self, inputs: Tensor) -> Float[Tensor, "n classes"]:
        """Logits of a batch of inputs that lie on any device."""
        return self.select(self.model(_as_input(inputs, self.device, self.dtype)))

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


def _as_input(inputs: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Inputs on the network's device, floating ones in its precision; integers (tokens) stay."""
    inputs = inputs.to(device, non_blocking=True)
    return inputs.to(dtype) if inputs.is_floating_point() else inputs
