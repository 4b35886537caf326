"""The figures of a report, each drawn from its record alone; None where the record lacks the measure."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rankdeficit.diagnostics.measures.depth import SHARE
from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.records import Row
from rankdeficit.experiments.plots import THEORY_COLOUR, with_legend_below

NAMED_LAYERS = 24
"""Layers are named on the axis up to this many, and up to the next constant's letters."""
NAME_LENGTH = 24
MARKED_VALUES = 50
SMALLEST_RATIO = 1e-8
"""Lower end of the axis of relative singular values."""


def probe_accuracies(record: Row) -> Figure | None:
    """Accuracy of linear probes by layer, ID and OOD, with effective depth (the paper's Figure 1)."""
    layers, kappa = record["layers"], record.get("effective_depth")
    known = [_get(layer, "probe", "accuracy") for layer in layers]
    strange = {
        name: [_get(layer, "ood_probes", name, "accuracy") for layer in layers]
        for name in records.ood_sets(record)
    }
    curves = {"ID": known, **{f"OOD: {name}": values for name, values in strange.items()}}
    curves = {label: values for label, values in curves.items() if not np.isnan(values).all()}
    if not curves:
        return None
    figure, axes = _layer_axes(record)
    for number, (label, values) in enumerate(curves.items()):
        style = "-" if label == "ID" else "--"
        axes.plot(
            _numbers(values), values, f"{style}o", markersize=3, color=f"C{number}", label=label
        )
    if kappa and not math.isnan(known[-1]):
        layer = kappa["value"] * len(layers)
        label = f"κ = {kappa['value']:.3g}"
        axes.axvline(layer, color=THEORY_COLOUR, linestyle="--", linewidth=1, label=label)
        ends = [end * len(layers) for end in kappa["interval"]]
        axes.axvspan(*ends, color="0.5", alpha=0.25, label=f"{kappa['level']:.0%} interval of κ")
        axes.axhspan(
            SHARE * known[-1], known[-1], color="C0", alpha=0.3,
            label=f"{SHARE:.0%}-100% of the last layer's",
        )  # fmt: skip
    axes.set(ylim=(0, 1.03), ylabel="accuracy of linear probes")
    return with_legend_below(figure, columns=3)


def layer_ranks(record: Row) -> Figure | None:
    """Numerical rank of each layer's representation at several thresholds, train and test."""
    layers, gammas = record["layers"], records.shown_gammas(record)
    if not layers:
        return None
    figure, axes = _layer_axes(record)
    features = [layer["features"] for layer in layers]
    axes.plot(_numbers(features), features, color="0.85", linewidth=5, label="features")
    colours = colormaps["plasma"](np.linspace(0.05, 0.75, len(gammas)))
    for gamma, colour in zip(gammas, colours, strict=True):
        for data, style in (("train", "-"), ("test", ":")):
            ranks = [records.rank_over_gamma(record, layer[data])[gamma] for layer in layers]
            label = f"{data}, γ = {gamma:g}"
            axes.plot(
                _numbers(ranks), ranks, style, marker="o", markersize=3, color=colour, label=label
            )
    _rank_scale(axes, "numerical rank")
    return with_legend_below(figure, columns=4)


def alignments(record: Row) -> Figure | None:
    """Alignment of each layer's weight with its input, with error bars, and the mean over layers."""
    layers = record["layers"]
    values = [_get(layer, "alignment") for layer in layers]
    if np.isnan(values).all():
        return None
    errors = [_get(layer, "alignment_error") for layer in layers]
    figure, axes = _layer_axes(record)
    label = "alignment ± standard error"
    axes.errorbar(
        _numbers(values), values, errors, fmt="o-", markersize=3, capsize=2, color="C0", label=label
    )
    mean = float(np.nanmean(values))
    axes.axhline(mean, color="0.45", linestyle="--", linewidth=1, label=f"mean: {mean:.3f}")
    axes.set(ylim=(0, 1.03), ylabel="alignment of weight and input")
    return with_legend_below(figure, columns=2)


def gradient_ranks(record: Row) -> Figure | None:
    """Rank of each layer's loss gradient beside that of the layer's input, which bounds it."""
    layers = record["layers"]
    inputs = [_get(layer, "input", "rank") for layer in layers]
    gradients = [_get(layer, "gradient", "rank") for layer in layers]
    if np.isnan(gradients).all():
        return None
    figure, axes = _layer_axes(record)
    at = _numbers(inputs)
    axes.plot(at, inputs, "--s", markersize=3, color="C1", label="layer's input")
    axes.plot(at, gradients, "-o", markersize=3, color="C0", label="gradient of the loss")
    _rank_scale(axes, f"numerical rank, γ = {record['conditions']['gamma']:g}")
    return with_legend_below(figure, columns=2)


def logits_ranks(record: Row) -> Figure | None:
    """Rank of the logits over gamma: as they are, centred, after the softmax."""
    kinds = {"rank": "logits", "centred_rank": "centred", "post_softmax_rank": "after the softmax"}
    figure = Figure(figsize=(8, 3.6))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, data in zip(panels, ("train", "test"), strict=True):
        measures = record[data]["logits"]
        for kind, style in zip(kinds, ("-o", "--s", "-.^"), strict=True):
            if f"{kind}_curve" in measures:
                curve = records.rank_over_gamma(record, measures, kind)
                axes.plot([*curve], [*curve.values()], style, markersize=4, label=kinds[kind])
        _mark_prediction(axes.axhline, record, "--")
        gamma = record["conditions"]["gamma"]
        axes.axvline(gamma, color="0.6", linestyle=":", linewidth=1, label=f"γ = {gamma:g}")
        axes.set(xscale="log", xlabel="threshold γ", ylim=(0, 1.08 * record["network"]["classes"]))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(f"{data} samples", fontsize=9)
    panels[0].set_ylabel("numerical rank")
    return with_legend_below(figure, columns=5)


def singular_values(record: Row) -> Figure | None:
    """Singular values of the logits relative to the largest, with the threshold."""
    spectra = {
        data: [value / values[0] for value in values]
        for data in ("train", "test")
        if (values := record[data]["logits"].get("singular_values")) and values[0] > 0
    }
    if not spectra:
        return None
    figure = Figure(figsize=(6.4, 4))
    axes = figure.subplots()
    for (data, values), style in zip(spectra.items(), ("-o", ":s"), strict=False):
        size = 3 if len(values) <= MARKED_VALUES else 0
        axes.plot(_numbers(values), values, style, markersize=size, label=data)
    smallest = min(value for values in spectra.values() for value in values if value > 0)
    gamma = record["conditions"]["gamma"]
    axes.axhline(gamma, color="0.45", linestyle="--", linewidth=1, label=f"γ = {gamma:g}")
    _mark_prediction(axes.axvline, record, ":")
    low = max(min(smallest, gamma) / 3, SMALLEST_RATIO)
    axes.set(yscale="log", ylim=(low, 2), xlabel="index i")
    axes.set_ylabel(r"singular value of the logits, $\sigma_i/\sigma_1$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return with_legend_below(figure, columns=4)


def detection(record: Row) -> Figure | None:
    """AUROC of every detector on every OOD data set; the network's own NECO is marked."""
    names = records.detectors(record)[::-1]
    if not names:
        return None
    figure = Figure(figsize=(6.4, 1.6 + 0.3 * len(names)))
    axes = figure.subplots()
    found = {name: rows for name, rows in sorted(records.detections(record).items()) if rows}
    for number, (data, rows) in enumerate(found.items(), start=1):
        scores = [_get(rows, name, "auroc") for name in names]
        marker = "osD^vP"[(number - 1) % 6]
        axes.plot(
            scores,
            range(len(names)),
            marker,
            markersize=6,
            alpha=0.8,
            color=f"C{number}",
            label=data,
        )
    axes.axvline(0.5, color="0.45", linestyle="--", linewidth=1, label="guessing")
    default = records.default_neco(record)
    axes.set_yticks(range(len(names)), [name + " *" * (name == default) for name in names])
    axes.grid(axis="y", alpha=0.3)
    axes.set(xlim=(min(0.45, *axes.get_xlim()), 1.01), xlabel="AUROC (* NECO for this network)")
    return with_legend_below(figure, columns=4)


def calibration(record: Row) -> Figure | None:
    """Calibration of the test samples before and after temperature scaling."""
    found = record.get("calibration")
    if not found:
        return None
    figure = Figure(figsize=(7, 3))
    names = {"nll": "NLL, nats", "ece": "ECE", "brier": "Brier score"}
    for axes, (name, label) in zip(figure.subplots(1, len(names)), names.items(), strict=True):
        values = [found[when][name] for when in ("before", "after")]
        bars = axes.bar(["before", "after"], values, color=["0.6", "C0"])
        axes.bar_label(bars, fmt="%.3g", fontsize=8)
        axes.margins(y=0.12)
        axes.set_title(label, fontsize=9)
    return with_legend_below(figure, columns=1)


FIGURES: dict[str, Callable[[Row], Figure | None]] = {
    "probe_accuracies": probe_accuracies,
    "layer_ranks": layer_ranks,
    "alignment": alignments,
    "gradient_ranks": gradient_ranks,
    "logits_ranks": logits_ranks,
    "singular_values": singular_values,
    "detection": detection,
    "calibration": calibration,
}
"""By the file's name."""


def _layer_axes(record: Row) -> tuple[Figure, Axes]:
    """Layers are numbered from 1, and named where there is room."""
    names = [layer["name"] for layer in record["layers"]]
    named = len(names) <= NAMED_LAYERS and max(map(len, names)) <= NAME_LENGTH
    width = min(6.4 + 0.08 * max(0, len(names) - 18), 12)
    figure = Figure(figsize=(width, 4.8 if named else 4))
    axes = figure.subplots()
    if named:
        axes.set_xticks(
            range(1, len(names) + 1),
            [f"{name}  {number}" for number, name in enumerate(names, start=1)],
            rotation=90,
            fontsize=7,
        )
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="layer", xlim=(0.5, len(names) + 0.5))
    return figure, axes


def _numbers(values: Sequence[Any]) -> range:
    return range(1, len(values) + 1)


def _rank_scale(axes: Axes, label: str) -> None:
    """Logarithmic, but with room for rank 0."""
    axes.set_yscale("symlog", linthresh=1, linscale=0.3)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(label)


def _mark_prediction(line: Callable[..., Any], record: Row, style: str) -> None:
    predicted = records.predicted_rank(record)
    label = f"Neural Collapse: {predicted}"
    line(predicted, color=THEORY_COLOUR, linestyle=style, linewidth=1, label=label)


def _get(node: Any, *keys: str) -> float:
    """The number below the keys; NaN where there is none."""
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return math.nan if node is None else float(node)
