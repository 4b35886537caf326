"""Fixed simplex head: the classifier is an equiangular tight frame from the start and is not trained."""

from typing import ClassVar

import torch
from torch import nn

from rankdeficit.constructions import simplex_etf
from rankdeficit.control.interventions.base import HeadChange, intervention


@intervention("simplex-head", default=1.0, symbol="the norm of its rows")
class SimplexHead(HeadChange):
    """Head with fixed weights on a simplex equiangular tight frame, without bias (arXiv 2502.10691).

    Rows have this norm and cosines -1/(c - 1); they span a subspace of c - 1 dimensions, drawn from
    torch's generator on the CPU. Deviation: in the paper a frozen two-layer projector with this
    geometry lies between encoder and classifier; here it is the classifier. The logits of each sample
    then have mean zero, and only the encoder learns.
    """

    replaces: ClassVar[bool] = True
    diagnosed: ClassVar[str] = "logits of the fixed frame, which the softmax sees"

    def module(self, head: nn.Linear) -> nn.Module:
        """The frozen layer. Raises ValueError for features of fewer than c - 1 dimensions."""
        assert self.value is not None
        classes, width = head.out_features, head.in_features
        if width < classes - 1:
            raise ValueError(
                f"intervention simplex-head needs {classes - 1} features for {classes} classes, but the "
                f"head reads {width}; take a wider network"
            )
        directions = simplex_etf(classes).directions.double().cpu()
        normal = torch.randn(width, directions.shape[1], dtype=torch.float64, device="cpu")
        rotation = torch.linalg.qr(normal)[0]
        rows = self.value * directions @ rotation.mT
        fixed = nn.Linear(width, classes, bias=False, device="meta")
        fixed.weight = nn.Parameter(rows.to(head.weight), requires_grad=False)
        return fixed
