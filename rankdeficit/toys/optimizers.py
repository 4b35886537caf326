"""torch optimisers for a batch of runs with individual learning rates and epsilons."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rankdeficit.checks import check_positive

OptimizerName = Literal["gd", "sgd", "adam"]


def make_optimizer(
    name: OptimizerName,
    parameters: Float[Tensor, "runs parameters"],
    gradient: Float[Tensor, "runs parameters"],
    learning_rate: float | Sequence[float],
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    epsilon: float | Sequence[float] = 1e-8,
) -> torch.optim.Optimizer:
    """Optimiser that updates `parameters` from `gradient`, without clearing the gradient.

    name: "gd" (gradient descent), "sgd" (heavy-ball or Nesterov momentum) or "adam". Weight decay is
        part of the gradient (see `DeepUfm`), as in the coupled L2 penalty of torch.
    learning_rate, epsilon: one value for all runs or one per run.
    Raises ValueError for an unknown name and for settings outside their range.
    """
    runs = parameters.shape[0]
    rates, epsilons = _per_run("lr", learning_rate, runs), _per_run("epsilon", epsilon, runs)
    if name not in ("gd", "sgd", "adam"):
        raise ValueError(f"optimizer is {name!r}; it must be 'gd', 'sgd' or 'adam'")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; it must lie in [0, 1)")
    if nesterov and not (name == "sgd" and momentum):
        raise ValueError("nesterov needs the optimizer sgd with a positive momentum")
    parameters.grad = gradient
    rows = [parameters]
    if len(set(zip(rates, epsilons, strict=True))) > 1:
        rows = [parameters[i] for i in range(runs)]
        for row, slope in zip(rows, gradient, strict=True):
            row.grad = slope
    groups = [
        {"params": [row], "lr": rate, **({"eps": eps} if name == "adam" else {})}
        for row, rate, eps in zip(rows, rates, epsilons, strict=False)
    ]
    if name == "adam":
        return torch.optim.Adam(groups, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, fused=True)
    return torch.optim.SGD(groups, fused=True)


def _per_run(name: str, value: float | Sequence[float], runs: int) -> list[float]:
    values = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)] * runs
    if len(values) != runs:
        raise ValueError(
            f"{name} has {len(values)} values; it needs one, or one for each of {runs} runs"
        )
    check_positive(**{name: values})
    return values
