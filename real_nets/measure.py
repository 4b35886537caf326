"""What a trained network does on a data set, in one pass: logits, accuracy, rank of every layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from rankdeficit import GAMMAS, Gram, cross_entropy
from rankdeficit.diagnostics import measure_logits
from rankdeficit.images import ImageSet, Normalisation

BATCH = 1000


@dataclass(frozen=True)
class Evaluation:
    """Logits of all samples (float64) with their accuracy and mean loss at the temperature."""

    logits: Float64[Tensor, "n c"]
    accuracy: float
    loss: float | None

    def record(self, temperature: float, gamma: float) -> dict[str, Any]:
        """Accuracy, loss and the logits' measures; all None where the network diverged."""
        scores = {"accuracy": self.accuracy, "loss": self.loss}
        if self.loss is None:
            measures = measure_logits(torch.zeros_like(self.logits), temperature, gamma).record()
            return dict.fromkeys(scores | measures)
        return scores | measure_logits(self.logits, temperature, gamma).record()


@torch.no_grad()
def evaluate(
    model: nn.Module, data: ImageSet, normalise: Normalisation, temperature: float
) -> Evaluation:
    """One pass in evaluation mode; the model's mode is put back."""
    training = model.training
    model.eval()
    logits = torch.cat([model(normalise(images)).double() for images in data.images.split(BATCH)])
    model.train(training)
    accuracy = (logits.argmax(dim=-1) == data.labels).double().mean().item()
    loss = cross_entropy(logits, data.labels, temperature, validate=False).item()
    return Evaluation(logits, accuracy, loss if logits.isfinite().all() else None)


@torch.no_grad()
def layer_ranks(
    model: nn.Sequential, data: ImageSet, normalise: Normalisation, gammas: Sequence[float] = GAMMAS
) -> dict[str, Any]:
    """Numerical rank of the representation after each weight layer, keyed by threshold.

    The representation is what follows the layer's activation; the last one is the logits.
    `layer_rank_intervals` holds the smallest and largest ranks that rounding allows.
    """
    ends = [i for i, layer in enumerate(model) if isinstance(layer, nn.ReLU)] + [len(model) - 1]
    grams: dict[int, Gram] = {}
    for images in data.images.split(BATCH):
        hidden = normalise(images)
        for i, layer in enumerate(model):
            hidden = layer(hidden)
            if i in ends:
                if i not in grams:
                    grams[i] = Gram(hidden.shape[1], device=hidden.device)
                grams[i].update(hidden)
    spectra = [grams[i].spectrum() for i in ends]
    ranks = {str(gamma): [int(s.rank(gamma)) for s in spectra] for gamma in gammas}
    intervals = {
        str(gamma): [[int(end) for end in s.rank_interval(gamma)] for s in spectra]
        for gamma in gammas
    }
    return {"layer_ranks": ranks, "layer_rank_intervals": intervals}
