"""Shape, parameters and random initialisation of deep unconstrained feature models."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.checks import check_at_least, check_not_empty, check_positive

Activation = Literal["linear", "relu"]


class Factors(NamedTuple):
    """Views of the parameters: weights W_1 .. W_D (runs, out, in), biases (runs, 1, out) and features."""

    weights: list[Tensor]
    biases: list[Tensor]
    features: Float[Tensor, "runs n width"]
    log_temperatures: Float[Tensor, "runs 1 1"] | None
    """ln(T / T_0), with the initial temperature T_0; None unless temperatures are learnt."""


@dataclass(frozen=True)
class UfmShape:
    """Shape of a deep UFM with samples sorted by class.

    counts: samples of each class, for classes of unequal size, instead of `samples_per_class`.
    learn_temperature: train ln T too, one more parameter, from the temperature of each run on.
    """

    classes: int
    samples_per_class: int
    width: int
    depth: int
    activation: Activation = "linear"
    bias: bool = False
    counts: tuple[int, ...] | None = None
    learn_temperature: bool = False

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
        """Number of parameters of a run, in the order weights, features, biases, ln(T / T_0)."""
        biases = sum(rows for rows, _ in self.weight_shapes) if self.bias else 0
        return self.weight_count + self.samples * self.width + biases + self.learn_temperature

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
        if self.learn_temperature:
            shapes += [(1, 1)]
        parts = parameters.split([rows * columns for rows, columns in shapes], dim=1)
        views = [part.view(runs, *shape) for part, shape in zip(parts, shapes, strict=True)]
        log_temperatures = views.pop() if self.learn_temperature else None
        weights, features, *biases = views[: self.depth], *views[self.depth :]
        return Factors(weights, biases, features, log_temperatures)


def initial_parameters(
    shape: UfmShape,
    seeds: Sequence[int],
    scale: float = 1.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "runs parameters"]:
    """Random initialisation: weights N(0, scale^2 / fan_in), features N(0, scale^2), all else 0.

    Each run is drawn on the CPU in float64 from its own seed, so it does not depend on the batch, the
    device or the dtype. Raises ValueError without seeds, and unless scale is positive and finite.
    """
    check_not_empty(seeds=seeds)
    check_positive(init_scale=scale)
    generator = torch.Generator()
    drawn = shape.parameter_count - shape.learn_temperature
    rows = [
        torch.randn(drawn, dtype=torch.float64, generator=generator.manual_seed(seed))
        for seed in seeds
    ]
    parameters = torch.nn.functional.pad(
        scale * torch.stack(rows), (0, int(shape.learn_temperature))
    )
    factors = shape.unpack(parameters)
    for weight in factors.weights:
        weight /= weight.shape[-1] ** 0.5
    for bias in factors.biases:
        bias.zero_()
    return parameters.to(device, dtype)
