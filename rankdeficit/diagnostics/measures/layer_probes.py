"""Linear probes on every layer of a network: accuracies, effective depth, drop out of distribution."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
from jaxtyping import Bool
from torch import Tensor

from rankdeficit.diagnostics.measures.depth import bootstrap, effective_depth, ood_drop
from rankdeficit.diagnostics.measures.probes import (
    TOLERANCE,
    Probe,
    fit_probe,
    fit_probe_path,
    predict,
)
from rankdeficit.diagnostics.reading.survey import OnProgress, Survey
from rankdeficit.distributed import rank_and_size

Row = dict[str, Any]

HELD_OUT = 0.2
"""Share of the train samples on which one L2 of several is chosen."""


@dataclass(frozen=True)
class ProbeSettings:
    """How probes are fitted and their accuracies resampled."""

    l2: tuple[float, ...] = ()
    """L2 penalties; of several, each layer takes the best on a fifth of its train samples, held out.
    Empty: 1/n."""
    dtype: torch.dtype = torch.float32
    tolerance: float = TOLERANCE
    """Norm of the gradient at which a probe counts as converged."""
    max_iterations: int = 1000
    device: torch.device | None = None
    """Where probes are fitted; by default where the network is."""
    resamples: int = 1000
    """Bootstrap resamples of the test samples."""
    level: float = 0.95
    """Level of the bootstrap intervals."""


@dataclass(frozen=True)
class LayerProbes:
    """Probes of all layers of one data set."""

    layers: list[str]
    correct: Bool[Tensor, "layers n"]
    """Whether each layer's probe is right on each test sample."""
    fits: list[Row]
    """How each fit went."""
    largest_class: float
    """Share of test samples with the most frequent label."""
    settings: ProbeSettings
    seed: int

    @property
    def accuracies(self) -> list[float]:
        """Test accuracy of each layer's probe."""
        return self.correct.double().mean(dim=1).tolist()

    def data_row(self) -> Row:
        """Test samples, and the accuracy that guessing reaches on them."""
        return {"samples": self.correct.shape[1], "largest_class": self.largest_class}

    def rows(self) -> list[Row]:
        """One row per layer: test accuracy and how the fit went."""
        pairs = zip(self.accuracies, self.fits, strict=True)
        return [{"accuracy": accuracy} | fit for accuracy, fit in pairs]

    def effective_depth(self) -> Row:
        """kappa with its bootstrap interval."""
        return self._interval(effective_depth)

    def ood_drop(self) -> Row:
        """rho with its bootstrap interval."""
        return self._interval(ood_drop)

    def _interval(self, statistic: Any) -> Row:
        settings = self.settings
        found = bootstrap(
            self.correct,
            statistic,
            resamples=settings.resamples,
            level=settings.level,
            seed=self.seed,
        )
        return {
            "value": found.estimate,
            "interval": [found.low, found.high],
            "level": settings.level,
            "resamples": settings.resamples,
        }


def probe_layers(
    train: Survey,
    test: Survey,
    layers: list[str],
    settings: ProbeSettings,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> LayerProbes:
    """Fit a probe on each layer's train features and try it on its test features.

    Classes are those of the labels of both. Processes share the layers among them; all get all results.
    """
    size = rank_and_size()[1]
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    mine: dict[int, tuple[Row, Tensor]] = {}
    for first in range(0, len(layers), size):
        for number, features, held_out in _own(layers, first, size, train, test):
            device = settings.device or train.device
            probe = _fit(features, train.labels, classes, settings, device)
            fit = {
                "train_accuracy": _share(predict(probe, features) == train.labels),
                "loss": probe.loss,
                "gradient_norm": probe.gradient_norm,
                "converged": probe.converged,
                "iterations": probe.iterations,
                "l2": probe.l2,
            }
            mine[number] = fit, predict(probe, held_out) == test.labels
        if on_progress is not None:
            on_progress(f"probes of {test.name}", min(first + size, len(layers)))
    everything = mine
    if size > 1:
        parts: list[dict[int, tuple[Row, Tensor]]] = [{} for _ in range(size)]
        distributed.all_gather_object(parts, mine)
        everything = {number: result for part in parts for number, result in part.items()}
    fits, correct = zip(*(everything[number] for number in range(len(layers))), strict=True)
    return LayerProbes(layers, torch.stack(correct), list(fits), test.largest_class, settings, seed)


def _own(
    layers: list[str], first: int, size: int, train: Survey, test: Survey
) -> list[tuple[int, Tensor, Tensor]]:
    """Number and features of this process's layer, of as many layers as there are processes.

    Handing them out takes all processes, so no layer is fitted before all are handed out.
    """
    own = []
    for process, layer in enumerate(layers[first : first + size]):
        features, held_out = train.features(layer, process), test.features(layer, process)
        if features is not None and held_out is not None:
            own.append((first + process, features, held_out))
    return own


def _fit(
    features: Tensor, labels: Tensor, classes: int, settings: ProbeSettings, device: torch.device
) -> Probe:
    options: Row = {
        "tolerance": settings.tolerance,
        "max_iterations": settings.max_iterations,
        "dtype": settings.dtype,
        "device": device,
    }
    if len(settings.l2) < 2:
        return fit_probe(features, labels, classes, l2=next(iter(settings.l2), None), **options)
    kept = round((1 - HELD_OUT) * len(labels))  # samples are in an order that means nothing
    path = fit_probe_path(features[:kept], labels[:kept], classes, settings.l2, **options)
    scores = [_share(predict(probe, features[kept:]) == labels[kept:]) for probe in path]
    best = path[scores.index(max(scores))].l2
    return fit_probe(features, labels, classes, l2=best, **options)


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
