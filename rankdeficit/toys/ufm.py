"""Batched deep unconstrained feature models (UFM), with free features and weights.

The logits of a run are W_D phi(W_{D-1} ... phi(W_1 h)) with a free feature vector h per sample and phi
the identity or ReLU. `depth` D is the number of weight matrices (as in Sukenik, Mondelli and Lampert,
2023), so without bias the logits are homogeneous of degree L = D + 1 in the parameters. The objective
of a run is its mean loss at its temperature, plus half the decay times the squared norm of each factor
(weights and features; biases are not decayed).

All runs have the same shape and may differ in seed, temperature, decay and learning rate. The
parameters of a run are one row of a (runs, parameters) tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from rankdeficit.checks import (
    check_at_least,
    check_not_empty,
    check_positive,
    check_runs,
    check_temperature_in,
)
from rankdeficit.softmax import check_targets, cross_entropy, softmax_mse

Activation = Literal["linear", "relu"]
Loss = Literal["ce", "mse"]


class Factors(NamedTuple):
    """Views of the parameters: weights W_1 .. W_D (runs, out, in), biases (runs, 1, out) and features."""

    weights: list[Tensor]
    biases: list[Tensor]
    features: Float[Tensor, "runs n width"]


@dataclass(frozen=True)
class UfmShape:
    """Shape of a deep UFM with samples sorted by class.

    counts: samples of each class, for classes of unequal size, instead of `samples_per_class`.
    """

    classes: int
    samples_per_class: int
    width: int
    depth: int
    activation: Activation = "linear"
    bias: bool = False
    counts: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_at_least(2, classes=self.classes)
        if self.counts is not None:
            if len(self.counts) != self.classes:
                raise ValueError(
                    f"counts has {len(self.counts)} numbers; it must have one for each of "
                    f"{self.classes} classes"
                )
            check_at_least(1, counts=min(self.counts))
        check_at_least(
            1, samples_per_class=self.samples_per_class, width=self.width, depth=self.depth
        )
        if self.activation not in ("linear", "relu"):
            raise ValueError(f"activation is {self.activation!r}; it must be 'linear' or 'relu'")

    @property
    def samples(self) -> int:
        """Number of samples n."""
        return self.classes * self.samples_per_class if self.counts is None else sum(self.counts)

    @property
    def weight_shapes(self) -> list[tuple[int, int]]:
        """(out, in) of each weight matrix, first layer first."""
        sizes = [self.width] * self.depth + [self.classes]
        return [(after, before) for before, after in pairwise(sizes)]

    @property
    def weight_count(self) -> int:
        """Number of weights of a run."""
        return sum(rows * columns for rows, columns in self.weight_shapes)

    @property
    def parameter_count(self) -> int:
        """Number of parameters of a run, in the order weights, features, biases."""
        biases = sum(rows for rows, _ in self.weight_shapes) if self.bias else 0
        return self.weight_count + self.samples * self.width + biases

    def labels(self, device: torch.device | str | None = None) -> Int64[Tensor, " n"]:
        """Class of each sample."""
        counts = self.counts or (self.samples_per_class,) * self.classes
        return torch.arange(self.classes).repeat_interleave(torch.tensor(counts)).to(device)

    def unpack(self, parameters: Float[Tensor, "runs parameters"]) -> Factors:
        """Views of a (runs, parameters) tensor, without copies."""
        runs = parameters.shape[0]
        shapes = [*self.weight_shapes, (self.samples, self.width)]
        if self.bias:
            shapes += [(1, rows) for rows, _ in self.weight_shapes]
        parts = parameters.split([rows * columns for rows, columns in shapes], dim=1)
        views = [part.view(runs, *shape) for part, shape in zip(parts, shapes, strict=True)]
        return Factors(views[: self.depth], views[self.depth + 1 :], views[self.depth])


def initial_parameters(
    shape: UfmShape,
    seeds: Sequence[int],
    scale: float = 1.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "runs parameters"]:
    """Random initialisation: weights N(0, scale^2 / fan_in), features N(0, scale^2), biases 0.

    Each run is drawn on the CPU in float64 from its own seed, so it does not depend on the batch, the
    device or the dtype. Raises ValueError without seeds, and unless scale is positive and finite.
    """
    check_not_empty(seeds=seeds)
    check_positive(init_scale=scale)
    generator = torch.Generator()
    rows = [
        torch.randn(
            shape.parameter_count, dtype=torch.float64, generator=generator.manual_seed(seed)
        )
        for seed in seeds
    ]
    parameters = scale * torch.stack(rows)
    factors = shape.unpack(parameters)
    for weight in factors.weights:
        weight /= weight.shape[-1] ** 0.5
    for bias in factors.biases:
        bias.zero_()
    return parameters.to(device, dtype)


class DeepUfm:
    """A batch of deep UFM runs, with explicit gradients by batched matrix products.

    shape: shape of every run.
    parameters: (runs, parameters), updated in place by the optimiser.
    temperatures: (runs,), the softmax temperature of each run.
    loss: "ce" (cross-entropy) or "mse" (softmax-MSE), at the temperature of the run.
    weight_decay, feature_decay: lambda >= 0, a number or (runs,) [feature_decay default: weight_decay].
    targets: label of each sample, or its distribution over the classes, the same in all runs
        [default: the class of the sample].
    Raises ValueError for arguments outside these ranges or of the wrong shape.
    """

    def __init__(
        self,
        shape: UfmShape,
        parameters: Float[Tensor, "runs parameters"],
        temperatures: Float64[Tensor, " runs"],
        *,
        loss: Loss = "ce",
        weight_decay: float | Float64[Tensor, " runs"] = 0.0,
        feature_decay: float | Float64[Tensor, " runs"] | None = None,
        targets: Int64[Tensor, " n"] | Float64[Tensor, "n classes"] | None = None,
    ) -> None:
        if loss not in ("ce", "mse"):
            raise ValueError(f"loss is {loss!r}; it must be 'ce' or 'mse'")
        check_runs(parameters, temperatures, shape.parameter_count)
        self.shape, self.loss = shape, loss
        self.parameters = parameters
        self.gradient = torch.zeros_like(parameters)
        self.set_temperatures(temperatures)
        self.factors = shape.unpack(parameters)
        self._slopes = shape.unpack(self.gradient)
        self._decays = [
            self._per_run(decay, "weight_decay" if i == 0 else "feature_decay")
            for i, decay in enumerate(
                (weight_decay, weight_decay if feature_decay is None else feature_decay)
            )
        ]
        n, runs = shape.samples, parameters.shape[0]
        self._hidden = [parameters.new_empty(runs, n, out) for out, _ in shape.weight_shapes[:-1]]
        self._errors = [torch.empty_like(hidden) for hidden in self._hidden]
        # Classes precede samples, as this makes the softmax over few classes many times faster.
        self._logits = parameters.new_empty(runs, shape.classes, n)
        self._logits_error = torch.empty_like(self._logits)
        self._targets = None if targets is None else self._checked_targets(targets)
        # torch.bmm multiplies small matrices one by one when its output is a strided view.
        self._weight_slopes = [torch.empty(w.shape).to(w) for w in self.factors.weights]
        self._feature_slopes = torch.empty(self.factors.features.shape).to(parameters)

    def set_temperatures(self, temperatures: Float64[Tensor, " runs"]) -> None:
        """Set the softmax temperature of each run, for temperature schedules."""
        check_temperature_in(temperatures, self.parameters.dtype)
        self.temperatures = temperatures.to(self.parameters.device)
        self._T = temperatures.to(self.parameters)[:, None, None]

    def logits(self) -> Float[Tensor, "runs n classes"]:
        """Logits of all samples, in a buffer that the next call overwrites."""
        weights, biases, inputs = self.factors
        for layer, output in enumerate(self._hidden):
            if biases:
                torch.baddbmm(biases[layer], inputs, weights[layer].mT, out=output)
            else:
                torch.bmm(inputs, weights[layer].mT, out=output)
            if self.shape.activation == "relu":
                output.relu_()
            inputs = output
        if biases:
            torch.baddbmm(biases[-1].mT, weights[-1], inputs.mT, out=self._logits)
        else:
            torch.bmm(weights[-1], inputs.mT, out=self._logits)
        return self._logits.mT

    def representations(self) -> list[Float[Tensor, "runs n width"]]:
        """Input of each weight matrix, features first, from the last call of `logits`."""
        return [self.factors.features, *self._hidden]

    def compute_gradient(self) -> None:
        """Recompute the logits and write the gradient of each run's objective into `gradient`."""
        weights, _, features = self.factors
        weight_slopes, bias_slopes, feature_slopes = self._slopes
        self.logits()
        self._compute_logits_error()
        error = self._logits_error.mT
        for layer in reversed(range(self.shape.depth)):
            inputs = self._hidden[layer - 1] if layer else features
            torch.bmm(error.mT, inputs, out=self._weight_slopes[layer])
            weight_slopes[layer].copy_(self._weight_slopes[layer])
            if bias_slopes:
                bias_slopes[layer].copy_(error.sum(dim=1, keepdim=True))
            below = self._errors[layer - 1] if layer else self._feature_slopes
            torch.bmm(error, weights[layer], out=below)
            if layer and self.shape.activation == "relu":
                # The ReLU derivative in one pass over memory, as in autograd.
                torch.ops.aten.threshold_backward.grad_input(below, inputs, 0, grad_input=below)
            error = below
        feature_slopes.copy_(self._feature_slopes)
        for decayed, slope, decay in zip(
            self._decayed(self.parameters), self._decayed(self.gradient), self._decays, strict=True
        ):
            if decay is not None:
                slope.addcmul_(decayed, decay)

    def data_loss(self, logits: Float[Tensor, "runs n classes"]) -> Float64[Tensor, " runs"]:
        """Mean loss of each run over samples, in float64; NaN for diverged runs."""
        function = cross_entropy if self.loss == "ce" else softmax_mse
        if self._targets is None:
            targets = self.shape.labels(logits.device).expand(logits.shape[:-1])
        else:
            targets = self._targets.double().mT.expand(logits.shape)
        losses = function(
            logits.double(), targets, self.temperatures[:, None], reduction="none", validate=False
        )
        return losses.mean(dim=-1)

    def objective(self) -> Float64[Tensor, " runs"]:
        """Data loss plus decay term of each run, in float64."""
        total = self.data_loss(self.logits())
        for decayed, decay in zip(self._decayed(self.parameters), self._decays, strict=True):
            if decay is not None:
                total = total + decay.squeeze(-1) / 2 * decayed.double().square().sum(dim=-1)
        return total

    def _compute_logits_error(self) -> None:
        """d(mean loss)/d(logits): (p - y)/(n T), or 2 p (e - <e, p>)/(n T) with e = p - y for MSE."""
        T = self._T
        p = torch.softmax(self._logits / T, dim=1)
        if self.loss == "ce":
            self._subtract_targets(p)
            torch.div(p, self.shape.samples * T, out=self._logits_error)
        else:
            error = p.clone()
            self._subtract_targets(error)
            error -= (error * p).sum(dim=1, keepdim=True)
            torch.mul(p, error * (2 / (self.shape.samples * T)), out=self._logits_error)

    def _subtract_targets(self, values: Tensor) -> None:
        """Subtract the targets from probabilities (runs, classes, n), in place."""
        shape = self.shape
        if self._targets is not None:
            values.sub_(self._targets)
        elif shape.counts is None:  # a view of each sample's true class
            blocks = values.view(-1, shape.classes, shape.classes, shape.samples_per_class)
            blocks.diagonal(dim1=1, dim2=2).sub_(1)
        else:
            labels = shape.labels(values.device)
            values[:, labels, torch.arange(len(labels), device=labels.device)] -= 1

    def _checked_targets(self, targets: Tensor) -> Tensor:
        """The targets as probabilities (1, classes, n), with the parameters' precision and device."""
        like = self.parameters.new_zeros(self.shape.samples, self.shape.classes)
        check_targets(targets, like)
        if not targets.is_floating_point():
            targets = torch.nn.functional.one_hot(targets, self.shape.classes)
        return targets.to(self.parameters).mT[None].contiguous()

    def _decayed(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.shape.weight_count
        features = self.shape.samples * self.shape.width
        return parameters[:, :weights], parameters[:, weights : weights + features]

    def _per_run(self, decay: float | Tensor, name: str) -> Tensor | None:
        """Decay as a (runs, 1) column, or None if it is zero for all runs."""
        column = torch.as_tensor(decay, dtype=torch.float64).expand(self.parameters.shape[0])
        if not bool(((column >= 0) & torch.isfinite(column)).all()):
            raise ValueError(f"{name} is {decay}; it must be finite and not negative")
        return column[:, None].to(self.parameters) if bool(column.any()) else None
