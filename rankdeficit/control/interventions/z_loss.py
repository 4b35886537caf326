"""z-loss: a penalty on the normaliser of the softmax."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from rankdeficit.control.interventions.base import LossChange, Seen, intervention


@intervention("z-loss", default=1e-4, symbol="the coefficient")
class ZLoss(LossChange):
    """Adds the coefficient times the mean of logsumexp(f / T)^2 (PaLM; arXiv 2204.02311, section 5)."""

    may_be_zero: ClassVar[bool] = True
    diagnosed: ClassVar[str] = "raw logits, as the loss sees them"

    def penalty(self, seen: Seen) -> Float[Tensor, ""]:
        """The penalty; its gradient in f / T is twice the coefficient times logsumexp times softmax."""
        assert self.value is not None
        scaled = seen.logits / seen.temperature
        return self.value * scaled.logsumexp(dim=-1).square().mean()
