"""A report's record: names of its measures, and what tables, sentences and figures read from it."""

import json
from collections.abc import Iterator
from typing import Any

from rankdeficit.diagnostics.measures.neco import usual_dimension
from rankdeficit.diagnostics.measures.ood import NECO, canonical
from rankdeficit.experiments.tables import neural_collapse_rank

Row = dict[str, Any]

REQUIRED = (
    *(f"network.{name}" for name in ("name", "classes", "penultimate_width")),
    *(f"{data}.{name}" for data in ("train", "test") for name in ("samples", "accuracy", "loss")),
    *("layers", "conditions.temperature", "conditions.gamma"),
)
"""Names that every record has; all others may be missing."""

REQUIRED_OF_LAYERS = ("name", "features")

MISSING = object()


def plain(record: Any) -> Row:
    """A copy in which tuples are lists, keys text and non-finite numbers None, as in strict JSON.

    Detectors have one name each, whatever alias the record has, and NECO its d.

    Raises ValueError for values that JSON cannot hold, and for a record that lacks a required measure.
    """
    try:
        copy = json.loads(json.dumps(record), parse_constant=lambda _: None)
    except TypeError as error:
        raise ValueError(f"record is not of plain values: {error}") from error
    if not isinstance(copy, dict):
        raise ValueError(f"record is a {type(record).__name__}; it must be a dict of measures")
    for name in REQUIRED:
        if find(copy, name) is MISSING:
            raise ValueError(f"record has no {name}; it is not that of a diagnosed network")
    if not isinstance(copy["layers"], list):
        raise ValueError(f"layers is a {type(copy['layers']).__name__}; it must be a list")
    for number, layer in enumerate(copy["layers"]):
        for name in REQUIRED_OF_LAYERS:
            if find(layer, name) is MISSING:
                raise ValueError(f"layers.{number} has no {name}")
    _name_detectors(copy)
    return copy


def _name_detectors(record: Row) -> None:
    """Give each detector one name, and NECO its d where it follows from the rest of the record.

    It does where all classes were seen, as Neural Collapse needs.
    """
    network = record["network"]
    for rows in (record.get("detection") or {}).values():
        for name in [own for own in rows if canonical(own) != own]:
            rows[canonical(name)] = rows.pop(name)
        if record.get("neural_collapse"):
            used = usual_dimension(network["classes"], network["penultimate_width"])
            for name in (own for own in rows if own.startswith(NECO)):
                rows[name].setdefault("dimension", used)


def with_probes_of(record: Row, other: Row | None) -> Row:
    """The record with the probes, kappa and rho of another one of the same network; None: with none."""
    blank: Row = {"effective_depth": None, "probe_hits": None}
    blank |= {"ood_drop": {}, "ood": {}, "ood_probe_hits": {}}
    probes = {layer["name"]: layer for layer in (other or {"layers": []})["layers"]}
    layers = [
        layer
        | {
            "probe": probes.get(layer["name"], {}).get("probe"),
            "ood_probes": probes.get(layer["name"], {}).get("ood_probes") or {},
        }
        for layer in record["layers"]
    ]
    return record | {name: (other or blank)[name] for name in blank} | {"layers": layers}


def find(node: Any, name: str) -> Any:
    """The value at a dotted name below a node, or MISSING. Keys and names of layers may contain dots."""
    children = _children(node)
    if name in children:
        return children[name]
    for key, child in children.items():
        if name.startswith(f"{key}."):
            found = find(child, name[len(key) + 1 :])
            if found is not MISSING:
                return found
    return MISSING


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all single values; layers go by name, and a list of numbers is one value."""
    children = node if isinstance(node, dict) else _by_name(node)
    if not isinstance(node, dict) and not children:
        yield prefix
    for key, child in children.items():
        yield from leaves(child, f"{prefix}.{key}" if prefix else key)


def probe_accuracies(record: Row) -> list[float]:
    """On test samples, of the probes of all layers from input to output; empty without probes."""
    probes = [layer.get("probe") for layer in record["layers"]]
    return [probe["accuracy"] for probe in probes] if all(probes) else []


def probes(record: Row) -> list[Row]:
    """All linear probes: of every layer, on ID data and on every OOD set."""
    found = [
        probe
        for layer in record["layers"]
        for probe in (layer.get("probe"), *(layer.get("ood_probes") or {}).values())
    ]
    return [probe for probe in found if probe]


def ood_sets(record: Row) -> list[str]:
    """Names of the OOD data sets that have any measure, in alphabetical order."""
    probed = {name for layer in record["layers"] for name in layer.get("ood_probes") or {}}
    return sorted(probed | {name for name, found in detections(record).items() if found})


def chance(record: Row, data: str = "test") -> float:
    """Accuracy of guessing on `train` or `test`: the share of their largest class.

    Without that share in the record, all classes count as equally large.
    """
    found = record[data].get("largest_class")
    return 1 / int(record["network"]["classes"]) if found is None else float(found)


def ood_chance(record: Row, name: str) -> float | None:
    """The same of the test images of an OOD data set, over its own classes; None if not recorded."""
    found = ((record.get("ood") or {}).get(name) or {}).get("largest_class")
    return None if found is None else float(found)


def detections(record: Row) -> dict[str, dict[str, Row]]:
    """Results by OOD data set and detector; empty where nothing was detected."""
    return record.get("detection") or {}


def detectors(record: Row) -> list[str]:
    """Names of the detectors, the largest mean AUROC over data sets first."""
    scores: dict[str, list[float]] = {}
    for found in detections(record).values():
        for name, row in found.items():
            scores.setdefault(name, []).append(row["auroc"])
    return sorted(scores, key=lambda name: (-sum(scores[name]) / len(scores[name]), name))


def detector_label(record: Row, name: str) -> str:
    """Name of a detector, with the number of components d that a NECO compares with."""
    rows = (found[name] for found in detections(record).values() if name in found)
    used = next((d for row in rows if (d := row.get("dimension")) is not None), None)
    return name if used is None else f"{name} (d = {used})"


def default_neco(record: Row) -> str:
    """The variant of NECO that its authors use for this kind of network, as a detector's name."""
    return canonical(NECO + str(record["network"].get("neco_variant")))


def predicted_rank(record: Row, data: str = "train") -> int:
    """The rank of the logits of `train` or `test` that Neural Collapse predicts.

    It is min(c - 1, width), or the number of classes with samples where that is less.
    """
    network = record["network"]
    classes, width = network["classes"], network["penultimate_width"]
    seen = record[data].get("seen_classes")
    return neural_collapse_rank(classes, classes if width is None else width, seen)


def rank_over_gamma(record: Row, measures: Row, kind: str = "rank") -> dict[float, int]:
    """Numerical rank by threshold, the record's own included, in ascending order of it."""
    curve = {float(gamma): rank for gamma, rank in measures[f"{kind}_curve"].items()}
    return dict(sorted((curve | {record["conditions"]["gamma"]: measures[kind]}).items()))


def _children(node: Any) -> Row:
    """Positions in a list are names too, unless names of layers start with numbers."""
    if isinstance(node, dict):
        return node
    if not isinstance(node, list):
        return {}
    named = _by_name(node)
    if any(name.partition(".")[0].isdigit() for name in named):
        return named
    return {str(number): item for number, item in enumerate(node)} | named


def _by_name(node: Any) -> Row:
    if not isinstance(node, list):
        return {}
    return {item["name"]: item for item in node if isinstance(item, dict) and "name" in item}
