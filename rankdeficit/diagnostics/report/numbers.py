"""The numbers of a record one by one, with their interval and convention."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rankdeficit.diagnostics.registry import Measure, all_measures, with_required
from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.intervals import LEVEL, Interval, auroc_interval, wilson
from rankdeficit.diagnostics.report.records import Row

DIMENSION = "d = "
"""Beginning of the convention of NECO's numbers."""
CURVE = "_curve"
"""End of the names of ranks by threshold."""


class Number(NamedTuple):
    """One number of a report; the fields are the columns of `Report.to_csv`."""

    name: str
    """report[name]."""
    measure: str
    """The name without data set and layer."""
    split: str
    """Data set that it is of, train, test or an OOD one; empty for settings."""
    layer: str
    value: float | int
    low: float | int | None = None
    """Ends of the interval, where there is one."""
    high: float | int | None = None
    interval: str = ""
    """What the interval is of."""
    convention: str = ""
    """Of ranks, as in `rankdeficit.numerical_rank`; of NECO its d."""


def numbers(record: Row) -> list[Number]:
    """All numbers, in the order of the record. The ends of intervals are with what they belong to."""
    splits = {"train", "test", *all_ood_sets(record)}
    owners = _owners()
    return [_number(record, splits, owners, *found) for found in _walk(record, ())]


def all_ood_sets(record: Row) -> list[str]:
    """Names of OOD data sets of any measure, in alphabetical order."""
    sections = ("ood_drop", "ortho_dev", "ood", "ood_samples")
    return sorted({*records.ood_sets(record), *(n for s in sections for n in record.get(s) or {})})


def to_csv(rows: Sequence[tuple[Any, ...]], columns: Sequence[str]) -> str:
    """Rows below a line of headings; numbers with all their digits, None as an empty field."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerows([columns, *rows])
    return written.getvalue()


def _walk(
    node: Any, path: tuple[str, ...], holder: Row | None = None
) -> Iterator[tuple[tuple[str, ...], float | int, Row]]:
    """Path of keys, value, and the dict that tells its interval and convention."""
    if isinstance(node, dict):
        for key, child in node.items():
            if key != "interval" and not key.endswith("_interval"):
                curve = holder if holder is not None and path[-1].endswith(CURVE) else node
                yield from _walk(child, (*path, key), curve)
    elif isinstance(node, list):
        for position, item in enumerate(node):
            named = isinstance(item, dict) and "name" in item
            yield from _walk(item, (*path, item["name"] if named else str(position)), holder)
    elif isinstance(node, (int, float)) and not isinstance(node, bool):
        yield path, node, holder or {}


def _number(
    record: Row,
    splits: set[str],
    owners: dict[str, Measure],
    path: tuple[str, ...],
    value: float | int,
    holder: Row,
) -> Number:
    layer, own = (path[1], path[2:]) if path[0] == "layers" else ("", path)
    split = next((part for part in own if part in splits), "")
    if split:
        place = own.index(split)
        own = (*own[:place], *own[place + 1 :])
    elif own[0] in owners:
        split = _read(owners[own[0]])
    measure = ".".join(own)
    kind = next((part for part in reversed(own) if part.endswith(CURVE)), own[-1])
    low, high, what = _interval(record, holder, measure, split, own[-1], value)
    return Number(
        ".".join(path), measure, split, layer, value, low, high, what, _convention(holder, kind)
    )


def _interval(
    record: Row, holder: Row, measure: str, split: str, key: str, value: float | int
) -> tuple[float | int | None, float | int | None, str]:
    ends: Sequence[float | int] | None = None
    what = ""
    if found := holder.get(f"{key}_interval"):
        ends, what = found, "rounding"
    elif key == "value" and holder.get("interval"):
        ends, what = holder["interval"], f"bootstrap over samples, {holder.get('level', LEVEL):.0%}"
    elif (error := holder.get(f"{key}_error")) is not None:
        ends, what = (value - error, value + error), "standard error over samples"
    elif (sampling := sampling_interval(record, measure, split, value)) is not None:
        ends, what = sampling, f"over samples, {LEVEL:.0%}"
    return (None, None, "") if ends is None else (ends[0], ends[1], what)


def sampling_interval(record: Row, measure: str, split: str, value: float | int) -> Interval | None:
    """Of accuracies Wilson's, of AUROCs Hanley and McNeil's; None for other numbers."""
    samples = _samples(record, split)
    if samples is None:
        return None
    if measure in ("accuracy", "probe.accuracy", "ood_probes.accuracy"):
        return wilson(value, samples)
    if measure.startswith("detection.") and measure.endswith(".auroc"):
        return auroc_interval(value, int(record["test"]["samples"]), samples)
    return None


def _samples(record: Row, split: str) -> int | None:
    if split in ("train", "test"):
        return int(record[split]["samples"])
    told = (record.get("ood_samples") or {}).get(split)
    found = told or ((record.get("ood") or {}).get(split) or {}).get("samples")
    return None if found is None else int(found)


def _convention(holder: Row, kind: str) -> str:
    base = kind.removesuffix(CURVE)
    if "auroc" in holder and (used := holder.get("dimension")) is not None:
        return f"{DIMENSION}{used}"
    told = holder.get("conventions")
    if isinstance(told, dict):
        return str(told.get(base, ""))
    return str(holder.get("convention", "")) if base in ("rank", "value") else ""


def _owners() -> dict[str, Measure]:
    """By name of a section or of a field of layers, the measure that gives it."""
    return {
        field: own for own in all_measures() for field in (*own.blank.sections, *own.blank.layers)
    }


def _read(own: Measure) -> str:
    """The data set whose samples a measure's numbers are of: the last one that it reads."""
    needs = [needed.needs for needed in with_required([own.name])]
    if any(need.test for need in needs):
        return "test"
    return "train" if any(need.train for need in needs) else ""
