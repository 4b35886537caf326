"""Entropy regularisation of the encoder: features are kept from collapsing onto their neighbours."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from rankdeficit.control.interventions.base import LossChange, Seen, intervention

LEAST = 1e-6
"""Distance below which neighbours count as equal."""


@intervention("encoder-entropy", default=0.05, symbol="the coefficient")
class EncoderEntropy(LossChange):
    """Subtracts the coefficient times the entropy of the head's input (arXiv 2502.10691).

    The entropy is estimated up to a factor (the dimension) and a constant from nearest neighbours in the
    batch (Kozachenko and Leonenko): the mean of ln min_{j != i} ||h_i - h_j||, with features h of unit
    norm, since it would otherwise grow with their scale.
    """

    may_be_zero: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True
    least_batch: ClassVar[int] = 2
    diagnosed: ClassVar[str] = (
        "raw logits, as the loss sees them. Gradient ranks leave out the entropy"
    )

    def penalty(self, seen: Seen) -> Float[Tensor, ""]:
        """Minus the coefficient times the entropy."""
        assert self.value is not None
        assert seen.features is not None
        return -self.value * neighbour_entropy(seen.features)


def neighbour_entropy(features: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean logarithm of the distance to the nearest neighbour, features of unit norm."""
    rows = functional.normalize(features, dim=-1)
    with (
        torch.no_grad()
    ):  # in float64, which tells neighbours at a distance of LEAST, under autocast too
        directions = functional.normalize(features.double(), dim=-1)
        similar = directions @ directions.mT
        similar.fill_diagonal_(-torch.inf)
        nearest = similar.argmax(dim=-1)
    squares = (rows - rows[nearest]).square().sum(dim=-1)
    return (squares + LEAST**2).log().mean() / 2
