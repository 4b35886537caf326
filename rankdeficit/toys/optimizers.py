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
    momentum: float | Sequence[float] = 0.9,
    nesterov: bool = False,
    epsilon: float | Sequence[float] = 1e-8,
) -> torch.optim.Optimizer:
    """Optimiser that updates `parameters` from `gradient`, without clearing the gradient.

    name: "gd" (gradient descent), "sgd" (heavy-ball or Nesterov momentum) or "adam". Weight decay is
        part of the gradient (see `DeepUfm`), as in the coupled L2 penalty of torch.
    learning_rate, momentum (of sgd), epsilon: one value for all runs or one per run.
    Raises ValueError for an unknown name and for settings outside their range.
    """
    runs = parameters.shape[0]
    rates, epsilons = _values("lr", learning_rate, runs), _values("epsilon", epsilon, runs)
    momenta = _values("momentum", momentum, runs)
    check_positive(lr=rates, epsilon=epsilons)
    if name not in ("gd", "sgd", "adam"):
        raise ValueError(f"optimizer is {name!r}; it must be 'gd', 'sgd' or 'adam'")
    for value in momenta:
        if not 0 <= value < 1:
            raise ValueError(f"momentum is {value}; it must lie in [0, 1)")
    if nesterov and not (name == "sgd" and all(momenta)):
        raise ValueError("nesterov needs the optimizer sgd with a positive momentum")
    own: dict[str, list[float]] = {"lr": rates}
    if name == "adam":
        own["eps"] = epsilons
    else:
        own["momentum"] = momenta if name == "sgd" else [0.0] * runs
    parameters.grad = gradient
    rows = [parameters]
    if any(len(set(values)) > 1 for values in own.values()):
        rows = [parameters[i] for i in range(runs)]
        for row, slope in zip(rows, gradient, strict=True):
            row.grad = slope
    groups = [
        {"params": [row], **{key: values[run] for key, values in own.items()}}
        for run, row in enumerate(rows)
    ]
    if name == "adam":
        return torch.optim.Adam(groups, fused=True)
    # torch checks the momentum of all groups together
    return torch.optim.SGD(groups, momentum=max(momenta), nesterov=nesterov, fused=True)


def _values(name: str, value: float | Sequence[float], runs: int) -> list[float]:
    values = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)] * runs
    if len(values) != runs:
        raise ValueError(
            f"{name} has {len(values)} values; it needs one, or one for each of {runs} runs"
        )
    return values
