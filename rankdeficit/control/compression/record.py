"""What compression reports."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from rankdeficit.control.compression.bases import Method
from rankdeficit.control.compression.cost import Cost
from rankdeficit.control.compression.promise import Paired
from rankdeficit.control.compression.structure import save

Step = Literal["cut", "project", "factor"]


@dataclass(frozen=True)
class LayerDimensions:
    """Dimensions of a layer's representation."""

    name: str
    before: int
    """Channels or units of the layer."""
    after: int
    """0 where the layer was cut away; the rank where it was factored; what the head reads where it was
    projected."""


@dataclass(frozen=True)
class Plan:
    """What was done to a network; nothing where all are None."""

    cut: str | None = None
    """Last layer that is left."""
    rank: int | None = None
    """Dimensions that the head reads."""
    threshold: float | None = None
    """Of the spectra of factored layers."""

    @property
    def empty(self) -> bool:
        """Whether the network stays as it is."""
        return self.cut is self.rank is self.threshold is None

    def __str__(self) -> str:
        """In words."""
        told = [] if self.cut is None else [f"cut after {self.cut}"]
        told += [] if self.rank is None else [f"head reads {self.rank} dimensions"]
        told += (
            [] if self.threshold is None else [f"layers factored at threshold {self.threshold:g}"]
        )
        return ", ".join(told) or "unchanged"


@dataclass(frozen=True)
class Trial:
    """A candidate on the images that decide."""

    plan: Plan
    paired: Paired
    error: float
    """p-value up to which it is accepted."""

    @property
    def accepted(self) -> bool:
        """Whether its loss of accuracy is below the margin with confidence."""
        return self.paired.p <= self.error


@dataclass(frozen=True)
class Compression:
    """A compressed network and how it compares with the original."""

    model: nn.Module
    """A copy of the original where nothing could be compressed."""
    description: Mapping[str, Any]
    """Changes of the structure, for `rebuild` and `load`."""
    plan: Plan
    method: Method
    layers: tuple[LayerDimensions, ...]
    """All but the classifier."""
    before: Cost
    after: Cost
    decided: Paired | None
    """On the images that decided; None where nothing was accepted."""
    tested: Paired | None
    """On the test images, which decided nothing."""
    trials: tuple[Trial, ...]
    rivals: Mapping[Method, Paired]
    """Other methods at equal dimensions, on the test images."""
    lose_at_most: float
    confidence: float
    notes: tuple[str, ...]

    @property
    def removed(self) -> float:
        """Share of the dimensions of all layers' representations that is gone."""
        total = sum(own.before for own in self.layers)
        return 1 - sum(own.after for own in self.layers) / total if total else 0.0

    def record(self) -> dict[str, Any]:
        """All numbers as values that JSON can hold."""
        return {
            "plan": asdict(self.plan),
            "method": self.method,
            "lose_at_most": self.lose_at_most,
            "confidence": self.confidence,
            "removed": self.removed,
            "layers": [asdict(own) for own in self.layers],
            "before": asdict(self.before),
            "after": asdict(self.after),
            "decided": _paired(self.decided),
            "tested": _paired(self.tested),
            "rivals": {name: _paired(own) for name, own in self.rivals.items()},
            "trials": [
                {"plan": asdict(own.plan), "error": own.error, "accepted": own.accepted}
                | {"paired": _paired(own.paired)}
                for own in self.trials
            ],
            "notes": list(self.notes),
        }

    def save(self, folder: Path) -> None:
        """Write the network to an existing folder: weights.safetensors and structure.json."""
        save(self.model, self.description, folder)

    def __str__(self) -> str:
        """What was done, in a few lines."""
        before, after = self.before, self.after
        lines = [
            f"{self.plan} ({self.method}): {self.removed:.1%} of the dimensions removed",
            f"parameters {before.parameters:,} -> {after.parameters:,}, FLOPs of a sample "
            f"{before.flops:,} -> {after.flops:,}",
        ]
        for own, other in zip(before.latency, after.latency, strict=True):
            lines.append(
                f"latency of {own.batch}: {_spell(own)} -> {_spell(other)} (median and quartiles of "
                f"{own.repeats})"
            )
        told = [("deciding", self.decided), ("test", self.tested)]
        told += [
            (f"test, {method} at equal dimensions:", own) for method, own in self.rivals.items()
        ]
        for name, paired in told:
            if paired is not None:
                lines.append(
                    f"{name} images ({paired.samples:,}): accuracy {paired.accuracy_before:.2%} -> "
                    f"{paired.accuracy_after:.2%}, difference {paired.interval.low:+.2%} to "
                    f"{paired.interval.high:+.2%}; p of losing {paired.margin:.2%} or more "
                    f"{paired.p:.2g}"
                )
        return "\n".join([*lines, *self.notes])


def _paired(own: Paired | None) -> dict[str, Any] | None:
    return None if own is None else asdict(own) | {"interval": list(own.interval), "loss": own.loss}


def _spell(latency: Any) -> str:
    return f"{1e3 * latency.median:.3g} ms ({1e3 * latency.low:.3g} to {1e3 * latency.high:.3g})"
