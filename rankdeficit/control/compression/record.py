"""Records of a compression."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from rankdeficit.control.compression.bases import Method
from rankdeficit.control.compression.cost import Cost, Latency
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
    """0 for a layer that was cut away, the rank of a factored one, and the number of dimensions that the
    head reads of a projected one."""


@dataclass(frozen=True)
class Plan:
    """Changes of a network; fields that are None change nothing."""

    cut: str | None = None
    """Last layer that is kept."""
    rank: int | None = None
    """Dimensions that the head reads."""
    threshold: float | None = None
    """Of the spectra of factored layers."""

    @property
    def empty(self) -> bool:
        """Whether nothing is changed."""
        return self.cut is self.rank is self.threshold is None

    def __str__(self) -> str:
        """The changes in words."""
        parts = [] if self.cut is None else [f"cut after {self.cut}"]
        parts += [] if self.rank is None else [f"head reads {self.rank} dimensions"]
        parts += (
            [] if self.threshold is None else [f"layers factored at threshold {self.threshold:g}"]
        )
        return ", ".join(parts) or "unchanged"


@dataclass(frozen=True)
class Trial:
    """Test of a candidate on the deciding images."""

    plan: Plan
    paired: Paired
    error: float
    """Largest p-value at which it is accepted."""

    @property
    def accepted(self) -> bool:
        """Whether the test found its loss of accuracy to be below the margin."""
        return self.paired.p <= self.error


@dataclass(frozen=True)
class Numbers:
    """Comparison of a compressed network with the original."""

    plan: Plan
    method: Method
    layers: tuple[LayerDimensions, ...]
    """All but the classifier."""
    before: Cost
    after: Cost
    decided: Paired | None
    """Comparison on the deciding images; None if no candidate was accepted."""
    tested: Paired | None
    """Comparison on the test images, which had no influence on the result."""
    trials: tuple[Trial, ...]
    rivals: Mapping[Method, Paired]
    """Comparisons of other methods at equal dimensions with the original, on the test images."""
    lose_at_most: float
    confidence: float
    notes: tuple[str, ...]

    @property
    def removed(self) -> float:
        """Removed share of the dimensions of all layers' representations."""
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

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Numbers":
        """From the values of `record`."""
        return Numbers(
            Plan(**record["plan"]),
            record["method"],
            tuple(LayerDimensions(**own) for own in record["layers"]),
            _read_cost(record["before"]),
            _read_cost(record["after"]),
            _read_paired(record["decided"]),
            _read_paired(record["tested"]),
            tuple(
                Trial(Plan(**own["plan"]), Paired.read(own["paired"]), own["error"])
                for own in record["trials"]
            ),
            {name: Paired.read(own) for name, own in record["rivals"].items()},
            record["lose_at_most"],
            record["confidence"],
            tuple(record["notes"]),
        )

    def __str__(self) -> str:
        """Changes, costs and accuracies in a few lines."""
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
        compared = [("deciding", self.decided), ("test", self.tested)]
        compared += [
            (f"test (by {method} at equal dimensions)", own) for method, own in self.rivals.items()
        ]
        for name, paired in compared:
            if paired is not None:
                lines.append(
                    f"{name} images ({paired.samples:,}): accuracy {paired.accuracy_before:.2%} -> "
                    f"{paired.accuracy_after:.2%}, difference {paired.interval.low:+.2%} to "
                    f"{paired.interval.high:+.2%}; p of losing {paired.margin:.2%} or more "
                    f"{paired.p:.2g}"
                )
        return "\n".join([*lines, *self.notes])


@dataclass(frozen=True)
class Compression(Numbers):
    """A compressed network and its comparison with the original."""

    model: nn.Module
    """A copy of the original if no candidate was accepted."""
    description: Mapping[str, Any]
    """Changes of the structure, for `rebuild` and `load`."""

    def save(self, folder: Path) -> None:
        """Write the network to an existing folder: weights.safetensors and structure.json."""
        save(self.model, self.description, folder)


def _read_cost(record: Mapping[str, Any]) -> Cost:
    latency = tuple(Latency(**own) for own in record["latency"])
    return Cost(**{**record, "latency": latency})


def _read_paired(record: Mapping[str, Any] | None) -> Paired | None:
    return None if record is None else Paired.read(record)


def _paired(own: Paired | None) -> dict[str, Any] | None:
    return None if own is None else asdict(own) | {"interval": list(own.interval), "loss": own.loss}


def _spell(latency: Any) -> str:
    return f"{1e3 * latency.median:.3g} ms ({1e3 * latency.low:.3g} to {1e3 * latency.high:.3g})"
