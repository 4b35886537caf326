"""The head of a network, and the layer that computes its input features."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rankdeficit.control.compression.structure import FACTORED
from rankdeficit.control.head import linear_head
from rankdeficit.control.passes import Passes
from rankdeficit.diagnostics.reading.inputs import Inputs
from rankdeficit.diagnostics.reading.taps import Select
from rankdeficit.diagnostics.reading.trace import Place, first_value, trace

BETWEEN = frozenset(
    "view _unsafe_view reshape _reshape_copy flatten squeeze clone alias detach mean avg_pool1d "
    "avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d".split()
)
"""Linear operations that act on each channel alone, and so commute with a change of basis."""


def find_head(model: nn.Module, sample: Inputs, select: Select) -> str:
    """Name of the linear layer that computes the logits. Raises ValueError if there is no such layer."""
    passes = Passes(model, sample, select)
    found = linear_head(passes)
    (name, *more) = found.modules
    module = found.modules[name]
    if more or not isinstance(module, nn.Linear):
        raise ValueError(
            f"the logits are computed by {found.name}; compression needs a single linear layer as head"
        )
    read: list[tuple[int, ...]] = []

    def note(_: nn.Module, args: Any, kwargs: Any) -> None:
        features = first_value((args, kwargs))
        assert isinstance(features, Tensor)
        read.append(tuple(features.shape))

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        logits = passes.logits()
    finally:
        handle.remove()
    if len(read) != 1 or len(read[0]) != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"the head {name} gets inputs of shape {read} for {len(sample)} samples and gives "
            f"{logits.shape[1]} logits; it must be called once with (n, features), and give a logit for "
            "each class"
        )
    return name


def feature_layer(model: nn.Module, sample: Inputs, select: Select, head: str) -> str | None:
    """Name of the layer from which only operations of BETWEEN lead to the head, or None."""
    with torch.no_grad():
        traced = trace(model, sample, select)
    node = traced.places.get(Place(head, 0, "input"))
    for own in node.history() if node is not None else ():
        if own.made_by is not None:
            module = model.get_submodule(own.made_by.module)
            alone = type(module) in FACTORED and getattr(module, "groups", 1) == 1
            reader = model.get_submodule(head)
            assert isinstance(reader, nn.Linear)
            fits = alone and width_of(module) == reader.in_features and not own.made_by.call
            return own.made_by.module if fits else None
        if own.operation not in BETWEEN:
            return None
    return None


def width_of(module: nn.Module) -> int:
    """Number of outputs; weights of transposed convolutions have them on their second axis."""
    if isinstance(module, _ConvNd):
        return module.out_channels
    weight = module.weight
    assert isinstance(weight, Tensor)
    return len(weight)
