"""Soft cap: bounded logits."""

from typing import ClassVar

from torch import Tensor, nn

from rankdeficit.control.interventions.base import HeadChange, intervention


class SoftCap(nn.Module):
    """cap tanh(f / cap) of logits f."""

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, logits: Tensor) -> Tensor:
        """Logits between -cap and cap."""
        return self.cap * (logits / self.cap).tanh()


@intervention("soft-cap", default=30.0, symbol="cap")
class SoftCapped(HeadChange):
    """Logits cap tanh(f / cap), with f those of the head (Gemma 2; arXiv 2408.00118, section 2).

    The plain logits for cap -> infinity. Initial logits far below the cap hardly change.
    """

    diagnosed: ClassVar[str] = "logits behind the cap, which the softmax sees"

    def module(self, head: nn.Linear) -> nn.Module:
        """The cap."""
        assert self.value is not None
        return SoftCap(self.value)
