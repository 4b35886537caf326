"""Batched multi-layer perceptrons on data, with gradients by autograd.

`depth` D is the number of weight matrices. A hidden layer is a linear map, an optional normalisation
without parameters, and the activation. The parameters of a run are one row of a (runs, parameters)
tensor, as in `toys.ufm`. Linear and ReLU networks without bias or normalisation are homogeneous of
degree D.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional

from rankdeficit.checks import (
    check_at_least,
    check_not_empty,
    check_positive,
    check_runs,
    check_temperature_in,
)

Activation = Literal["relu", "linear", "tanh"]
Normalisation = Literal["none", "layer", "rms", "batch"]
Initialisation = Literal["he", "lecun", "xavier", "orthogonal", "small-head"]
Loss = Literal["ce", "mse"]
SMALL_HEAD = 1e-12
EPSILON = 1e-5
"""Constant added to the variance in normalisations."""


@dataclass(frozen=True)
class MlpShape:
    """Shape of a multi-layer perceptron.

    normalisation: applied in each hidden layer before the activation, over the units ("layer", "rms") or
        over the samples of the batch ("batch").
    norm_logits: normalise the logits as well, by the same method ("layer" for "none").
    Raises ValueError for sizes that are too small and for unknown names.
    """

    inputs: int
    classes: int
    width: int
    depth: int
    activation: Activation = "relu"
    bias: bool = False
    normalisation: Normalisation = "none"
    norm_logits: bool = False

    def __post_init__(self) -> None:
        check_at_least(2, classes=self.classes)
        check_at_least(1, inputs=self.inputs, width=self.width, depth=self.depth)
        for name, value, known in (
            ("activation", self.activation, Activation),
            ("normalisation", self.normalisation, Normalisation),
        ):
            if value not in known.__args__:  # type: ignore[attr-defined]
                raise ValueError(f"{name} is {value!r}; it must be one of {known.__args__}")  # type: ignore[attr-defined]

    @property
    def weight_shapes(self) -> list[tuple[int, int]]:
        """(out, in) of each weight matrix, first layer first."""
        sizes = [self.inputs, *[self.width] * (self.depth - 1), self.classes]
        return [(after, before) for before, after in pairwise(sizes)]

    @property
    def parameter_count(self) -> int:
        """Number of parameters of a run, in the order weights, biases."""
        weights = sum(rows * columns for rows, columns in self.weight_shapes)
        return weights + (sum(rows for rows, _ in self.weight_shapes) if self.bias else 0)

    def unpack(
        self, parameters: Float[Tensor, "runs parameters"]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Views of the weights (runs, out, in) and biases (runs, 1, out); no biases without `bias`."""
        shapes = list(self.weight_shapes)
        if self.bias:
            shapes += [(1, rows) for rows, _ in self.weight_shapes]
        parts = parameters.split([rows * columns for rows, columns in shapes], dim=1)
        views = [
            part.view(parameters.shape[0], *shape)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        return views[: self.depth], views[self.depth :]


def initial_parameters(
    shape: MlpShape,
    seeds: Sequence[int],
    scheme: Initialisation = "he",
    scale: float = 1.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "runs parameters"]:
    """Random weights of each run, drawn on the CPU from its own seed; biases are zero.

    scheme: Gaussian weights of standard deviation sqrt(2 / in) ("he"), 1/sqrt(in) ("lecun") or
        sqrt(2 / (in + out)) ("xavier"); orthonormal rows or columns ("orthogonal"); or "he" with the last
        layer uniform in +-1e-12, as in contrastive reinforcement learning ("small-head").
    scale: factor on all weights.
    Raises ValueError without seeds, for an unknown scheme, and unless the scale is positive and finite.
    """
    check_not_empty(seeds=seeds)
    check_positive(init_scale=scale)
    if scheme not in Initialisation.__args__:  # type: ignore[attr-defined]
        raise ValueError(f"init is {scheme!r}; it must be one of {Initialisation.__args__}")  # type: ignore[attr-defined]
    parameters = torch.zeros(len(seeds), shape.parameter_count, dtype=torch.float64)
    weights, _ = shape.unpack(parameters)
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        for layer, weight in enumerate(weights):
            head = layer == shape.depth - 1
            weight[i] = scale * _draw(weight[i].shape, scheme, head, generator)
    return parameters.to(device, dtype)


def _draw(
    size: torch.Size, scheme: Initialisation, head: bool, generator: torch.Generator
) -> Tensor:
    out, fan_in = size
    gaussian = torch.randn(size, dtype=torch.float64, generator=generator)
    if scheme == "orthogonal":
        tall = gaussian if out >= fan_in else gaussian.mT
        frame = torch.linalg.qr(tall)[0]
        return frame if out >= fan_in else frame.mT
    if scheme == "small-head" and head:
        return SMALL_HEAD * (2 * torch.rand(size, dtype=torch.float64, generator=generator) - 1)
    variance = {"lecun": 1 / fan_in, "xavier": 2 / (fan_in + out)}.get(scheme, 2 / fan_in)
    return math.sqrt(variance) * gaussian


class Layers(NamedTuple):
    """Result of a forward pass: the input of each weight matrix and the logits."""

    inputs: list[Float[Tensor, "runs n width"]]
    logits: Float[Tensor, "runs n classes"]


class BatchedMlp:
    """A batch of runs on labelled samples, each at its own temperature.

    parameters: (runs, parameters), updated in place by the optimiser; `compute_gradient` writes the
        gradient to `gradient`.
    temperatures: (runs,), the softmax temperature of each run.
    loss: "ce" (cross-entropy) or "mse" (softmax-MSE).
    weight_decay: lambda >= 0 on the weights, a number or (runs,). Biases are not decayed.
    label_smoothing: weight in [0, 1) of the uniform distribution in the targets (cross-entropy only).
    Raises ValueError for arguments outside these ranges.
    """

    def __init__(
        self,
        shape: MlpShape,
        parameters: Float[Tensor, "runs parameters"],
        temperatures: Float64[Tensor, " runs"],
        *,
        loss: Loss = "ce",
        weight_decay: float | Float64[Tensor, " runs"] = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        if loss not in ("ce", "mse"):
            raise ValueError(f"loss is {loss!r}; it must be 'ce' or 'mse'")
        check_runs(parameters, temperatures, shape.parameter_count)
        check_temperature_in(temperatures, parameters.dtype)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; it must lie in [0, 1)")
        decay = torch.as_tensor(weight_decay, dtype=torch.float64).expand(parameters.shape[0])
        if not bool(((decay >= 0) & decay.isfinite()).all()):
            raise ValueError(f"weight_decay is {weight_decay}; it must be finite and not negative")
        self.shape, self.loss, self.label_smoothing = shape, loss, label_smoothing
        self.parameters = parameters
        self.gradient = torch.zeros_like(parameters)
        self.temperatures = temperatures.to(parameters.device)
        self._decay = decay[:, None].to(parameters)

    def forward(
        self, x: Float[Tensor, "#runs n inputs"], parameters: Tensor | None = None
    ) -> Layers:
        """Layer inputs and logits of samples x, which all runs share if the first axis is 1."""
        weights, biases = self.shape.unpack(self.parameters if parameters is None else parameters)
        inputs, hidden = [], x.to(weights[0].dtype).expand(weights[0].shape[0], -1, -1)
        for layer, weight in enumerate(weights):
            inputs.append(hidden)
            hidden = torch.matmul(hidden, weight.mT)
            if biases:
                hidden = hidden + biases[layer]
            last = layer == self.shape.depth - 1
            if not last:
                hidden = _activate(
                    _normalise(hidden, self.shape.normalisation), self.shape.activation
                )
            elif self.shape.norm_logits:
                kind = self.shape.normalisation
                hidden = _normalise(hidden, "layer" if kind == "none" else kind)
        return Layers(inputs, hidden)

    def data_loss(
        self,
        x: Float[Tensor, "#runs n inputs"],
        labels: Int64[Tensor, "#runs n"],
        parameters: Tensor | None = None,
    ) -> Float[Tensor, " runs"]:
        """Mean loss of each run over samples, differentiable in `parameters`."""
        return self._loss(self.forward(x, parameters).logits, labels)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        scaled = logits / self.temperatures.to(logits)[:, None, None]
        labels = labels.expand(scaled.shape[:-1])
        if self.loss == "mse":
            truth = functional.one_hot(labels, self.shape.classes).to(scaled)
            return (scaled.softmax(dim=-1) - truth).square().sum(dim=-1).mean(dim=-1)
        log_p = scaled.log_softmax(dim=-1)
        own = log_p.gather(-1, labels[..., None])[..., 0]
        smooth = self.label_smoothing
        return -((1 - smooth) * own + smooth * log_p.mean(dim=-1)).mean(dim=-1)

    def compute_gradient(
        self, x: Float[Tensor, "#runs n inputs"], labels: Int64[Tensor, "#runs n"]
    ) -> None:
        """Write the gradient of each run's loss, including weight decay, into `gradient`."""
        parameters = self.parameters.detach().requires_grad_()
        loss = self.data_loss(x, labels, parameters).sum()
        (gradient,) = torch.autograd.grad(loss, parameters)
        self.gradient.copy_(gradient)
        weights = sum(rows * columns for rows, columns in self.shape.weight_shapes)
        self.gradient[:, :weights].addcmul_(self.parameters[:, :weights], self._decay)

    def weight_gradients(
        self, x: Float[Tensor, "#runs n inputs"], labels: Int64[Tensor, "#runs n"]
    ) -> list[Float[Tensor, "runs out in"]]:
        """Gradient of the data loss with respect to each weight matrix, without weight decay."""
        parameters = self.parameters.detach().requires_grad_()
        loss = self.data_loss(x, labels, parameters).sum()
        return self.shape.unpack(torch.autograd.grad(loss, parameters)[0])[0]


def module_of(shape: MlpShape, parameters: Float[Tensor, " parameters"]) -> nn.Sequential:
    """One run as a module, with a copy of its parameters.

    Raises ValueError for normalisations, which differ from those of torch in their training.
    """
    if shape.normalisation != "none" or shape.norm_logits:
        raise ValueError("shape has a normalisation; modules of it have none")
    weights, biases = shape.unpack(parameters[None])
    activations = {"relu": nn.ReLU, "linear": nn.Identity, "tanh": nn.Tanh}
    parts: list[nn.Module] = []
    for layer, weight in enumerate(weights):
        linear = nn.Linear(weight.shape[2], weight.shape[1], shape.bias, device="meta")
        linear.weight = nn.Parameter(weight[0].detach().clone())
        if biases:
            linear.bias = nn.Parameter(biases[layer][0, 0].detach().clone())
        parts += [linear, activations[shape.activation]()]
    return nn.Sequential(*parts[:-1])


def _activate(values: Tensor, activation: Activation) -> Tensor:
    if activation == "linear":
        return values
    return values.relu() if activation == "relu" else values.tanh()


def _normalise(values: Float[Tensor, "runs n width"], kind: Normalisation) -> Tensor:
    if kind == "none":
        return values
    if kind == "rms":
        return values * (values.square().mean(dim=-1, keepdim=True) + EPSILON).rsqrt()
    axis = -1 if kind == "layer" else -2
    centred = values - values.mean(dim=axis, keepdim=True)
    return centred * (centred.square().mean(dim=axis, keepdim=True) + EPSILON).rsqrt()


def gaussian_clusters(
    classes: int,
    samples_per_class: int,
    inputs: int,
    separation: float,
    seed: int,
    *,
    clusters_per_class: int = 1,
    dtype: torch.dtype = torch.float32,
) -> tuple[Float[Tensor, "n inputs"], Int64[Tensor, " n"]]:
    """Samples x = separation * mean + noise, sorted by class, with one or more clusters per class.

    Means and noise are Gaussian with expected squared norm 1, so a larger separation is easier.
    Raises ValueError unless the counts are positive, classes >= 2, and the separation is positive.
    """
    check_at_least(1, samples_per_class=samples_per_class, inputs=inputs)
    check_at_least(1, clusters_per_class=clusters_per_class)
    check_at_least(2, classes=classes)
    check_positive(separation=separation)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(samples_per_class)
    size = (classes, clusters_per_class, inputs)
    means = torch.randn(size, dtype=torch.float64, generator=generator) / math.sqrt(inputs)
    which = torch.randint(clusters_per_class, labels.shape, generator=generator)
    noise = torch.randn(len(labels), inputs, dtype=torch.float64, generator=generator)
    x = separation * means[labels, which] + noise / math.sqrt(inputs)
    return x.to(dtype), labels
