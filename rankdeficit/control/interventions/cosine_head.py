"""Cosine head: logits are cosines times a scale."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rankdeficit.control.interventions.base import HeadChange, intervention

LEAST = 1e-7
"""Norm below which features are not normalised; float16 can represent it, and zeros stay zero."""


class CosineHead(nn.Linear):
    """Logits s cos(w_k, h) of features h, without bias."""

    def __init__(self, head: nn.Linear, scale: float) -> None:
        weight = head.weight
        super().__init__(
            head.in_features, head.out_features, bias=False, device="meta", dtype=weight.dtype
        )
        self.weight = nn.Parameter(weight.detach().clone())
        self.scale = scale

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits, of norm at most s sqrt(c)."""
        features, weight = (
            functional.normalize(x, dim=-1, eps=LEAST) for x in (inputs, self.weight)
        )
        return self.scale * functional.linear(features, weight)


@intervention("cosine-head", default=16.0, symbol="s")
class Cosine(HeadChange):
    """Logits s cos(w_k, h) of features h and weights w_k, without bias (Gidaris and Komodakis 2018).

    The plain head, for features and weights of unit norm, at s = 1. The scale of initial weights does
    not change the logits.
    """

    replaces: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True
    diagnosed: ClassVar[str] = "cosines times s, which the softmax sees"

    def module(self, head: nn.Linear) -> nn.Module:
        """The head with the same initial directions. Raises ValueError for a row of zeros."""
        assert self.value is not None
        with torch.no_grad():
            if not bool(head.weight.norm(dim=1).all()):
                raise ValueError(
                    "intervention cosine-head needs directions, but the head has a row of zeros; "
                    "initialise it first, for instance with nn.init.normal_(weight)"
                )
        return CosineHead(head, self.value)
