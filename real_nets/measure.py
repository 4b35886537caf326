"""What a trained network does on a data set, in one pass: logits, accuracy, rank of every layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from rankdeficit import GAMMAS, cross_entropy
from rankdeficit.diagnostics import measure_logits
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.store import RowStore
from rankdeficit.diagnostics.reading.survey import Wanted, survey
from rankdeficit.diagnostics.reading.taps import pick_logits
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


def layer_ranks(
    model: nn.Module, data: ImageSet, normalise: Normalisation, gammas: Sequence[float] = GAMMAS
) -> dict[str, Any]:
    """Numerical rank of the representation after each weight layer, keyed by threshold.

    `layer_rank_intervals` holds the smallest and largest ranks that rounding allows.
    """
    network = Network.of(model, normalise(data.images[:1]), None, pick_logits)
    batches = zip(data.images.split(BATCH), data.labels.split(BATCH), strict=True)
    inputs = ((normalise(images), labels) for images, labels in batches)
    with RowStore() as store:
        wanted = Wanted(spectra=True)
        found = survey("images", network, inputs, wanted, temperature=1.0, grid=2, store=store)
    spectra = [found.layers[layer.name].spectrum() for layer in network.layers.chosen]
    ranks = {str(gamma): [int(s.rank(gamma)) for s in spectra] for gamma in gammas}
    intervals = {
        str(gamma): [[int(end) for end in s.rank_interval(gamma)] for s in spectra]
        for gamma in gammas
    }
    return {"layer_ranks": ranks, "layer_rank_intervals": intervals}
