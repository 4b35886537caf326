"""Figures of several records in common axes, a colour per record."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rankdeficit.diagnostics.measures.detection import MARKERS
from rankdeficit.diagnostics.measures.reliability import draw_curve, finish
from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.drawing import get, mark_prediction, numbers
from rankdeficit.diagnostics.report.records import Row
from rankdeficit.experiments.figure_style import set_rank_scale, with_legend_below

SHORT = 20
"""Names of up to so many characters fit beside each other in the legend."""
RANDOM = ("alignment_random",)
BOUND = ("input", "rank")


class Drawing(NamedTuple):
    """A figure with the name of its file."""

    name: str
    figure: Figure
    caption: str


class _ByLayer(NamedTuple):
    """A figure over the layers: a solid line per record, and a dotted one of what it is compared with."""

    name: str
    caption: str
    label: str
    keys: tuple[str, ...]
    reference: tuple[str, ...] = ()
    told: str = ""
    ranks: bool = False


LAYERS = (
    _ByLayer("layer_ranks", "Rank of each layer's representation, test samples", "numerical rank",
             ("test", "rank"), ranks=True),
    _ByLayer("alignment", "Alignment of each layer's weight with its input, and of random directions",
             "alignment of weight and input", ("alignment",), RANDOM, "random directions"),
    _ByLayer("gradient_ranks", "Rank of each layer's loss gradient, and its bound, that of the input",
             "numerical rank", ("gradient", "rank"), BOUND, "bound", ranks=True),
    _ByLayer("probe_accuracies", "Test accuracy of a linear probe on every layer",
             "accuracy of linear probes", ("probe", "accuracy")),
)  # fmt: skip


def drawings(found: Sequence[Row], names: Sequence[str]) -> Iterator[Drawing]:
    """The figures of what at least two records have."""
    makers: list[tuple[str, str, Callable[[Sequence[tuple[int, str, Row]]], Figure | None]]] = [
        ("logits_ranks", "Class-centred rank of the train logits over gamma; dotted: raw", _ranks),
        ("singular_values", "Singular values of the train logits over the largest", _spectra),
        *((own.name, own.caption, _layer_maker(own)) for own in LAYERS),
        ("detection", "AUROC of every OOD detector", _detection),
        ("reliability", "Accuracy by confidence, test samples", _reliability),
    ]
    for data in dict.fromkeys(name for record in found for name in records.ood_sets(record)):
        own = _ByLayer(
            f"probe_accuracies_{data}",
            f"Accuracy of linear probes for the labels of {data}",
            f"accuracy of linear probes, {data}",
            ("ood_probes", data, "accuracy"),
        )
        makers.append((own.name.replace("/", "-"), own.caption, _layer_maker(own)))
    items = [(i, name, record) for i, (name, record) in enumerate(zip(names, found, strict=True))]
    columns = 2 if max(map(len, names)) <= SHORT else 1
    for name, caption, make in makers:
        figure = make(items)
        if figure is not None:
            figure.suptitle(" and ".join(names), fontsize=10, wrap=True)
            yield Drawing(name, with_legend_below(figure, columns), f"{caption}.")


def _ranks(items: Sequence[tuple[int, str, Row]]) -> Figure | None:
    own = [item for item in items if item[2]["train"].get("logits")]
    if len(own) < 2:
        return None
    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    for i, name, record in own:
        for kind, line in (("centred_rank", "-o"), ("rank", ":")):
            if f"{kind}_curve" in record["train"]["logits"]:
                curve = records.rank_over_gamma(record, record["train"]["logits"], kind)
                label = name if line == "-o" else f"{name}, raw"
                axes.plot(
                    [*curve], [*curve.values()], line, color=f"C{i}", markersize=4, label=label
                )
    _predictions(axes.axhline, own)
    axes.set(xscale="log", xlabel="threshold γ", ylabel="numerical rank of the train logits")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _spectra(items: Sequence[tuple[int, str, Row]]) -> Figure | None:
    own = [
        (i, name, record, values)
        for i, name, record in items
        if (values := (record["train"].get("logits") or {}).get("singular_values"))
        and values[0] > 0
    ]
    if len(own) < 2:
        return None
    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    for i, name, _, values in own:
        relative = [value / values[0] for value in values]
        axes.plot(numbers(values), relative, "-o", color=f"C{i}", markersize=3, label=name)
    gammas = sorted({record["conditions"]["gamma"] for _, _, record, _ in own})
    for gamma in gammas:
        axes.axhline(gamma, color="0.45", linestyle="--", linewidth=1, label=f"γ = {gamma:g}")
    _predictions(axes.axvline, [item[:3] for item in own])
    axes.set(yscale="log", ylim=(gammas[0] / 100, 2), xlabel="index i")
    axes.set_ylabel(r"singular value of the logits, $\sigma_i/\sigma_1$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _predictions(line: Callable[..., Any], items: Sequence[tuple[int, str, Row]]) -> None:
    """The rank that Neural Collapse predicts, once per value."""
    for record in {records.predicted_rank(record): record for _, _, record in items}.values():
        mark_prediction(line, record, ":")


def _layer_maker(own: _ByLayer) -> Callable[[Sequence[tuple[int, str, Row]]], Figure | None]:
    return lambda items: _by_layer(own, items)


def _by_layer(own: _ByLayer, items: Sequence[tuple[int, str, Row]]) -> Figure | None:
    """Over the layers' numbers, or over their share of the depth where networks have different ones."""
    found = [
        (i, name, record, values)
        for i, name, record in items
        if not all(map(math.isnan, values := [get(layer, *own.keys) for layer in record["layers"]]))
    ]
    if len(found) < 2:
        return None
    depths = {len(record["layers"]) for _, _, record, _ in found}
    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    for i, name, record, values in found:
        at = [place if len(depths) == 1 else place / len(values) for place in numbers(values)]
        axes.plot(at, values, "-o", color=f"C{i}", markersize=3, label=name)
        if own.reference:
            reference = [get(layer, *own.reference) for layer in record["layers"]]
            axes.plot(at, reference, ":", color=f"C{i}", linewidth=1, label=f"{name}, {own.told}")
        chance = _chance(own, record)
        if chance is not None:
            label = f"{name}, guessing"
            axes.axhline(chance, color=f"C{i}", linestyle=":", linewidth=1, label=label)
    axes.set(ylabel=own.label, xlabel="layer" if len(depths) == 1 else "layer, share of the depth")
    if own.ranks:
        set_rank_scale(axes)
        axes.set_ylim(bottom=0)
    else:
        axes.set_ylim(0, 1.03)
    if len(depths) == 1:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _chance(own: _ByLayer, record: Row) -> float | None:
    if own.keys[0] == "probe":
        return records.chance(record)
    return records.ood_chance(record, own.keys[1]) if own.keys[0] == "ood_probes" else None


def _detection(items: Sequence[tuple[int, str, Row]]) -> Figure | None:
    own = [item for item in items if records.detectors(item[2])]
    if len(own) < 2:
        return None
    names = list(dict.fromkeys(name for _, _, record in own for name in records.detectors(record)))[
        ::-1
    ]
    sets = list(dict.fromkeys(data for _, _, record in own for data in records.detections(record)))
    found = [record for _, _, record in own]
    figure = Figure(figsize=(6.4, 2 + 0.3 * len(names)))
    axes: Axes = figure.subplots()
    for i, name, record in own:
        for number, data in enumerate(sets):
            rows = records.detections(record).get(data, {})
            values = [get(rows, detector, "auroc") for detector in names]
            marker = MARKERS[number % len(MARKERS)]
            axes.plot(
                values, range(len(names)), marker, color=f"C{i}", alpha=0.8, label=f"{name}, {data}"
            )
    axes.axvline(0.5, color="0.45", linestyle="--", linewidth=1, label="guessing")
    labels = [dict.fromkeys(records.detector_label(own, name) for own in found) for name in names]
    axes.set_yticks(range(len(names)), [" / ".join(label) for label in labels])
    axes.grid(axis="y", alpha=0.3)
    axes.set(xlim=(min(0.45, *axes.get_xlim()), 1.01), xlabel="AUROC")
    return figure


def _reliability(items: Sequence[tuple[int, str, Row]]) -> Figure | None:
    own = [item for item in items if item[2].get("reliability")]
    if len(own) < 2:
        return None
    figure = Figure(figsize=(5, 4.6))
    axes = figure.subplots()
    for i, name, record in own:
        draw_curve(axes, record["reliability"], name, f"C{i}")
    finish(axes, own[0][2])
    axes.set_xlabel("confidence (largest probability)")
    return figure
