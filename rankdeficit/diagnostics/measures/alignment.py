"""Alignment of every layer's weight matrix with its input (the paper's Figure 3)."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankdeficit.diagnostics.reading.needs import Needs
from rankdeficit.diagnostics.reading.streams import INPUTS
from rankdeficit.diagnostics.reading.unfolding import weight_matrix
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report.drawing import Curve, by_layer, get
from rankdeficit.diagnostics.study import Study

NAMES = ("alignment", "alignment_error", "alignment_rows")


def draw(record: Row) -> Figure | None:
    """Alignment of each layer's weight with its input, with error bars, and the mean over layers."""
    values, errors = ([get(layer, name) for layer in record["layers"]] for name in NAMES[:2])

    def mean(axes: Axes) -> None:
        value = float(np.nanmean(values))
        axes.axhline(value, color="0.45", linestyle="--", linewidth=1, label=f"mean: {value:.3f}")

    curve = Curve("alignment ± standard error", values, {"color": "C0"}, errors)
    return by_layer(record, [curve], "alignment of weight and input", scale="share", more=mean)


@measure("alignment", place=30)
class Alignment(Measure):
    """Largest |cosine| between top singular vectors of every layer's weight and of its input."""

    needs = Needs(train=(INPUTS,))
    switch = "alignment"
    blank = Blank(sections={"alignment": None}, layers=dict.fromkeys(NAMES))
    figures = (("alignment", draw),)

    def values(self, study: Study) -> Values:
        """By layer, with the mean over layers; None for layers without a single weight matrix."""
        states = study.train.by_layer(INPUTS)
        rows: dict[str, Row] = {}
        for layer in study.network.layers.chosen:
            weight = weight_matrix(study.network.module(layer.module))
            if layer.name in states and weight is not None:
                found = states[layer.name].alignment(weight)
                error = None if math.isnan(found.error) else found.error
                rows[layer.name] = dict(zip(NAMES, (found.value, error, found.rows), strict=True))
        if states:
            note_unmatched(study)
        known = [row["alignment"] for row in rows.values()]
        return Values(
            sections={"alignment": sum(known) / len(known) if known else None},
            layers=rows,
        )

    def layer_columns(self, record: Row) -> list[Column]:
        """Value with its error."""
        return [Column("alignment", _with_error, "Alignment with about one standard error.")]


def note_unmatched(study: Study) -> None:
    """Note, once, the layers that have no single weight matrix."""
    network = study.network
    unmatched = [
        layer.name
        for layer in network.layers.chosen
        if layer.kind != "module" and weight_matrix(network.module(layer.module)) is None
    ]
    note = (
        f"alignment and gradient ranks leave out {len(unmatched)} layers that multiply their "
        f"input by no single matrix, such as grouped convolutions ({''.join(unmatched[:1])} for one)"
    )
    if unmatched and note not in study.notes:
        study.notes.append(note)


def _with_error(layer: Row) -> str | None:
    value, error = layer.get("alignment"), layer.get("alignment_error")
    if value is None:
        return None
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")
