"""A run of the deep UFM in plain autograd."""

import torch

import rankdeficit as rd
from rankdeficit.toys.ufm import UfmShape


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def reference_objective(
    shape: UfmShape,
    row: torch.Tensor,
    T: float,
    loss: str,
    weight: float,
    feature: float,
    targets: torch.Tensor | None = None,
) -> torch.Tensor:
    """One run's objective in plain autograd."""
    factors = shape.unpack(row[None])
    hidden = factors.features[0]
    for layer, W in enumerate(factors.weights):
        hidden = hidden @ W[0].mT
        if shape.bias:
            hidden = hidden + factors.biases[layer][0]
        if shape.activation == "relu" and layer < shape.depth - 1:
            hidden = hidden.relu()
    function = rd.cross_entropy if loss == "ce" else rd.softmax_mse
    decay = weight * sum(W.square().sum() for W in factors.weights)
    return (
        function(hidden, shape.labels() if targets is None else targets, T)
        + (decay + feature * factors.features.square().sum()) / 2
    )
