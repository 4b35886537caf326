"""Differences of the numbers of reports, with intervals, and paired tests where samples are the same."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from rankdeficit.diagnostics.measures.correctness import counts, unpack
from rankdeficit.diagnostics.measures.depth import bootstrap, effective_depth, ood_drop
from rankdeficit.diagnostics.measures.logits import CONVENTIONS
from rankdeficit.diagnostics.measures.pairing import unpack_means
from rankdeficit.diagnostics.report.intervals import (
    LEVEL,
    Interval,
    McNemar,
    difference_of_independent,
    mcnemar,
    paired_auroc,
)
from rankdeficit.diagnostics.report.numbers import DIMENSION, Number, numbers
from rankdeficit.diagnostics.report.records import Row

SETTINGS = ("conditions.", "network.", "ood.", "ood_samples.")
"""Prefixes of names that are settings, not measures."""

DETAIL = re.compile(
    r"^(layers|penultimate|reliability|attention)\.|_curve\.|singular_values\.|temperatures\.|\.fpr_|\.aupr_"
    r"|\.(samples|largest_class|seen_classes|level|resamples|dimension|predicted_rank|train_accuracy)$"
)
"""Numbers that only `to_csv` and the figures show."""

ORDER = (
    "test",
    "train",
    "effective_depth",
    "ood_drop",
    "alignment",
    "detection",
    "ortho_dev",
    "calibration",
    "neural_collapse",
)
"""Sections in the order of the table; others follow."""

PAIRED = "paired, exact McNemar"
PAIRED_AUROC = "paired, DeLong"
PAIRED_BOOTSTRAP = "paired, bootstrap"
LEAST_GROUPS = 20
"""Least number of groups of samples for paired comparisons of AUROCs."""
UNPAIRED = "unpaired"

UNEQUAL = 0.05
"""Least difference of train accuracies that a comparison tells."""

Statistic = Callable[[Tensor], Tensor]

DEPTHS: dict[str, tuple[str, Statistic]] = {
    "effective_depth": ("probe_hits", effective_depth),
    "ood_drop": ("ood_probe_hits", ood_drop),
}
"""Sections computed from the probes of all layers: section of the probes' hits, and the statistic."""


class Difference(NamedTuple):
    """One number of a report minus that of the first report."""

    value: float | int
    interval: Interval | None = None
    method: str = ""
    """How the interval was made."""
    p: float | None = None
    """p-value of the paired test of equality."""


class Line(NamedTuple):
    """One number of all reports."""

    name: str
    numbers: tuple[Number | None, ...]
    """By report; None where it has not been measured."""
    differences: tuple[Difference | None, ...]
    """Of every report but the first from the first."""

    @property
    def first(self) -> Number:
        """The number of the first report that has it."""
        return next(own for own in self.numbers if own is not None)


def lines(records: Sequence[Row]) -> list[Line]:
    """All measures' numbers that at least one record has, accuracies first, then by ORDER."""
    found = [{own.name: own for own in numbers(record)} for record in records]
    names = dict.fromkeys(name for own in found for name in own if not name.startswith(SETTINGS))
    return [_line(name, records, found) for name in sorted(names, key=_place)]


def is_main(name: str) -> bool:
    """Whether the table shows a number."""
    return DETAIL.search(name) is None


def is_rank(name: str) -> bool:
    """Whether a number is a numerical rank at the record's gamma."""
    last = name.rpartition(".")[2]
    return last in (*CONVENTIONS, "retained_rank")


def at_gamma(name: str) -> bool:
    """Whether a number depends on the record's gamma."""
    sampled = ".rank_sampling." in name and not name.endswith(".groups")
    return is_rank(name) or sampled or name == "neural_collapse.nc1"


def unlike(records: Sequence[Row]) -> list[str]:
    """What differs between records besides the networks, with the numbers that it moves."""
    told = []
    samples = [record["train"]["samples"] for record in records]
    if len(set(samples)) > 1:
        told.append(
            f"Numbers of train samples differ ({', '.join(map(str, samples))}): ranks grow with them "
            "until they settle, and probes improve."
        )
    accuracies = [record["train"]["accuracy"] for record in records]
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    if known and max(known) - min(known) >= UNEQUAL:
        listed = ", ".join("–" if own is None else f"{own:.1%}" for own in accuracies)
        told.append(
            f"Train accuracies differ ({listed}), which alone may change ranks and Neural Collapse."
        )
    grids = dict.fromkeys(
        record["conditions"].get("grid") for record in records if record["layers"]
    )
    if len(grids) > 1:
        listed = ", ".join(map(str, grids))
        told.append(f"Ranks and probes of layers are of maps on different grids ({listed}).")
    return told


def paired_test(first: Row, second: Row) -> McNemar | None:
    """Paired test of correctness; None unless the test samples are known to be the same."""
    found = counts(first, second)
    return None if found is None else mcnemar(*found, int(first["test"]["samples"]))


def _place(name: str) -> tuple[int, int]:
    section, _, field = name.partition(".")
    place = ORDER.index(section) if section in ORDER else len(ORDER)
    return (-1 if field == "accuracy" else place), ORDER.index(section) if place < len(ORDER) else 0


def _line(name: str, records: Sequence[Row], found: Sequence[Mapping[str, Number]]) -> Line:
    own = tuple(numbers.get(name) for numbers in found)
    others = zip(records[1:], own[1:], strict=True)
    return Line(name, own, tuple(_difference(records[0], own[0], *other) for other in others))


def _difference(
    record: Row, number: Number | None, other: Row, own: Number | None
) -> Difference | None:
    if number is None or own is None:
        return None
    if at_gamma(number.name) and record["conditions"]["gamma"] != other["conditions"]["gamma"]:
        return None
    if own.convention != number.convention and not own.convention.startswith(DIMENSION):
        return None
    value = own.value - number.value
    if number.name == "test.accuracy" and (test := paired_test(record, other)) is not None:
        return Difference(value, test.difference, PAIRED, test.p)
    for paired in (_paired_auroc, _paired_depth):
        if (found := paired(record, other, number, value)) is not None:
            return found
    ends = [
        Interval(each.low, each.high)
        for each in (number, own)
        if each.low is not None and each.high is not None and each.interval.endswith("%")
    ]
    if len(ends) < 2 or number.interval != own.interval:
        return Difference(value)
    interval = difference_of_independent(number.value, ends[0], own.value, ends[1])
    return Difference(value, interval, UNPAIRED)


def _paired_depth(record: Row, other: Row, number: Number, value: float | int) -> Difference | None:
    """Paired difference of kappa or rho on the same test samples; None for other numbers."""
    section, _, rest = number.name.partition(".")
    if section not in DEPTHS or not rest.endswith("value"):
        return None
    key, statistic = DEPTHS[section]
    kept = [own.get(key) or {} for own in (record, other)]
    if data := rest.removesuffix("value").removesuffix("."):
        kept = [own.get(data) or {} for own in kept]
    if not all(kept) or kept[0]["samples"] != kept[1]["samples"]:
        return None
    n = int((record["ood"][data] if data else record["test"])["samples"])
    first, second = (
        torch.stack([torch.from_numpy(unpack(bits, n)) for bits in own["bits"]]) for own in kept
    )
    return Difference(value, paired_bootstrap(first, second, statistic), PAIRED_BOOTSTRAP)


def paired_bootstrap(
    first: Bool[Tensor, "layers n"], second: Bool[Tensor, "others n"], statistic: Statistic
) -> Interval:
    """Interval of a statistic of the second network's probes minus that of the first network's.

    Rows are layers; columns are the same test samples for both networks and are resampled together.
    The interval is that of `bootstrap`.
    """
    layers = len(first)
    found = bootstrap(
        torch.cat([first, second]),
        lambda accuracies: statistic(accuracies[:, layers:]) - statistic(accuracies[:, :layers]),
        level=LEVEL,
    )
    return Interval(found.low, found.high)


def _paired_auroc(record: Row, other: Row, number: Number, value: float | int) -> Difference | None:
    """Paired difference of AUROCs on the same ID and OOD samples; None for other numbers."""
    if not number.measure.startswith("detection.") or not number.measure.endswith(".auroc"):
        return None
    detector = number.measure.removeprefix("detection.").removesuffix(".auroc")
    kept = [(own.get("placements") or {}).get(number.split) or {} for own in (record, other)]
    if any(detector not in own for own in kept) or kept[0]["samples"] != kept[1]["samples"]:
        return None
    first, second = (own[detector] for own in kept)
    of_id, of_ood = (unpack_means(second[key]) - unpack_means(first[key]) for key in ("id", "ood"))
    if min(len(of_id), len(of_ood)) < LEAST_GROUPS:
        return None
    interval, p = paired_auroc(value, of_id, of_ood)
    return Difference(value, interval, PAIRED_AUROC, p)
