"""A network, whole or cut, with the statistics needed to project and factor it."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rankdeficit.control.compression.bases import (
    Basis,
    Method,
    activation_basis,
    magnitude_basis,
    read_basis,
    weight_basis,
)
from rankdeficit.control.compression.parts import Moments, OnProgress, Part, Runner, in_order
from rankdeficit.control.compression.structure import FACTORED, Edit, Factor, Narrow, restructured
from rankdeficit.diagnostics.reading.taps import undisturbed
from rankdeficit.diagnostics.reading.trace import first_value

Values = dict[str, Tensor]
"""Weights by name."""


@dataclass(frozen=True)
class Factorable:
    """A layer that can be split into two factors."""

    inputs: int
    """Columns of its weight matrix."""
    outputs: int
    basis: Basis

    def rank(self, threshold: float) -> int | None:
        """Rank at a threshold of the spectrum; None if two factors have no fewer parameters."""
        rank = self.basis.rank(threshold)
        smaller = rank * (self.inputs + self.outputs) < self.inputs * self.outputs
        return rank if smaller else None


@dataclass(frozen=True)
class Explored:
    """Inputs of the head for the exploring samples, in the order of `Runner.correct`."""

    features: Float[Tensor, "n features"]
    labels: Int64[Tensor, " n"]


@dataclass(frozen=True)
class Stage:
    """A network, whole or cut, that can be projected and factored."""

    model: nn.Module
    edits: tuple[Edit, ...]
    head: str
    narrowed: str | None
    """The layer whose number of outputs can be reduced, as only linear operations lie before the head."""
    features: Basis
    """Basis of the head's inputs."""
    layers: dict[str, Factorable]
    explored: Explored

    @property
    def linear(self) -> nn.Linear:
        """The head."""
        found = self.model.get_submodule(self.head)
        assert isinstance(found, nn.Linear)
        return found

    @property
    def width(self) -> int:
        """Number of features that the head reads."""
        return self.linear.in_features

    def correct(self, rank: int) -> Tensor:
        """Which exploring samples are classified correctly with features of this rank."""
        weight, bias = self.linear.weight.double(), self._head_bias(rank)
        leading = self.features.leading(rank)
        logits = self.explored.features.double() @ leading @ (weight @ leading).mT + bias
        return (logits.argmax(dim=1) == self.explored.labels).cpu()

    def ranks(self, threshold: float | None) -> dict[str, int]:
        """Ranks at a threshold of the layers whose factors have fewer parameters."""
        if threshold is None:
            return {}
        found = {name: layer.rank(threshold) for name, layer in self.layers.items()}
        return {name: rank for name, rank in found.items() if rank is not None}

    def compressed(
        self, rank: int | None, ranks: Mapping[str, int]
    ) -> tuple[nn.Module, tuple[Edit, ...]]:
        """The network with features of this rank and layers factored to these ranks."""
        edits: list[Edit] = []
        values: Values = {}
        if rank is not None:
            edits.append(self._project(rank, values))
        for name, factored in ranks.items():
            if not any(isinstance(own, Narrow) and own.module == name for own in edits):
                self._factor(name, self.layers[name].basis, factored, values)
                edits.append(Factor(name, factored))
        made = restructured(self.model, edits)
        state = made.state_dict()
        made.load_state_dict(
            {name: own.to(state[name]).reshape(state[name].shape) for name, own in values.items()},
            strict=False,
        )
        return made, (*self.edits, *edits)

    def _project(self, rank: int, values: Values) -> Edit:
        weight = self.linear.weight.double()
        leading = self.features.leading(rank)
        if self.narrowed is None:
            values[f"{self.head}.0.weight"] = leading.mT
            values[f"{self.head}.1.weight"] = weight @ leading
            values[f"{self.head}.1.bias"] = self._head_bias(rank)
            return Factor(self.head, rank)
        before = self.model.get_submodule(self.narrowed)
        matrix, bias = _matrix(before), _bias(before)
        values[f"{self.narrowed}.weight"] = leading.mT @ matrix
        values[f"{self.narrowed}.bias"] = leading.mT @ bias
        values[f"{self.head}.weight"] = weight @ leading
        values[f"{self.head}.bias"] = self._head_bias(rank)
        return Narrow(self.narrowed, self.head, rank)

    def _head_bias(self, rank: int) -> Tensor:
        """b + W (m - U U^T m)."""
        leading, origin = self.features.leading(rank), self.features.origin
        shift = origin - leading @ (leading.mT @ origin)
        return _bias(self.linear) + self.linear.weight.double() @ shift

    def _factor(self, name: str, basis: Basis, rank: int, values: Values) -> None:
        module = self.model.get_submodule(name)
        first, second, bias = basis.factors(_matrix(module), _bias(module), rank)
        values[f"{name}.0.weight"], values[f"{name}.1.weight"] = first, second
        values[f"{name}.1.bias"] = bias


def read_stage(
    model: nn.Module,
    edits: tuple[Edit, ...],
    head: str,
    runner: Runner,
    fit: Part,
    explore: Part,
    method: Method,
    *,
    factored: bool,
    narrowed: str | None = None,
    on_progress: OnProgress,
) -> Stage:
    """Make a stage with one pass over the fitting samples and one over the exploring samples."""
    names = _factorable(model, head) if factored else []
    moments = {name: Moments() for name in (head, *names)}
    called: set[str] = set()
    read: list[Tensor] = []

    def on_output(name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        called.add(name)
        if method == "activations":
            rows = output.movedim(1, -1) if isinstance(module, _ConvNd) else output
            moments[name].update(rows.reshape(-1, rows.shape[-1]))

    def on_head(module: nn.Module, args: Any, kwargs: Any) -> None:
        features = first_value((args, kwargs))
        assert isinstance(features, Tensor)
        read.append(features.detach())

    with ExitStack() as hooks:
        reader = model.get_submodule(head)
        hooks.callback(reader.register_forward_pre_hook(on_head, with_kwargs=True).remove)
        with ExitStack() as fitting, torch.no_grad(), undisturbed(model):
            for name in names:
                hook = partial(on_output, name)
                fitting.callback(model.get_submodule(name).register_forward_hook(hook).remove)
            for inputs, _ in runner.batches(fit, lambda done: on_progress("activations", done, 0)):
                runner.logits(model, inputs)
                moments[head].update(read.pop())
        explored = _explored(model, runner, explore, read)
    layers = {}
    for name in names:
        module = model.get_submodule(name)
        if name in called:
            matrix = _matrix(module)
            basis = _basis(method, moments[name], matrix, _bias(module))
            layers[name] = Factorable(matrix.shape[1], matrix.shape[0], basis)
    weight = _matrix(model.get_submodule(head))
    if method == "activations":
        features = read_basis(moments[head], weight)
    else:
        features = weight_basis(weight.mT) if method == "weights" else magnitude_basis(weight.mT)
    return Stage(model, edits, head, narrowed, features, layers, explored)


def _basis(method: Method, moments: Moments, weight: Tensor, bias: Tensor) -> Basis:
    """Basis of the layer's outputs without the bias."""
    if method == "activations":
        found = activation_basis(moments)
        return replace(found, origin=found.origin - bias)
    return weight_basis(weight) if method == "weights" else magnitude_basis(weight)


def _explored(model: nn.Module, runner: Runner, explore: Part, read: list[Tensor]) -> Explored:
    keys, targets, features = [], [], []
    with torch.no_grad(), undisturbed(model):
        for inputs, labels in runner.batches(explore):
            runner.logits(model, inputs)
            keys.append(inputs.keys().cpu())
            targets.append(labels)
            features.append(read.pop())
    labels = torch.cat(targets)
    order = in_order(torch.cat(keys), labels.cpu()).to(labels.device)
    return Explored(torch.cat(features)[order], labels[order])


def _factorable(model: nn.Module, head: str) -> list[str]:
    """Linear layers and ungrouped convolutions whose parameters no other module shares."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for own in module.parameters(recurse=False):
            owners[id(own)] = owners.get(id(own), 0) + 1
    return [
        name
        for name, module in model.named_modules()
        if type(module) in FACTORED
        and name not in ("", head)
        and getattr(module, "groups", 1) == 1
        and all(owners[id(own)] == 1 for own in module.parameters(recurse=False))
    ]


def _matrix(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().double().flatten(1)


def _bias(module: nn.Module) -> Tensor:
    bias, weight = module.bias, module.weight
    assert isinstance(weight, Tensor)
    return (
        bias.detach().double()
        if isinstance(bias, Tensor)
        else weight.new_zeros(len(weight)).double()
    )
