"""Batched deep unconstrained feature models (UFM), with free features and weights.

The logits of a run are W_D phi(W_{D-1} ... phi(W_1 h)) with a free feature vector h per sample and phi
the identity or ReLU. `depth` D is the number of weight matrices (as in Sukenik, Mondelli and Lampert,
2023), so without bias the logits are homogeneous of degree L = D + 1 in the parameters. The objective
of a run is its mean loss at its temperature, plus half the decay times the squared norm of each factor
(weights and features; biases and temperatures are not decayed).

All runs have the same shape and may differ in seed, temperature, targets, decay and learning rate.
The parameters of a run are one row of a (runs, parameters) tensor.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from rankdeficit.checks import check_runs, check_temperature_in
from rankdeficit.softmax import MeanLoss, check_targets, cross_entropy, softmax_mse
from rankdeficit.toys.ufm.shape import UfmShape

Loss = Literal["ce", "mse"]


class DeepUfm:
    """A batch of deep UFM runs, with explicit gradients by batched matrix products.

    shape: shape of every run.
    parameters: (runs, parameters), updated in place by the optimiser.
    temperatures: (runs,), the softmax temperature of each run, at the start if it is learnt.
    loss: "ce" (cross-entropy) or "mse" (softmax-MSE), at the temperature of the run; or a function of
        logits (rows, classes), targets and a temperature that gives the mean over rows of a loss of
        each, whose gradient in the logits is autograd's.
    weight_decay, feature_decay: lambda >= 0, a number or (runs,) [feature_decay default: weight_decay].
    targets: label of each sample, or its distribution over the classes, the same in all runs or
        (runs, n, classes) [default: the class of the sample].
    Raises ValueError for arguments outside these ranges or of the wrong shape.
    """

    def __init__(
        self,
        shape: UfmShape,
        parameters: Float[Tensor, "runs parameters"],
        temperatures: Float64[Tensor, " runs"],
        *,
        loss: Loss | MeanLoss = "ce",
        weight_decay: float | Float64[Tensor, " runs"] = 0.0,
        feature_decay: float | Float64[Tensor, " runs"] | None = None,
        targets: Int64[Tensor, " n"]
        | Float64[Tensor, "n classes"]
        | Float64[Tensor, "runs n classes"]
        | None = None,
    ) -> None:
        if not callable(loss) and loss not in ("ce", "mse"):
            raise ValueError(f"loss is {loss!r}; it must be 'ce', 'mse' or a function")
        if callable(loss) and shape.learn_temperature:
            raise ValueError(
                "learn_temperature needs the loss 'ce' or 'mse'; with a function leave it out"
            )
        check_runs(parameters, temperatures, shape.parameter_count)
        self.shape, self.loss = shape, loss
        self.parameters = parameters
        self.gradient = torch.zeros_like(parameters)
        self.factors = shape.unpack(parameters)
        self.set_temperatures(temperatures)
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
        """Set the softmax temperature of each run, for schedules; the start of one that is learnt."""
        check_temperature_in(temperatures, self.parameters.dtype)
        self._start = temperatures.to(self.parameters.device)
        self._T = temperatures.to(self.parameters)[:, None, None]

    @property
    def temperatures(self) -> Float64[Tensor, " runs"]:
        """Softmax temperature of each run."""
        learnt = self.factors.log_temperatures
        return self._start if learnt is None else self._start * learnt.flatten().double().exp()

    def logits(self) -> Float[Tensor, "runs n classes"]:
        """Logits of all samples, in a buffer that the next call overwrites."""
        weights, biases, inputs, _ = self.factors
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
        weights, _, features, _ = self.factors
        weight_slopes, bias_slopes, feature_slopes, temperature_slopes = self._slopes
        self.logits()
        self._compute_logits_error()
        if temperature_slopes is not None:  # the loss depends on logits / T alone
            products = self._logits_error * self._logits
            temperature_slopes.copy_(-products.sum(dim=(1, 2), keepdim=True))
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
        if callable(self.loss):
            temperatures = self.temperatures.tolist()
            return torch.stack(
                [
                    self.loss(own, self._targets_of(run, torch.float64), temperatures[run])
                    for run, own in enumerate(logits.double())
                ]
            )
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
        if callable(self.loss):
            self._logits_error.copy_(self._error_by_autograd(self.loss).mT)
            return
        T, learnt = self._T, self.factors.log_temperatures
        T = T if learnt is None else T * learnt.exp()
        p = torch.softmax(self._logits / T, dim=1)
        if self.loss == "ce":
            self._subtract_targets(p)
            torch.div(p, self.shape.samples * T, out=self._logits_error)
        else:
            error = p.clone()
            self._subtract_targets(error)
            error -= (error * p).sum(dim=1, keepdim=True)
            torch.mul(p, error * (2 / (self.shape.samples * T)), out=self._logits_error)

    @torch.enable_grad()
    def _error_by_autograd(self, loss: MeanLoss) -> Float[Tensor, "runs n classes"]:
        """Gradient of each run's mean loss with respect to its logits, in one call per temperature."""
        logits = self._logits.mT.detach().requires_grad_()
        total = logits.new_zeros(())
        temperatures = self.temperatures
        for T in temperatures.unique().tolist():
            runs = (temperatures == T).nonzero().flatten().tolist()
            rows = torch.cat([logits[run] for run in runs])
            targets = torch.cat([self._targets_of(run, logits.dtype) for run in runs])
            total = total + len(runs) * loss(rows, targets, T)
        (error,) = torch.autograd.grad(total, logits)
        return error

    def _targets_of(
        self, run: int, dtype: torch.dtype
    ) -> Int64[Tensor, " n"] | Float[Tensor, "n classes"]:
        """Labels of a run, or their distributions, converted to the dtype."""
        if self._targets is None:
            return self.shape.labels(self.parameters.device)
        return self._targets[run % len(self._targets)].mT.to(dtype)

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
        """The targets as probabilities (1 or runs, classes, n), in the parameters' dtype and device."""
        sizes: tuple[int, ...] = (self.shape.samples, self.shape.classes)
        if targets.is_floating_point() and targets.dim() == 3:
            sizes = (len(self.parameters), *sizes)
        check_targets(targets, self.parameters.new_zeros(sizes))
        if not targets.is_floating_point():
            targets = torch.nn.functional.one_hot(targets, self.shape.classes)
        if targets.dim() == 2:
            targets = targets[None]
        return targets.to(self.parameters).mT.contiguous()

    def _decayed(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.shape.weight_count
        features = self.shape.samples * self.shape.width
        return parameters[:, :weights], parameters[:, weights : weights + features]

    def _per_run(self, decay: float | Tensor, name: str) -> Tensor | None:
        """Decay as a (runs, 1) column, or None if it is zero for all runs."""
        column = torch.as_tensor(decay, dtype=torch.float64).expand(self.parameters.shape[0])
        for value in column.unique().tolist():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value:g}; it must be finite and not negative")
        return column[:, None].to(self.parameters) if bool(column.any()) else None
