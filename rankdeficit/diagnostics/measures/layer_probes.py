"""Linear probes on every layer of a network: accuracies, effective depth, drop out of distribution."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.distributed as distributed
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rankdeficit.diagnostics.measures.correctness import pack
from rankdeficit.diagnostics.measures.depth import SHARE
from rankdeficit.diagnostics.measures.pairing import identity
from rankdeficit.diagnostics.measures.probes import (
    Probe,
    ProbeSettings,
    fit_probe,
    fit_probe_path,
    predict,
)
from rankdeficit.diagnostics.measures.trained_probes import fit_by_protocol
from rankdeficit.diagnostics.reading.needs import Needs, Rows
from rankdeficit.diagnostics.reading.survey import OnProgress, Survey
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.drawing import Curve, by_layer, get
from rankdeficit.diagnostics.report.sentences import quoted
from rankdeficit.diagnostics.study import Study
from rankdeficit.distributed import rank_and_size
from rankdeficit.experiments.figure_style import THEORY_COLOUR

NOTE = "Accuracies of linear probes, * where the fit has not converged."

HELD_OUT = 0.2
"""Share of the train samples on which one L2 of several is chosen."""


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
    samples: str
    """`identity` of the test samples and their labels."""
    settings: ProbeSettings
    seed: int

    @property
    def accuracies(self) -> list[float]:
        """Test accuracy of each layer's probe."""
        return self.correct.double().mean(dim=1).tolist()

    def data_row(self) -> Row:
        """Test samples, and the accuracy that guessing reaches on them."""
        return {"samples": self.correct.shape[1], "largest_class": self.largest_class}

    def hits(self) -> Row:
        """Which test samples each layer's probe gets right, for comparisons with other reports."""
        bits = [pack(own.numpy()) for own in self.correct.cpu()]
        return {"samples": self.samples, "bits": bits}

    def rows(self) -> list[Row]:
        """One row per layer: test accuracy and how the fit went."""
        pairs = zip(self.accuracies, self.fits, strict=True)
        return [{"accuracy": accuracy} | fit for accuracy, fit in pairs]


def probe_layers(
    train: Survey,
    test: Survey,
    layers: list[str],
    settings: ProbeSettings,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> LayerProbes:
    """Fit a probe on what is probed of each layer of the train samples, and try it on the test samples.

    Classes are those of the labels of both. Processes share the layers among them; all get all results.
    """
    size = rank_and_size()[1]
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    mine: dict[int, tuple[Row, Tensor]] = {}
    for first in range(0, len(layers), size):
        for number, features, held_out in _own(layers, first, size, train, test):
            device = settings.device or train.device
            probe = _fit(features, train.labels, classes, settings, device, seed)
            fit = {
                "train_accuracy": _share(predict(probe, features) == train.labels),
                "loss": probe.loss,
                "gradient_norm": probe.gradient_norm,
                "converged": probe.converged,
                "iterations": probe.iterations,
                "l2": probe.l2,
            } | ({} if settings.protocol is None else {"epochs": settings.protocol.epochs})
            mine[number] = fit, predict(probe, held_out) == test.labels
        if on_progress is not None:
            on_progress(f"probes of {test.name}", min(first + size, len(layers)))
    everything = mine
    if size > 1:
        parts: list[dict[int, tuple[Row, Tensor]]] = [{} for _ in range(size)]
        distributed.all_gather_object(parts, mine)
        everything = {number: result for part in parts for number, result in part.items()}
    fits, correct = zip(*(everything[number] for number in range(len(layers))), strict=True)
    samples = identity(test.keys, test.labels)
    return LayerProbes(
        layers, torch.stack(correct), list(fits), test.largest_class, samples, settings, seed
    )


def _own(
    layers: list[str], first: int, size: int, train: Survey, test: Survey
) -> list[tuple[int, Tensor, Tensor]]:
    """Number and features of this process's layer, of as many layers as there are processes.

    Handing them out takes all processes, so no layer is fitted before all are handed out.
    """
    own = []
    for process, layer in enumerate(layers[first : first + size]):
        features, held_out = train.probed(layer, process), test.probed(layer, process)
        if features is not None and held_out is not None:
            own.append((first + process, features, held_out))
    return own


def _fit(
    features: Tensor,
    labels: Tensor,
    classes: int,
    settings: ProbeSettings,
    device: torch.device,
    seed: int,
) -> Probe:
    if settings.protocol is not None:
        return fit_by_protocol(features, labels, classes, settings, seed, device)
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


def draw(record: Row) -> Figure | None:
    """Accuracy of linear probes by layer, ID and OOD, with effective depth (the paper's Figure 1)."""
    layers, kappa = record["layers"], record.get("effective_depth")
    known = [get(layer, "probe", "accuracy") for layer in layers]
    found = {"ID": known}
    for name in records.ood_sets(record):
        found[f"OOD: {name}"] = [get(layer, "ood_probes", name, "accuracy") for layer in layers]
    found = {label: values for label, values in found.items() if not all(map(math.isnan, values))}
    curves = [
        Curve(label, values, {"color": f"C{i}", "linestyle": "-" if label == "ID" else "--"})
        for i, (label, values) in enumerate(found.items())
    ]

    def mark_depth(axes: Axes) -> None:
        mark_chance(axes, record, found)
        if not kappa or math.isnan(known[-1]):
            return
        ends = [end * len(layers) for end in kappa["interval"]]
        axes.axvline(
            kappa["value"] * len(layers), color=THEORY_COLOUR, linestyle="--", linewidth=1,
            label=f"κ = {kappa['value']:.3g}",
        )  # fmt: skip
        axes.axvspan(*ends, color="0.5", alpha=0.25, label=f"{kappa['level']:.0%} interval of κ")
        axes.axhspan(
            SHARE * known[-1], known[-1], color="C0", alpha=0.3,
            label=f"{SHARE:.0%}-100% of the last layer's",
        )  # fmt: skip

    label = "accuracy of linear probes"
    return by_layer(record, curves, label, scale="share", columns=3, more=mark_depth)


def mark_chance(axes: Axes, record: Row, shown: Collection[str]) -> None:
    """Draw what guessing reaches on each data set that is shown, where the record has it."""
    levels = {"ID": records.chance(record)} | {
        f"OOD: {name}": records.ood_chance(record, name) for name in records.ood_sets(record)
    }
    for i, label in enumerate(shown):
        if (level := levels[label]) is not None:
            axes.axhline(
                level, color=f"C{i}", linestyle=":", linewidth=1, label=f"guessing, {label}"
            )


@measure("probes", place=70)
class Probes(Measure):
    """Test accuracy of a linear probe on every layer."""

    needs = Needs(train=(Rows("probed"),), test=(Rows("probed"),))
    switch = "probes"
    blank = Blank(sections={"probe_hits": None}, layers={"probe": None})
    figures = (("probe_accuracies", draw),)

    def prepare(self, study: Study) -> LayerProbes | None:
        """The probes; None and a note where the train samples are of one class."""
        return _fitted(study, study.train, study.test)

    def values(self, study: Study) -> Values:
        """By layer."""
        fitted = probes_of(study)
        if fitted is None:
            return Values()
        rows = zip(fitted.layers, fitted.rows(), strict=True)
        return Values(
            sections={"probe_hits": fitted.hits()},
            layers={layer: {"probe": row} for layer, row in rows},
        )

    def layer_columns(self, record: Row) -> list[Column]:
        """Accuracies."""
        return [Column("probe", lambda layer: _accuracy(layer.get("probe")), NOTE)]

    def sentences(self, record: Row) -> list[str]:
        """Fits that have not converged."""
        return _convergence("ID", {row["name"]: row.get("probe") for row in record["layers"]})


@measure("ood_probes", place=80)
class OodProbes(Measure):
    """Accuracy of a linear probe on every layer for the labels of every OOD data set."""

    needs = Needs(ood_pair=(Rows("probed"),))
    switch = "probes"
    blank = Blank(sections={"ood": {}, "ood_probe_hits": {}}, layers={"ood_probes": {}})

    def prepare(self, study: Study) -> dict[str, LayerProbes]:
        """The probes by data set, where its train samples are of several classes."""
        found = {
            name: _fitted(study, train, study.ood[name]) for name, train in study.ood_train.items()
        }
        return {name: fitted for name, fitted in found.items() if fitted is not None}

    def values(self, study: Study) -> Values:
        """By layer and data set, with what guessing reaches on each data set."""
        fitted = ood_probes_of(study)
        rows = {name: own.rows() for name, own in fitted.items()}
        return Values(
            sections={
                "ood": {name: own.data_row() for name, own in fitted.items()},
                "ood_probe_hits": {name: own.hits() for name, own in fitted.items()},
            },
            layers={
                layer.name: {"ood_probes": {name: own[number] for name, own in rows.items()}}
                for number, layer in enumerate(study.network.layers.chosen)
            },
        )

    def layer_columns(self, record: Row) -> list[Column]:
        """Accuracies by data set."""

        def cell(name: str, layer: Row) -> str | None:
            return _accuracy((layer.get("ood_probes") or {}).get(name))

        sets = records.ood_sets(record)
        return [Column(f"{name}\nprobe", partial(cell, name), NOTE) for name in sets]

    def sentences(self, record: Row) -> list[str]:
        """Fits that have not converged."""
        layers = [layer for layer in record["layers"] if layer.get("ood_probes")]
        return [
            sentence
            for name in records.ood_sets(record)
            for sentence in _convergence(
                name, {layer["name"]: layer["ood_probes"].get(name) for layer in layers}
            )
        ]


def probes_of(study: Study) -> LayerProbes | None:
    """The probes on ID data; None where there are none."""
    return cast("LayerProbes | None", study.prepared["probes"])


def ood_probes_of(study: Study) -> dict[str, LayerProbes]:
    """The probes by OOD data set."""
    return cast("dict[str, LayerProbes]", study.prepared["ood_probes"])


def _fitted(study: Study, train: Survey, test: Survey) -> LayerProbes | None:
    unlabelled = sum(int((own.labels < 0).sum()) for own in (train, test))
    if unlabelled:
        study.notes.append(f"no probes of {test.name}: {unlabelled} of its samples have label -1")
        return None
    if len(train.labels.unique()) < 2:
        study.notes.append(f"no probes of {test.name}: its train samples are all of one class")
        return None
    layers = [layer.name for layer in study.network.layers.chosen]
    options = study.options
    return probe_layers(train, test, layers, options.probes, options.seed, options.on_progress)


def _accuracy(probe: Row | None) -> str | None:
    if not probe:
        return None
    return f"{probe['accuracy']:.1%}" + ("" if _ended(probe) else "*")


def _ended(probe: Row) -> bool:
    """Whether the fit ended as it should: it converged, or took the epochs of its preset."""
    return "epochs" in probe or bool(probe.get("converged", True))


def _convergence(data: str, probes: dict[str, Row | None]) -> list[str]:
    unfinished = [layer for layer, probe in probes.items() if probe and not _ended(probe)]
    if not unfinished:
        return []
    some = quoted(unfinished[:3]) + (", ..." if len(unfinished) > 3 else "")
    return [
        f"{len(unfinished)} of {len(probes)} probes on {data} data did not converge ({some}): their "
        "accuracies, and what is computed from them, may be off; raise max_iterations."
    ]
