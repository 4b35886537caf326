"""Weight decay as heating: it holds for the two-factor model, not for two inputs of unequal length."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from rankdeficit.experiments.settings import Row
from rankdeficit.gibbs import effective_temperature
from rankdeficit.softmax import cross_entropy, softmax
from rankdeficit.toys.optima import decayed_margins, two_factor_optimum
from rankdeficit.toys.ufm import DeepUfm, UfmShape, initial_parameters
from simulations.gibbs.fits import minimise


class Minimum(NamedTuple):
    """End of a training."""

    logits: Float64[Tensor, "n c"]
    labels: Tensor
    objective: float
    squared_norm: float
    """Squared norm of all parameters that are decayed."""


def train_two_factors(
    shape: UfmShape, temperature: float, decay: float, seed: int, device: torch.device
) -> Minimum:
    """Minimise the two-factor unconstrained feature model from a random start, as wide as its logits."""
    start = initial_parameters(shape, [seed], dtype=torch.float64, scale=temperature**0.5)
    model = DeepUfm(
        shape,
        start.to(device),
        torch.tensor([temperature], dtype=torch.float64),
        weight_decay=decay,
    )

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        model.parameters.copy_(torch.from_numpy(point)[None])
        model.compute_gradient()
        return model.objective().item(), model.gradient[0].cpu().numpy().copy()

    model.parameters.copy_(
        torch.from_numpy(minimise(objective, start[0].numpy(), temperature))[None]
    )
    return Minimum(
        model.logits()[0].clone(),
        shape.labels(device),
        model.objective().item(),
        model.parameters.square().sum().item(),
    )


def two_factors(
    shape: UfmShape,
    temperature: float,
    decays: Sequence[float],
    seed: int,
    device: torch.device,
) -> Iterator[Row]:
    """One row per decay, ascending: the minimum beside its closed form in tau = T lambda sqrt(N)."""
    reference: Tensor | None = None
    for decay in decays:
        found = train_two_factors(shape, temperature, decay, seed, device)
        expected = two_factor_optimum(
            shape.classes, shape.samples_per_class, temperature, decay, decay
        )
        p = softmax(found.logits, temperature)
        own = torch.nn.functional.one_hot(found.labels, shape.classes).bool()
        wrong = (p - expected.wrong_probability).abs().masked_fill(own, 0.0).max()
        alive = expected.margin > 0  # beyond 1/c the logits are zero, at any temperature
        yield {
            "temperature": temperature,
            "decay": decay,
            "tau": temperature * decay * shape.samples_per_class**0.5,
            "objective": found.objective,
            "predicted_objective": expected.value,
            "wrong_probability_error": wrong.item(),
            **_described(found, temperature, reference if alive else None),
        }
        reference = found.logits if reference is None and alive else reference


def train_linear(
    lengths: Float64[Tensor, " n"], temperature: float, decay: float, seed: int
) -> tuple[Float64[Tensor, " n"], Minimum]:
    """Margins of a two-class linear classifier on orthogonal inputs of these lengths, and its minimum."""

    def loss(theta: Tensor) -> tuple[Tensor, Tensor]:
        margins = lengths * theta
        logits = torch.stack([margins, -margins], dim=-1) / 2
        labels = torch.zeros(len(margins), dtype=torch.long)
        penalty = decay / 2 * theta.square().sum()
        return logits, cross_entropy(logits, labels, temperature, validate=False) + penalty

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        theta = torch.from_numpy(point).requires_grad_()
        value = loss(theta)[1]
        value.backward()
        assert theta.grad is not None
        return value.item(), theta.grad.numpy()

    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(len(lengths), dtype=torch.float64, generator=generator)
    theta = torch.from_numpy(minimise(objective, start.numpy(), temperature))
    logits, value = loss(theta)
    labels = torch.zeros(len(lengths), dtype=torch.long)
    return lengths * theta, Minimum(logits, labels, value.item(), theta.square().sum().item())


def linear(
    lengths: Sequence[float], temperature: float, decays: Sequence[float], seed: int
) -> Iterator[Row]:
    """One row per decay, ascending: margins beside the exact ones, and the residual of heating."""
    sizes = torch.tensor(lengths, dtype=torch.float64)
    reference: Tensor | None = None
    first = decayed_margins(sizes, temperature, decays[0])
    for decay in decays:
        margins, found = train_linear(sizes, temperature, decay, seed)
        exact = decayed_margins(sizes, temperature, decay)
        pair = (torch.stack([m, -m], dim=-1) for m in (exact, first))
        yield {
            "temperature": temperature,
            "decay": decay,
            "effective_decay": decay * temperature**2,
            "margins": margins.tolist(),
            "margins_error": (margins / exact - 1).abs().max().item(),
            "predicted_residual": effective_temperature(*pair).residual.item(),
            **_described(found, temperature, reference),
        }
        reference = found.logits if reference is None else reference


def _described(found: Minimum, temperature: float, reference: Tensor | None) -> Row:
    """Norm, data loss, and best temperature and residual relative to the logits at the least decay."""
    row: Row = {
        "squared_norm": found.squared_norm,
        "loss": cross_entropy(found.logits, found.labels, temperature).item(),
        "heating": None,
        "residual": None,
    }
    if reference is not None:
        heated = effective_temperature(found.logits, reference)
        row["heating"], row["residual"] = heated.temperature.item(), heated.residual.item()
    return row
