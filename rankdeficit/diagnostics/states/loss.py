"""Mean cross-entropy of logits that arrive in batches."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.diagnostics.states.sums import Sums
from rankdeficit.softmax import cross_entropy


class MeanLoss(Sums):
    """Streaming mean of -ln softmax(logits / T) at the labels, in nats."""

    def __init__(
        self, temperature: float = 1.0, *, device: torch.device | str | None = None
    ) -> None:
        self.temperature = temperature
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.samples = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> None:
        """Add samples. Raises ValueError as `cross_entropy`."""
        self.total += len(labels) * cross_entropy(logits.double(), labels, self.temperature)
        self.samples += len(labels)

    @property
    def mean(self) -> float:
        """Mean loss of all samples seen."""
        return float(self.total / self.samples)
