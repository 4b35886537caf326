"""Which layers a network has, and where the representation after each can be read.

A layer is a weight layer (convolution, linear, attention, RNN) on the main path from input to logits: the
one with the most weight layers. Shortcut projections and gates are off it. How a network is written does
not count: weight layers that read the same input and meet again on the path are one layer (queries, keys
and values; the branches of a fire module), and so is an attention with the projection of its output, as
it is in torch's own. A layer's representation is what follows it: after normalisation, residual
sum and activation, before pooling and reshaping, as far as some module takes or returns that tensor.
"""

import difflib
import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.branches import (
    PARALLEL,
    Reason,
    bare_parameters,
    layer_name,
    off_path,
)
from rankdeficit.diagnostics.reading.channels import Kind, channels_last, kind_of
from rankdeficit.diagnostics.reading.inputs import Inputs
from rankdeficit.diagnostics.reading.tokens import Value, data_of, samples_axis, telling_number
from rankdeficit.diagnostics.reading.trace import Node, Place, Trace, Visit, trace, visiting

TRAILING = frozenset(
    "view _unsafe_view reshape _reshape_copy flatten permute transpose t unsqueeze squeeze expand clone "
    "slice select index gather detach alias as_strided _to_copy unbind split mean amax max_pool1d "
    "max_pool2d_with_indices max_pool3d_with_indices mkldnn_max_pool2d avg_pool1d avg_pool2d avg_pool3d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d mkldnn_adaptive_avg_pool2d "
    "constant_pad_nd copy index_select narrow".split()
)
"""Operations before which a representation is read: they pool it, reshape it or pick parts of it."""

LOGITS = Place("", 0, "output")

NAME_LOGITS = (
    "name the logits with logits=lambda output: ... in Python; for a command define a network that "
    "returns them alone"
)


@dataclass(frozen=True)
class Layer:
    """A layer of a network."""

    name: str
    """Name of its module; a second call of the same module ends in `:2`."""
    module: str
    call: int
    kind: Kind
    representation: Place
    """Where what follows the layer is read."""
    channels_last: bool
    """Whether the channels of its representation are on the last axis (tokens) or on axis 1 (maps)."""
    counted_with: tuple[str, ...] = ()
    """Names of further weight layers that are one layer with it."""
    beside: tuple[str, ...] = ()
    """Modules of those among them that read the same input."""
    samples_axis: int = 0
    """Of its representation."""
    input_axis: int = 0
    """Axis of the samples in its input."""

    output_axis: int = 0
    """Axis of the samples in its own output."""

    @property
    def input(self) -> Place:
        """Where what the layer reads is read."""
        return Place(self.module, self.call, "input")


@dataclass(frozen=True)
class Layers:
    """The layers chosen, in order of execution, and the classifier, the last weight layer of all."""

    chosen: tuple[Layer, ...]
    classifier: Layer
    left_out: dict[str, Reason] = field(default_factory=dict)
    """Weight layers off the main path, by name; empty where the user chose the layers."""

    @property
    def penultimate(self) -> Place:
        """Where the features that the classifier reads are read."""
        return self.classifier.input


Select = Callable[[Any], Tensor]


def find_layers(
    model: nn.Module,
    inputs: Tensor | Inputs,
    patterns: Sequence[str] | None = None,
    select: Select | None = None,
) -> Layers:
    """The layers of a network, found by running some samples of a batch in evaluation mode.

    patterns: names of modules, with * and ?, to look at instead of all weight layers on the main
    path; the representation after a module that is none of these is its output.
    select: picks the logits from what the network returns; by default `pick_logits`.
    Raises ValueError for a pattern that matches no module that was run, listing close names.
    """
    inputs = Inputs.of(inputs)
    sizes = (size for tensor in inputs.tensors for size in tensor.shape[1:])
    inputs = inputs[: telling_number(len(inputs), sizes)]
    with undisturbed(model):
        traced = trace(model, inputs, select or pick_logits)
        axes = _samples_axes(model, inputs, traced)
    layers = tuple(_with_axes(own, axes) for own in _main_path(model, traced.logits))
    if patterns is None:
        _check_readable(model, traced.logits)
        found = _with_parallel(layers, traced, off_path(model, traced))
        return replace(found, left_out=found.left_out | bare_parameters(model, traced))
    main = {(layer.module, layer.call): layer for layer in layers}
    run = [place for place in traced.places if place.side == "output" and place.module]
    wanted = _match(patterns, list(dict.fromkeys(place.module for place in run)))
    chosen = [
        main.get((place.module, place.call))
        or _with_axes(_layer(model, place, place, traced.places[place]), axes)
        for place in run
        if place.module in wanted
    ]
    return Layers(tuple(chosen), layers[-1])


@contextmanager
def reading(model: nn.Module, places: Sequence[Place], read: Visit) -> Iterator[None]:
    """Show `read` the tensors at these places in every forward pass of the context."""
    with visiting(model, read, frozenset(places)):
        yield


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, eager and without fused attention; afterwards all is as it was.

    Each module gets its own mode back. Compiled modules run eagerly, since hooks would not be called.
    """
    modes = [(module, module.training) for module in model.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.callback(torch.backends.mha.set_fastpath_enabled, fused)
        for module, mode in modes:
            stack.callback(setattr, module, "training", mode)
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval()
        yield


def pick_logits(output: Any) -> Tensor:
    """The logits in what a network returns: the tensor itself, or the only (n, classes) one in it.

    A field or key `logits` is taken first. Raises ValueError where that leaves a choice.
    """
    is_mapping = isinstance(output, Mapping)
    named = output.get("logits") if is_mapping else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    if isinstance(output, Tensor):
        candidates = [output]
    else:
        parts = output.values() if is_mapping else output
        if not isinstance(output, (Mapping, tuple, list)):
            raise ValueError(f"the model returns a {type(output).__name__}; {NAME_LOGITS}")
        candidates = [x for x in parts if isinstance(x, Tensor) and x.is_floating_point()]
        candidates = [x for x in candidates if x.ndim == 2]
    if len(candidates) != 1:
        raise ValueError(
            f"the model returns a {type(output).__name__} with {len(candidates)} tensors of shape "
            f"(n, classes); {NAME_LOGITS}"
        )
    return candidates[0]


def _main_path(model: nn.Module, logits: Node) -> tuple[Layer, ...]:
    """Layers from the input to the logits; an attention and its output's projection are one."""
    layers: list[Layer] = []
    following: list[Node] = []  # from the end of the current layer's representation to its output
    for node in logits.history():
        following.append(node)
        if node.made_by is not None:
            place, read = _representation(following) if layers else (LOGITS, logits)
            layer = _layer(model, node.made_by, place, read, "composite")
            if len(layers) > 1 and _attends(following):
                projection = layers.pop()
                layer = replace(
                    layer,
                    representation=projection.representation,
                    channels_last=projection.channels_last,
                    counted_with=(projection.name, *projection.counted_with),
                )
            layers.append(layer)
            following = []
    return tuple(reversed(layers))


def _samples_axes(model: nn.Module, inputs: Inputs, traced: Trace) -> dict[Place, int]:
    """The axis of the samples, or of their windows, at each place: the one that fewer samples shorten."""
    shapes = {place: node.shape for place, node in traced.places.items()}
    if all(len(shape) < 3 or shape[0] == len(inputs) for shape in shapes.values()):
        return dict.fromkeys(shapes, 0)
    fewer: dict[Place, tuple[int, ...]] = {}

    def read(place: Place, value: Value) -> None:
        fewer[place] = tuple(data_of(value).shape)

    if len(inputs) > 1:
        with torch.no_grad(), visiting(model, read):
            inputs[:-1].run(model)
    return {
        place: samples_axis(shape, len(inputs), fewer.get(place)) for place, shape in shapes.items()
    }


def _with_axes(layer: Layer, axes: Mapping[Place, int]) -> Layer:
    """The layer with the axes of the samples in what it reads, what it makes and what follows it."""
    made = replace(layer.input, side="output")
    read, reads, makes = (axes.get(place, 0) for place in (layer.representation, layer.input, made))
    return replace(layer, samples_axis=read, input_axis=reads, output_axis=makes)


def _attends(following: list[Node]) -> bool:
    """Whether a product of tensors made from the input is the last to join them before the next layer."""
    joining = (node for node in following[:-1] if len(node.parents) > 1)
    return next((node.mixes for node in joining), False)


def _with_parallel(layers: tuple[Layer, ...], traced: Trace, off: dict[Node, Reason]) -> Layers:
    """The layers, with those that run beside one on the same input; and what is left out."""
    beside: dict[str, list[Place]] = {}
    reads = {traced.places[layer.input]: layer.name for layer in reversed(layers)}
    left_out: dict[str, Reason] = {}
    for node, reason in off.items():
        assert node.made_by is not None
        name, layer = layer_name(node.made_by), reads.get(node.parent or node)
        if reason == PARALLEL and layer is not None:
            beside.setdefault(layer, []).append(node.made_by)
        else:
            left_out[name] = reason
    chosen = tuple(
        replace(
            own,
            counted_with=(*map(layer_name, beside.get(own.name, ())), *own.counted_with),
            beside=tuple(place.module for place in beside.get(own.name, ())),
        )
        for own in layers
    )
    return Layers(chosen, chosen[-1], left_out)


def _check_readable(model: nn.Module, logits: Node) -> None:
    """Raise ValueError where the main path is multiplied by weights between the layers found."""
    for node in logits.history():
        if node.weights:
            before = next((own.made_by for own in node.history() if own.made_by), None)
            names = [name for name, own in model.named_parameters() if id(own) in node.weights]
            raise ValueError(
                f"the network multiplies by {' and '.join(names[:2])} outside of any module that could "
                f"be read, after {layer_name(before) if before else 'its input'}; do it in the forward "
                "pass of a module of its own, or name the layers to look at with layers=[...]"
            )


def _representation(following: list[Node]) -> tuple[Place, Node]:
    """The last tensor before trailing operations, or the next one that can be read."""
    last = next(i for i, node in enumerate(following) if node.operation not in TRAILING)
    candidates = [*following[last::-1], following[-1]]
    return next((node.places[0], node) for node in candidates if node.places)


def _layer(
    model: nn.Module, output: Place, representation: Place, read: Node, otherwise: Kind = "module"
) -> Layer:
    """The layer of a module's call, whose representation was read with that node.

    otherwise: its kind, where it is none of torch's weight modules.
    """
    module = model.get_submodule(output.module)
    kind = kind_of(module, otherwise)
    return Layer(
        name=layer_name(output),
        module=output.module,
        call=output.call,
        kind=kind,
        representation=representation,
        channels_last=channels_last(model, kind, module, read),
    )


def _match(patterns: Sequence[str], names: list[str]) -> set[str]:
    if isinstance(patterns, str) or not patterns:
        raise ValueError(f"layers is {patterns!r}; it must be a list of names or patterns")
    matched: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            close = difflib.get_close_matches(pattern, names, n=5, cutoff=0.4) or names[:5]
            raise ValueError(
                f"layers has {pattern!r}, which matches no module that the network runs; close names "
                f"are {', '.join(close)}"
            )
        matched.update(found)
    return matched
