"""Which axis of a tensor of the forward pass holds the channels, followed from the layer that made it."""

from typing import Literal

from torch import nn

from rankdeficit.diagnostics.reading.axes import RESHAPES, reshaped
from rankdeficit.diagnostics.reading.trace import PRODUCTS, RECURRENT, WEIGHT_MODULES, Node
from rankdeficit.diagnostics.reading.unfolding import is_linear, is_transposed

Kind = Literal["convolution", "linear", "attention", "composite", "module"]
"""Composite: a module of another type that multiplies by weights itself. Module: not a weight layer."""


def kind_of(module: nn.Module, otherwise: Kind) -> Kind:
    """The kind of a module's layer; `otherwise` where it is none of torch's weight modules."""
    if is_linear(module):
        return "linear"
    if isinstance(module, nn.MultiheadAttention):
        return "attention"
    if isinstance(module, RECURRENT):
        return "composite"
    return "convolution" if isinstance(module, WEIGHT_MODULES) else otherwise


def channels_last(model: nn.Module, kind: Kind, module: nn.Module, read: Node) -> bool:
    """Whether the channels of a tensor are on its last axis (tokens) or on axis 1 (maps).

    kind, module: of the layer whose representation it is. Axes are followed through permutations and
    reshapes from the last weight layer before the tensor. Where these mix channels with others, the
    number of output channels decides, else the kind of layer.
    """
    if len(read.shape) < 3:
        return False
    axes = _followed(model, read)
    if axes is not None and len(axes) == 1 and (axis := min(axes)) in (1, len(read.shape) - 1):
        return axis != 1
    if kind == "module":
        return len(read.shape) == 3
    channels = _channels(module)
    if kind == "convolution":
        return read.shape[1] != channels and read.shape[-1] == channels
    return read.shape[-1] == channels or read.shape[1] != channels


def _channels(module: nn.Module) -> int | None:
    """Number of output channels of the module's weight; None if it has no weight."""
    weight = getattr(module, "weight", None)
    return None if weight is None else int(weight.shape[1 if is_transposed(module) else 0])


def _followed(model: nn.Module, read: Node) -> frozenset[int] | None:
    """Axes of the channels that the last weight layer made; None where they are not known."""
    path: list[Node] = []
    for node in read.history():
        if node.made_by is not None:
            module = model.get_submodule(node.made_by.module)
            return _along(_made(node, kind_of(module, "composite"), module), path)
        path.append(node)
    return None


def _made(layer: Node, kind: Kind, module: nn.Module) -> frozenset[int] | None:
    """Axes of the channels in the output of a weight layer."""
    if kind == "convolution":
        return frozenset([1])
    if kind != "composite" or isinstance(module, RECURRENT):
        return frozenset([len(layer.shape) - 1])
    path: list[Node] = []
    for node in layer.parents[-1].history():  # what it computed itself
        if node.weights:
            first = 1 if node.operation == "convolution" else len(node.shape) - 1
            return _along(frozenset([first]), path)
        path.append(node)
    return None


def _along(axes: frozenset[int] | None, path: list[Node]) -> frozenset[int] | None:
    """Axes after the operations of a path, whose last one comes first."""
    for node in reversed(path):
        if axes is None or node.parent is None:
            return None
        before = node.parent.shape
        if node.axes:
            axes = frozenset(now for now, axis in enumerate(node.axes) if axis in axes)
        elif node.operation in RESHAPES:
            axes = reshaped(axes, before, node.shape)
        elif len(before) != len(node.shape) or node.operation in PRODUCTS:
            axes = None
    return axes
