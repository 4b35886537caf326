"""Learnable temperature: the network divides its logits by a trained T."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from rankdeficit.control.interventions.base import HeadChange, intervention


class LearnableTemperature(nn.Module):
    """f / T of logits f, with ln T a parameter."""

    def __init__(self, temperature: float, like: Tensor) -> None:
        super().__init__()
        start = torch.tensor(math.log(temperature), dtype=like.dtype, device=like.device)
        self.log_temperature = nn.Parameter(start)

    def forward(self, logits: Tensor) -> Tensor:
        """The logits divided by T."""
        return logits * (-self.log_temperature).exp()


@intervention("learnable-temperature", default=1.0, symbol="T")
class Learnable(HeadChange):
    """Logits f / T with ln T trained, at the head's learning rate, from the value given.

    The gradient in ln T is -sum_k (p_k - y_k) f_k / T, averaged over samples. Weight decay pulls T to 1.
    """

    diagnosed: ClassVar[str] = "logits divided by the learnt T, which the softmax sees"

    def module(self, head: nn.Linear) -> nn.Module:
        """The division."""
        assert self.value is not None
        return LearnableTemperature(self.value, head.weight)
