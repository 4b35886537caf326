"""ELogitNorm: logits relative to the distance of the features from the decision boundaries."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from rankdeficit.control.interventions.base import LossChange, Seen, intervention

LEAST = 1e-7
"""Added to distances, so that the loss is finite for samples on all boundaries."""


@intervention("elogit-norm")
class ELogitNorm(LossChange):
    """Loss of f / D, with D the mean distance to decision boundaries (ELogitNorm; arXiv 2504.11434).

    D is the mean over the other classes j of the distance of the features from the boundary between the
    predicted class k and j, (f_k - f_j) / ||w_k - w_j|| for a linear head with weights w. Two
    classes: D = |f_1 - f_2| / ||w_1 - w_2||, so the loss sees the gap ||w_1 - w_2|| up to its sign.
    """

    needs_head: ClassVar[bool] = True
    diagnosed: ClassVar[str] = (
        "raw logits; the loss is that of the logits divided by their mean distance to the decision "
        "boundaries, of which gradient ranks neglect the dependence on the head"
    )

    def norm(self, norm: float, temperature: float) -> None:
        """None: the norm depends on the head."""

    def logits(self, seen: Seen) -> Float[Tensor, "n c"]:
        """Logits divided by the distance."""
        assert seen.head is not None
        return seen.logits / (distance(seen.logits, seen.head.weight)[:, None] + LEAST)


def distance(logits: Float[Tensor, "n c"], weight: Float[Tensor, "c d"]) -> Float[Tensor, " n"]:
    """Mean distance of the features from the boundaries between predicted and other classes."""
    top, predicted = logits.max(dim=-1)
    gaps = top[:, None] - logits
    rows = weight.to(logits.dtype)
    between = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    ratios = gaps / between[predicted].clamp_min(LEAST)
    return ratios.sum(dim=-1) / (logits.shape[-1] - 1)
