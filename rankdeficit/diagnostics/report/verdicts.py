"""The main numbers of a report, each with a judgement and how to read it."""

import math
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.drawing import get
from rankdeficit.diagnostics.report.glossary import TERMS
from rankdeficit.diagnostics.report.numbers import sampling_interval
from rankdeficit.diagnostics.report.records import Row
from rankdeficit.diagnostics.report.sentences import near_chance
from rankdeficit.experiments.tables import INTERPOLATION

USEFUL_AUROC, GOOD_AUROC = 0.7, 0.9
"""Below the first detection is poor, from the second on good (Hosmer and Lemeshow, 2000, section 5.2)."""

CALIBRATED = 2.0
"""Predictions count as calibrated up to this multiple of the ECE that sampling alone gives."""


class Verdict(NamedTuple):
    """One number, as text."""

    name: str
    value: str
    judgement: str
    """Good, bad, or what it means where neither is."""
    reading: str
    """From the glossary."""


def verdicts(record: Row) -> list[Verdict]:
    """Accuracy, ranks, kappa, rho, detection, calibration and alignment, where they were measured."""
    return [
        *_accuracies(record),
        *_ranks(record),
        *_depth(record),
        *_drops(record),
        *_detection(record),
        *_calibration(record),
        *_layers(record),
    ]


def with_range(value: float | int, ends: object, form: str) -> str:
    """A value with its interval, as 0.75 (0.5–1)."""
    text = f"{value:{form}}"
    if not isinstance(ends, (list, tuple)):
        return text
    low, high = (f"{end:{form}}".removesuffix("%") for end in ends)
    return text if ends[0] == ends[1] else f"{text} ({low}–{high})"


def _accuracies(record: Row) -> Iterator[Verdict]:
    reading = TERMS["accuracy"].reading
    for data in ("test", "train"):
        value, chance = record[data]["accuracy"], records.chance(record, data)
        if value is None:
            continue
        if near_chance(value, chance, record[data]["samples"]):
            judgement = f"bad: hardly above guessing ({chance:.1%})"
        elif data == "test":
            judgement = f"above guessing ({chance:.1%})"
        else:
            does = value >= INTERPOLATION
            judgement = "interpolates" if does else f"does not interpolate ({INTERPOLATION:.1%})"
        ends = sampling_interval(record, "accuracy", data, value) if data == "test" else None
        yield Verdict(f"{data} accuracy", with_range(value, ends, ".1%"), judgement, reading)


def _ranks(record: Row) -> Iterator[Verdict]:
    found = record["train"].get("logits")
    if not found:
        return
    predicted, classes = records.predicted_rank(record), record["network"]["classes"]
    few = record["train"]["samples"] <= predicted
    for name, kind, bar in (
        ("class-centred rank of the logits", "centred_rank", predicted),
        ("raw rank of the logits", "rank", min(classes, predicted + 1)),
    ):
        if kind not in found:
            continue
        low, high = found.get(f"{kind}_interval") or (found[kind],) * 2
        if few:
            judgement = "too few train samples to tell"
        elif kind == "rank" and found[kind] == found.get("centred_rank"):
            judgement = "equal to the class-centred rank"
        elif kind == "rank":
            judgement = (
                "counts a direction that the softmax does not see; see the class-centred rank"
            )
        elif high < bar:
            judgement = f"rank deficit: Neural Collapse predicts {bar}"
        elif low < bar:
            judgement = f"rounding leaves open whether it is {bar}, as Neural Collapse predicts"
        else:
            judgement = f"no rank deficit: Neural Collapse predicts {bar}"
        yield Verdict(
            f"{name}, train",
            with_range(found[kind], (low, high), "d"),
            judgement,
            TERMS[kind].reading,
        )


def _depth(record: Row) -> Iterator[Verdict]:
    found = record.get("effective_depth")
    if not found:
        return
    number, total = round(found["value"] * len(record["layers"])), len(record["layers"])
    spare = total - number
    judgement = (
        "all layers are needed"
        if not spare
        else f"compressed: the last {spare} of {total} layers add little"
    )
    accuracies = records.probe_accuracies(record)
    if accuracies and near_chance(
        accuracies[-1], records.chance(record), record["test"]["samples"]
    ):
        judgement = "says little: the last layer's probe hardly beats guessing"
    yield Verdict(
        "effective depth κ",
        with_range(found["value"], found["interval"], ".3g"),
        judgement,
        TERMS["effective_depth"].reading,
    )


def _drops(record: Row) -> Iterator[Verdict]:
    for name, found in sorted((record.get("ood_drop") or {}).items()):
        if not found:
            continue
        lost = found["interval"][0] > 0
        judgement = (
            f"bad: the last layer loses {found['value']:.0%} of the best one's accuracy"
            if lost
            else "good: no loss beyond the spread over samples"
        )
        best = max(get(layer, "ood_probes", name, "accuracy") for layer in record["layers"])
        chance = records.ood_chance(record, name)
        if chance is not None and near_chance(best, chance, record["ood"][name]["samples"]):
            judgement = "says little: the best layer's probe hardly beats guessing"
        yield Verdict(
            f"OOD drop ρ on {name}",
            with_range(found["value"], found["interval"], ".3g"),
            judgement,
            TERMS["ood_drop"].reading,
        )


def _detection(record: Row) -> Iterator[Verdict]:
    default = records.default_neco(record)
    for data, found in sorted(records.detections(record).items()):
        if not found:
            continue
        best = min(found, key=lambda name: (-found[name]["auroc"], name))
        for detector in dict.fromkeys((best, default)):
            if detector not in found:
                continue
            value = found[detector]["auroc"]
            judgement = "good" if value >= GOOD_AUROC else "moderate"
            if value < USEFUL_AUROC:
                judgement = (
                    "bad: poor detection" if value > 0.5 else "bad: no better than guessing (0.5)"
                )
            if detector == best and len(found) > 1:
                judgement += "; the best of several, chosen on the same samples"
            ends = sampling_interval(record, f"detection.{detector}.auroc", data, value)
            term = TERMS["neco" if detector == default else "auroc"]
            yield Verdict(
                f"AUROC of {records.detector_label(record, detector)} on {data}",
                with_range(value, ends, ".3f"),
                judgement,
                term.reading,
            )


def _calibration(record: Row) -> Iterator[Verdict]:
    found, bins = record.get("calibration"), record.get("reliability")
    if not found:
        return
    value, T = found["before"]["ece"], record["conditions"]["temperature"]
    fitted = found.get("temperatures") or ()
    side = "miscalibrated"
    if fitted and min(fitted) > T:
        side = "over-confident"
    elif fitted and max(fitted) < T:
        side = "under-confident"
    judgement = side
    if bins:
        floor = CALIBRATED * expected_error(bins["counts"], bins["confidences"])
        judgement = "good: within what sampling alone gives" if value <= floor else f"bad: {side}"
    after = found["after"]["ece"]
    judgement += f"; {after:.1%} after temperature scaling"
    yield Verdict("calibration error ECE", f"{value:.1%}", judgement, TERMS["calibration"].reading)


def expected_error(counts: list[int], confidences: list[float | None]) -> float:
    """Mean ECE of perfectly calibrated predictions of these bins, by sampling alone.

    sum_m n_m / n E|accuracy_m - confidence_m|, with the mean absolute value sqrt(2 / pi) s of a normal
    distribution of deviation s = sqrt(q (1 - q) / n_m), q the mean confidence of the bin.
    """
    pairs = [(n, q) for n, q in zip(counts, confidences, strict=True) if q is not None]
    deviations = sum(math.sqrt(n * q * max(0.0, 1 - q)) for n, q in pairs)
    return math.sqrt(2 / math.pi) * deviations / sum(n for n, _ in pairs)


def _layers(record: Row) -> Iterator[Verdict]:
    layers = record["layers"]
    pairs = [
        (layer["alignment"], layer["alignment_random"])
        for layer in layers
        if layer.get("alignment") is not None and layer.get("alignment_random") is not None
    ]
    if pairs and record.get("alignment") is not None:
        random = sum(own for _, own in pairs) / len(pairs)
        above = sum(value > own for value, own in pairs)
        yield Verdict(
            "alignment, mean over layers",
            f"{record['alignment']:.3f}",
            f"random directions give {random:.3f}; {above} of {len(pairs)} layers are above their own",
            TERMS["alignment"].reading,
        )
    ranks = [
        layer["gradient"]["rank"] / layer["input"]["rank"]
        for layer in layers
        if layer.get("gradient") and layer.get("input") and layer["input"]["rank"]
    ]
    if ranks:
        yield Verdict(
            "gradient rank over its bound, median of layers",
            f"{median(ranks):.0%}",
            "100% is the bound, the rank of the layer's input",
            TERMS["gradient"].reading,
        )
