"""The path from a network's input to its logits, traced through one forward pass.

No cooperation of the network is needed: hooks on its modules say where tensors can be read, a dispatch
mode sees every operation between them, functional ones (F.relu, +) and in-place ones included.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rankdeficit.diagnostics.reading.axes import permutation
from rankdeficit.diagnostics.reading.inputs import Inputs
from rankdeficit.diagnostics.reading.tokens import Value, data_of

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
WEIGHT_MODULES = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention, *RECURRENT)
"""Modules that count as weight layers; an attention block of torch is one layer, an RNN too."""

GATED = "mul"
"""Products may be gates (squeeze-and-excitation): the larger factor, and the one that the other is made
from, goes on."""


LINEAR = frozenset(
    "mul div neg view _unsafe_view reshape _reshape_copy flatten permute transpose t unsqueeze squeeze "
    "expand clone detach alias _to_copy".split()
)
"""Operations that are linear in the only tensor they read that depends on the input."""

SELECTIONS = frozenset(["index", "index_select"])
"""Operations that take parts of their first tensor, by the indices in the others."""

PRODUCTS = frozenset(
    "mm addmm _addmm_activation bmm baddbmm addbmm mv addmv _grouped_mm convolution linear".split()
)
"""Operations that multiply by a weight matrix, if one of their inputs is made of parameters alone."""


@dataclass(frozen=True)
class Place:
    """Where a tensor can be read: the first tensor that a module's call takes or returns."""

    module: str
    """Name within the network; empty for the network itself."""
    call: int
    """Which of the module's calls in one forward pass, from 0."""
    side: Literal["input", "output"]


@dataclass(eq=False)
class Node:
    """A tensor of the forward pass, at the moment it was made."""

    operation: str
    """Name of torch's operation, `weight` for the output of a weight layer, `input` for the input."""
    parent: "Node | None" = None
    """The tensor it was made from, on the path with the most weight layers."""
    parents: tuple["Node", ...] = ()
    """All tensors it was made from that depend on the input, the parent included."""
    depth: int = 0
    """Weight layers on that path."""
    shape: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()
    """Which axis of the parent each axis is, where the operation permutes them."""
    made_by: Place | None = None
    """The weight layer's output, where it is one."""
    weights: frozenset[int] = frozenset()
    """Identities of the parameters that the operation multiplied by, itself or what is made of them."""
    selected: frozenset[int] = frozenset()
    """Identities of the parameters that it is a part of, chosen by what layers computed (experts)."""
    places: list[Place] = field(default_factory=list)

    @property
    def mixes(self) -> bool:
        """Whether it is a product of tensors that both depend on the input, as in attention."""
        product = self.operation in PRODUCTS or "attention" in self.operation
        return product and sum(not own.selected for own in self.parents) > 1

    def history(self) -> "Iterator[Node]":
        """The tensor and those it was made from, back to the input."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


@dataclass(frozen=True)
class Trace:
    """One forward pass."""

    logits: Node
    """Its parents lead back to the input."""
    places: dict[Place, Node]
    """What was read at each place that depends on the input, in order of execution."""
    weights: list[Node]
    """Outputs of all calls of weight layers, on the path to the logits or not."""


Visit = Callable[[Place, Value], None]


@contextmanager
def visiting(
    model: nn.Module,
    visit: Visit,
    places: frozenset[Place] | None = None,
    visit_rest: Visit | None = None,
) -> Iterator[None]:
    """Show `visit` what modules take and return, while the context is open.

    places: where to look; everywhere by default. visit_rest: is shown the further tensors that a module
    returns, such as the last state of an RNN. The hooks are gone afterwards, whatever happens. A
    module called several times in one forward pass is told apart by `Place.call`.
    """
    modules = None if places is None else {place.module for place in places}
    hooks = _Hooks(visit, places, visit_rest)
    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(hooks.begin, prepend=True).remove)
        for name, module in model.named_modules():
            if modules is None or name in modules:
                before, after = partial(hooks.before, name), partial(hooks.after, name)
                handle = module.register_forward_pre_hook(before, with_kwargs=True)
                stack.callback(handle.remove)
                stack.callback(module.register_forward_hook(after).remove)
        yield


@dataclass
class _Hooks:
    """The hooks of one `visiting`, which share the number of calls of each module so far."""

    visit: Visit
    places: frozenset[Place] | None
    visit_rest: Visit | None
    calls: Counter[str] = field(default_factory=Counter)

    def begin(self, _: nn.Module, args: Any) -> None:
        self.calls.clear()

    def before(self, name: str, _: nn.Module, args: Any, kwargs: Any) -> None:
        self._show(Place(name, self.calls[name], "input"), (args, kwargs))

    def after(self, name: str, _: nn.Module, args: Any, output: Any) -> None:
        self.calls[name] += 1
        place = Place(name, self.calls[name] - 1, "output")
        self._show(place, output)
        if self.visit_rest is not None:
            for value in floating_values(output)[1:]:
                self.visit_rest(place, value)

    def _show(self, place: Place, values: Any) -> None:
        if self.places is None or place in self.places:
            value = first_value(values)
            if value is not None:
                self.visit(place, value)


def trace(model: nn.Module, inputs: Inputs, select: Callable[[Any], Tensor]) -> Trace:
    """Run one forward pass and follow what depends on the input.

    select: picks the logits from what the network returns. Where branches meet, the parent is the
    branch with more weight layers: shortcut projections are left out, and of equal branches the
    first counts. A module that multiplies by weights of its own, or by those of its children without
    calling them (Swin's attention), is a weight layer too. Raises ValueError where no operation leads
    from the input to the logits.
    """
    recorder = _Recorder({id(p) for p in model.parameters() if p.ndim >= 2})
    modules = dict(model.named_modules())
    places: dict[Place, Node] = {}
    weights: dict[Place, Node] = {}

    def multiplies_itself(name: str) -> bool:
        owners = [modules[name]]
        for key, child in modules[name].named_children():
            called = Place(f"{name}.{key}" if name else key, 0, "output") in places
            owners += [child] if isinstance(child, WEIGHT_MODULES) and not called else []
        return any(recorder.multiplied(p) for own in owners for p in own.parameters(recurse=False))

    def visit(place: Place, value: Value) -> None:
        tensor = data_of(value)
        node = recorder.node(tensor)
        before = places.get(Place(place.module, place.call, "input"))
        if place.side == "output" and before is not None:
            uncounted = node is not None and node.depth == before.depth and place.module
            if isinstance(modules[place.module], WEIGHT_MODULES) or (
                uncounted and multiplies_itself(place.module)
            ):
                inner = (before,) if node is None else (before, node)
                shape, depth = tuple(tensor.shape), before.depth + 1
                node = Node("weight", before, inner, depth, shape, made_by=place)
                recorder.record(tensor, node)
                weights[place] = node
        if node is not None:
            node.places.append(place)
            places[place] = node

    def visit_rest(place: Place, value: Value) -> None:
        if place in weights:
            recorder.record(data_of(value), weights[place])

    for tensor in inputs.tensors:
        recorder.record(tensor, Node("input", shape=tuple(tensor.shape)))
    with torch.no_grad(), visiting(model, visit, visit_rest=visit_rest), recorder:
        logits = select(inputs.run(model))
    end = recorder.node(logits)
    if end is None or end.depth == 0:
        raise ValueError(
            "no path of convolutions or linear layers leads from the input to the logits; name the "
            "layers to look at with layers=[...], or pass the part of the model that is a network"
        )
    return Trace(end, places, list(weights.values()))


def adapts(branch: Node, *beside: Node) -> bool:
    """Whether a branch is a low-rank update of the one weight layer beside it, as LoRA adds to W x.

    Both read the same tensor; the branch is linear, through several weight layers and fewer numbers than
    its input and output have.
    """
    layer = next((own for own in _linear(beside[0]) if own.made_by), None) if beside else None
    if layer is None:
        return False
    made: list[Node] = []
    for node in _linear(branch):
        if node is layer:
            return False
        if node is layer.parent:
            smallest = min((math.prod(own.shape) for own in made[1:]), default=math.inf)
            return smallest < min(math.prod(node.shape), math.prod(layer.shape))
        if node.made_by is not None:
            made.append(node)
    return False


def _linear(node: Node) -> Iterator[Node]:
    """The tensor and those that it is a linear function of, back to the first that is none."""
    for own in node.history():
        yield own
        single = own.made_by is not None or len(own.parents) == 1
        if not (single and (own.made_by is not None or own.operation in LINEAR)):
            return


def first_value(values: Any) -> Value | None:
    """The first floating-point tensor or packed sequence in nested tuples, lists and dicts."""
    first = values
    while type(first) in (tuple, list) and first:
        first = first[0]
    if isinstance(first, Tensor) and first.is_floating_point():
        return first  # the usual case, without a search of the rest
    return next(iter(floating_values(values)), None)


def floating_values(values: Any) -> list[Value]:
    """The floating-point tensors and packed sequences in nested tuples, lists and dicts."""
    leaves = tree_leaves(values, is_leaf=lambda own: isinstance(own, PackedSequence))
    found = [own for own in leaves if isinstance(own, (Tensor, PackedSequence))]
    return [own for own in found if data_of(own).is_floating_point()]


class _Recorder(TorchDispatchMode):
    """Knows the node of every tensor made while it is active, and keeps these tensors alive."""

    def __init__(self, matrices: set[int]) -> None:
        """matrices: identities of the parameters that can be multiplied by."""
        super().__init__()
        self._matrices = matrices
        self._nodes: dict[int, tuple[Tensor, Node]] = {}
        self._origins: dict[int, tuple[Tensor, frozenset[int]]] = {}
        self._multiplied: set[int] = set()

    def multiplied(self, parameter: Tensor) -> bool:
        """Whether something made from the input was multiplied by this matrix, or by one made of it."""
        return id(parameter) in self._multiplied

    def node(self, tensor: Tensor) -> Node | None:
        """The tensor's node, if it depends on the input."""
        found = self._nodes.get(id(tensor))
        return found[1] if found else None

    def record(self, tensor: Tensor, node: Node) -> None:
        """Make it the tensor's node from now on: in-place operations change what a tensor is."""
        self._nodes[id(tensor)] = (tensor, node)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        found = [(x, node) for x in tensors if (node := self.node(x)) is not None]
        several = tuple(dict.fromkeys(node for _, node in found))
        values = [node for x, node in found if x.is_floating_point()]  # no masks, no indices
        parents = values or list(several)
        constants = [x for x in tensors if self.node(x) is None]
        origins = frozenset[int]().union(*map(self._origins_of, constants))
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket.__name__.rstrip("_")  # in place or not
        weights, selected = frozenset[int](), frozenset[int]()
        if operation in SELECTIONS and parents and self.node(tensors[0]) is None:
            computed = all(own.depth for own in parents)  # not looked up by ids among the inputs
            selected = origins if computed else selected
        elif operation in LINEAR and len(parents) == 1:
            selected = parents[0].selected
        data = [own for own in parents if not own.selected]
        if parents and operation in PRODUCTS:
            weights = origins.union(*(own.selected for own in parents if data))
        parents = data or parents
        self._multiplied |= weights
        for tensor in tree_leaves(result):
            if not isinstance(tensor, Tensor):
                continue
            if parents:
                parent, shape = _main_parent(operation, parents), tuple(tensor.shape)
                axes = permutation(operation, args, len(shape))
                node = Node(
                    operation, parent, several, parent.depth, shape, axes, None, weights, selected
                )
                self.record(tensor, node)
                if func.overloadpacket.__name__.endswith("_") and tensor._base is not None:
                    self.record(tensor._base, node)  # what a view of it was made into
            else:
                self._origins[id(tensor)] = tensor, origins
        return result

    def _origins_of(self, constant: Tensor) -> frozenset[int]:
        """The parameters that a tensor without the input's influence was made from."""
        found = self._origins.get(id(constant))
        return found[1] if found else frozenset([id(constant)]) & self._matrices


def _main_parent(operation: str, parents: list[Node]) -> Node:
    if operation == "add" and len(parents) == 2:
        adapted = [p for p in parents if not adapts(p, *(q for q in parents if q is not p))]
        parents = adapted or parents
    if operation == GATED:
        largest = max(torch.Size(p.shape).numel() for p in parents)
        parents = [p for p in parents if torch.Size(p.shape).numel() == largest]
        parents = [p for p in parents if not any(q in p.history() for q in parents if q is not p)]
    return max(parents, key=lambda parent: parent.depth)
