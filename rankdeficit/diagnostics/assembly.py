"""From a study to the record of a report: every measure adds its numbers under its own names."""

import time
from collections.abc import Sequence

import torch

from rankdeficit.diagnostics.class_order import order_note
from rankdeficit.diagnostics.measures.neco import default_variant
from rankdeficit.diagnostics.reading.streams import LOSS
from rankdeficit.diagnostics.reading.survey import Survey
from rankdeficit.diagnostics.registry import Measure, Row, Values, all_measures
from rankdeficit.diagnostics.study import Outputs, Study
from rankdeficit.distributed import rank_and_size


def gather_outputs(study: Study) -> None:
    """Collect the kept logits and penultimate features in the first process; all must call it."""
    for survey in (study.train, study.test, *study.ood.values()):
        study.outputs[survey.name] = Outputs(
            survey.rows("penultimate", 0) if "penultimate" in survey.wanted.kept else None,
            survey.rows("logits", 0) if "logits" in survey.wanted.kept else None,
        )


def assemble(study: Study, measures: Sequence[Measure]) -> Row:
    """The record of these measures, as plain values, in the first process.

    Raises ValueError where two measures have fields of one name.
    """
    found = {own.name: own.values(study) for own in measures}
    layers: dict[str, Row] = {
        layer.name: {
            "name": layer.name,
            "kind": layer.kind,
            "features": study.train.widths.get(layer.name),
        }
        for layer in study.network.layers.chosen
    }
    study.notes.extend(
        note
        for survey in (study.train, study.test)
        if (note := _imbalance(survey, study)) is not None
    )
    if note := order_note(study.train, study.test, study.network.classes):
        study.notes.append(note)
    surveys = (study.train, study.test, *study.ood.values(), *study.ood_train.values())
    if unmasked := sorted(set[str]().union(*(own.unmasked for own in surveys))):
        study.notes.append(
            f"padding counts in the numbers of {len(unmasked)} layers whose number of tokens is not the "
            f"mask's ({unmasked[0]} for one)"
        )
    record: Row = {
        "network": _network_row(study),
        "train": _data_row(study.train),
        "test": _data_row(study.test),
        "layers": list(layers.values()),
        "notes": study.notes,
    }
    for own in all_measures():
        blank, values = own.blank, found.get(own.name, Values())
        _put(record, {**blank.sections, **values.sections}, own.name)
        for data in ("train", "test"):
            _put(record[data], {**blank.data, **values.data.get(data, {})}, own.name)
        for name, layer in layers.items():
            _put(layer, {**blank.layers, **values.layers.get(name, {})}, own.name)
    return record


def conditions(study: Study, started: float, grid: int | None, data: str | None = None) -> Row:
    """Settings that the numbers depend on, and where and how long they were computed."""
    options, network, train = study.options, study.network, study.train
    return {
        "data": data,
        "temperature": options.temperature,
        "gamma": options.gamma,
        "convention": options.convention,
        "probe_preset": options.probes.preset,
        "grid": grid,
        "seed": options.seed,
        "rows_per_sample": train.wanted.rows_per_sample if train.wanted.reads("rows") else None,
        "gradient_samples": min(train.wanted.subset, train.samples),
        "device": str(network.device),
        "precision": str(network.dtype).removeprefix("torch."),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "processes": rank_and_size()[1],
        "torch": torch.__version__,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _put(row: Row, fields: Row, measure: str) -> None:
    if clash := sorted(row.keys() & fields.keys()):
        raise ValueError(
            f"measure {measure!r} has a field {clash[0]!r}, which the record has already; give it "
            "another name"
        )
    row.update(fields)


def _network_row(study: Study) -> Row:
    """What was diagnosed."""
    model, layers = study.network.model, study.network.layers
    return {
        "name": type(model).__name__,
        "layers": len(layers.chosen),
        "counted_with": {
            own.name: list(own.counted_with) for own in layers.chosen if own.counted_with
        },
        "left_out": layers.left_out,
        "classes": study.network.classes,
        "penultimate_width": study.train.penultimate_width,
        "neco_variant": default_variant(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


IMBALANCE = 1.5
"""Ratio of the largest class's samples to the smallest one's from which it is noted."""


def _imbalance(survey: Survey, study: Study) -> str | None:
    """A note with the largest and the smallest class, where they differ."""
    counts = survey.labels.bincount(minlength=study.network.classes)
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    most, least = int(counts[largest]), int(counts[smallest])
    if most < IMBALANCE * max(least, 1):
        return None
    return (
        f"the {survey.name} classes are imbalanced: class {largest} has {most} samples, class "
        f"{smallest} has {least}; accuracy and means over samples weigh large classes more"
    )


def _data_row(survey: Survey) -> Row:
    """Samples, accuracy, share of the largest class, classes with samples, and loss of one data set."""
    return {
        "samples": survey.samples,
        "accuracy": survey.accuracy,
        "largest_class": survey.largest_class,
        "seen_classes": survey.seen_classes,
        "loss": survey.state(LOSS).mean,
    }
