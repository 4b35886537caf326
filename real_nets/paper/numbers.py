"""The paper's numbers, read from `numbers.toml`, for comparison with measured ones."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READ: Mapping[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())

TEMPERATURES = tuple(_READ["temperatures"])
"""Temperatures of the paper's study."""

BASELINE_TEMPERATURE = TEMPERATURES[0]

CLASSES: Mapping[str, int] = _READ["classes"]
"""Number of classes of its training sets."""

LAYERS: Mapping[str, int] = _READ["layers"]
"""Number of weight layers of each network with an effective depth in the tables."""


@dataclass(frozen=True)
class Representation:
    """Numbers of Tables 1 and 3 for one trained network."""

    effective_depth: float
    """kappa, rounded to 0.01."""
    ood_drop: float
    """rho, rounded to 0.01. The tables leave the OOD data unnamed; Figure 1 has SVHN for CIFAR-100."""
    rank: int
    """SR, the numerical rank of the logits."""
    bounded_by_classifier: bool = False
    """The dagger: the width of the classifier bounds the rank."""


@dataclass(frozen=True)
class RepresentationRow:
    """A row of Table 1 or 3: the same network at T = 1 and at low logit norm."""

    architecture: str
    data: str
    baseline: Representation
    low_norm: Representation


@dataclass(frozen=True)
class Detection:
    """OOD detection by NECO, rounded to 0.0001."""

    auroc: float
    fpr: float
    """False positive rate at 95 % true positives."""


@dataclass(frozen=True)
class DetectionRow:
    """A network of Table 2 with one ID and one OOD set, at T = 1 and at low logit norm."""

    architecture: str
    data: str
    ood: str
    baseline: Detection
    low_norm: Detection
    pretrained_on: str | None = None


@dataclass(frozen=True)
class Exhibit:
    """A table or figure of the paper."""

    name: str
    title: str
    shows: str
    """Its content, as the caption of a figure or the second line of a list of targets."""
    claim: str
    """One testable sentence."""
    networks: tuple[tuple[str, str], ...] = ()
    """(architecture, data) of the experiment; empty if the paper names none."""


def _share(percent: float | int) -> float:
    return round(percent / 100, 6)


def _representation(printed: Sequence[int], bounded: bool = False) -> Representation:
    kappa, rho, rank = printed
    return Representation(_share(kappa), _share(rho), rank, bounded)


def _representations(name: str) -> tuple[RepresentationRow, ...]:
    return tuple(
        RepresentationRow(
            row["architecture"],
            row["data"],
            _representation(row["baseline"], row.get("bounded", False)),
            _representation(row["low_norm"]),
        )
        for row in _READ["representations"][name]
    )


def _detections(name: str) -> tuple[DetectionRow, ...]:
    sides = ("baseline", "low_norm")
    return tuple(
        DetectionRow(**row | {side: Detection(*map(_share, row[side])) for side in sides})
        for row in _READ["detections"][name]
    )


TABLE_1, TABLE_3 = _representations("Table 1"), _representations("Table 3")
TABLE_2 = _detections("Table 2")

_NETWORKS = {
    "Table 1": [(row.architecture, row.data) for row in TABLE_1],
    "Table 2": [(row.architecture, row.data) for row in TABLE_2],
    "Table 3": [(row.architecture, row.data) for row in TABLE_3],
}


def _exhibit(found: Mapping[str, Any]) -> Exhibit:
    named = found.get("networks", _NETWORKS.get(found["name"], []))
    return Exhibit(**dict(found) | {"networks": tuple(map(tuple, named))})


EXHIBITS = tuple(map(_exhibit, _READ["exhibits"]))
"""Tables 1 to 3 and Figures 1 to 8, in this project's words."""


def exhibit(name: str) -> Exhibit:
    """The table or figure of that name, "Figure 3" for example. Raises ValueError for others."""
    for found in EXHIBITS:
        if found.name == name:
            return found
    raise ValueError(
        f"exhibit is {name!r}; it must be one of {', '.join(e.name for e in EXHIBITS)}"
    )


def representation_row(architecture: str, data: str) -> RepresentationRow | None:
    """The row of Table 1 or 3 of a network on a data set; None if there is none."""
    rows = (*TABLE_1, *TABLE_3)
    return next((r for r in rows if (r.architecture, r.data) == (architecture, data)), None)


def detection_row(architecture: str, data: str, ood: str) -> DetectionRow | None:
    """The row of Table 2 of a network with an ID and an OOD set; None if there is none."""
    key = (architecture, data, ood)
    return next((r for r in TABLE_2 if (r.architecture, r.data, r.ood) == key), None)
