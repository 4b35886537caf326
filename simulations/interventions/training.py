"""Training of one module with its loss, on all samples at once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rankdeficit.control.interventions import Intervened


class Fitted(NamedTuple):
    """Logits before and after training, and the network."""

    first: Float[Tensor, "n c"]
    first_seen: Float[Tensor, "n c"]
    """The first logits as the loss uses them."""
    logits: Float[Tensor, "n c"]
    loss: float
    """Final training loss."""
    model: nn.Module


def fit(
    model: nn.Module,
    loss: Intervened,
    x: Float[Tensor, "n inputs"],
    labels: Int64[Tensor, " n"],
    temperature: float,
    steps: int,
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
) -> Fitted:
    """Train on all samples in every step. Training goes on when the loss is not finite."""
    optimizer = make([own for own in model.parameters() if own.requires_grad])
    first = model(x)
    first_seen = loss.seen(first, temperature).logits.detach()
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(x), labels).backward()
        optimizer.step()
    logits = model(x)
    final = float(loss(logits, labels).detach())
    return Fitted(first.detach(), first_seen, logits.detach(), final, model)
