"""All that a diagnosis read of a network: plain data from which every measure takes its numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from rankdeficit.diagnostics.measures.probes import ProbeSettings
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.survey import OnProgress, Survey
from rankdeficit.softmax import cross_entropy

LayerConvention = Literal["matrix", "sample-centred", "covariance"]
"""Conventions of the ranks of representations; the class-centred one depends on their coordinates."""

Loss = Callable[[Tensor, Tensor, float], Tensor]
"""Mean loss of (logits, labels, temperature)."""

PLAIN: Loss = partial(cross_entropy, validate=False)
"""Cross-entropy of softmax(logits / T)."""


@dataclass(frozen=True)
class Options:
    """Settings of a diagnosis that measures depend on."""

    temperature: float
    """T of training."""
    gamma: float
    """Threshold of numerical ranks."""
    seed: int
    """Of bootstrap resamples and of halves for calibration."""
    loss: Loss
    """Whose gradient is measured."""
    probes: ProbeSettings
    detectors: tuple[str, ...]
    """Names of the OOD detectors."""
    on_progress: OnProgress | None = None
    convention: LayerConvention = "matrix"
    """Of the ranks of representations; logits have all."""

    def __post_init__(self) -> None:
        if self.convention not in get_args(LayerConvention):
            raise ValueError(
                f"convention is {self.convention!r}; it must be one of "
                f"{', '.join(get_args(LayerConvention))} (a rotation of features changes the "
                "class-centred rank)"
            )


@dataclass(frozen=True)
class Outputs:
    """Kept rows of one data set, in the first process; None where no measure needs them."""

    penultimate: Float[Tensor, "n width"] | None = None
    logits: Float[Tensor, "n classes"] | None = None


@dataclass(frozen=True)
class Study:
    """What measures read. Fields that no chosen measure needs are empty."""

    network: Network
    options: Options
    train: Survey
    test: Survey
    ood: dict[str, Survey]
    """Test samples of each OOD data set."""
    ood_train: dict[str, Survey]
    """Train samples of the OOD data sets that have some."""
    outputs: dict[str, Outputs] = field(default_factory=dict)
    """By name of the data set: train, test, and the OOD data sets."""
    prepared: dict[str, Any] = field(default_factory=dict)
    """By name of the measure, what its `prepare` returned."""
    notes: list[str] = field(default_factory=list)
    """What could not be measured, and why; measures add to it."""

    def penultimate(self, data: str) -> Float[Tensor, "n width"]:
        """Kept penultimate features of a data set."""
        found = self.outputs[data].penultimate
        assert found is not None
        return found

    def logits(self, data: str) -> Float[Tensor, "n classes"]:
        """Kept logits of a data set."""
        found = self.outputs[data].logits
        assert found is not None
        return found
