"""LogitNorm: the loss sees logits of a fixed norm."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from rankdeficit.control.interventions.base import LossChange, Seen, intervention

LEAST = 1e-7
"""Added to norms, so that logits of zero stay zero."""


@intervention("logit-norm", default=0.04, symbol="tau")
class LogitNorm(LossChange):
    """Loss of f / (tau ||f||), with f the logits of a sample (LogitNorm; Wei et al. 2022).

    At tau = 1 / ||f|| it is the plain loss. The gradient in f is orthogonal to f, so the norm of the raw
    logits counts only through weight decay and the parameters' rates.
    """

    diagnosed: ClassVar[str] = "raw logits; the loss sees logits of norm 1/(tau T) throughout"

    def norm(self, norm: float, temperature: float) -> float:
        """1/(tau T)."""
        assert self.value is not None
        return 1 / (self.value * temperature)

    def logits(self, seen: Seen) -> Float[Tensor, "n c"]:
        """Logits of norm 1/tau."""
        assert self.value is not None
        return seen.logits / (self.value * (seen.logits.norm(dim=-1, keepdim=True) + LEAST))
