"""Alignment of every layer's weight matrix with its input (the paper's Figure 3)."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankdeficit.diagnostics.reading.needs import Needs
from rankdeficit.diagnostics.reading.streams import INPUTS
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report.cells import number
from rankdeficit.diagnostics.report.drawing import Curve, by_layer, get
from rankdeficit.diagnostics.study import Study

NAMES = ("alignment", "alignment_error", "alignment_rows", "alignment_random")


def draw(record: Row) -> Figure | None:
    """Alignment of each layer's weight with its input, with error bars, and of random directions."""
    values, errors, _, random = ([get(layer, name) for layer in record["layers"]] for name in NAMES)

    def mean(axes: Axes) -> None:
        value = float(np.nanmean(values))
        axes.axhline(value, color="0.45", linestyle="--", linewidth=1, label=f"mean: {value:.3f}")

    curves = [
        Curve("alignment ± standard error", values, {"color": "C0"}, errors),
        Curve("random directions", random, {"color": "0.6", "linestyle": ":", "marker": ""}),
    ]
    return by_layer(record, curves, "alignment of weight and input", scale="share", more=mean)


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
            weight = study.network.weight(layer)
            if layer.name in states and weight is not None:
                found = states[layer.name].alignment(weight)
                error = None if math.isnan(found.error) else found.error
                own = (found.value, error, found.rows, found.random)
                rows[layer.name] = dict(zip(NAMES, own, strict=True))
        note_unmatched(study)
        if lacking := [name for name, row in rows.items() if row["alignment_error"] is None]:
            study.notes.append(
                f"no error of the alignment of {len(lacking)} layers ({lacking[0]} for one): it takes at "
                "least two groups of different samples"
            )
        wide = {name: own.sample.seen for name, own in states.items() if own.sample is not None}
        if fewer := [name for name, seen in wide.items() if rows[name]["alignment_rows"] < seen]:
            study.notes.append(
                f"alignment of {len(fewer)} wide layers uses only as many of their rows "
                f"as matrix_memory holds ({fewer[0]}: {rows[fewer[0]]['alignment_rows']} of "
                f"{wide[fewer[0]]})"
            )
        known = [row["alignment"] for row in rows.values()]
        return Values(
            sections={"alignment": sum(known) / len(known) if known else None},
            layers=rows,
        )

    def layer_columns(self, record: Row) -> list[Column]:
        """Value with its error, and what random directions give."""
        note = "Alignment with about one standard error over samples."
        random = "Random: the median of as many random directions."
        return [
            Column("alignment", _with_error, note),
            Column("random", lambda layer: number(layer.get("alignment_random"), ".2f"), random),
        ]


def note_unmatched(study: Study) -> None:
    """Note, once, the layers without a single weight matrix, and those read in one branch alone."""
    network = study.network
    without = [layer for layer in network.layers.chosen if network.weight(layer) is None]
    reasons = {
        "have no weights of their own, such as blocks and activations": [
            layer.name for layer in without if layer.kind == "module"
        ],
        "multiply their input by no single matrix, such as grouped convolutions": [
            layer.name for layer in without if layer.kind != "module"
        ],
    }
    found = [
        (names, f"alignment and gradient ranks leave out {len(names)} layers that {reason}")
        for reason, names in reasons.items()
    ]
    partial = [
        layer.name
        for layer in network.layers.chosen
        if layer not in without and len(network.multiplying(layer)) <= len(layer.beside)
    ]
    found.append(
        (
            partial,
            f"alignment and gradient ranks of {len(partial)} layers leave out branches that multiply "
            "other patches of the layer's input",
        )
    )
    for names, told in found:
        note = f"{told} ({''.join(names[:1])} for one)"
        if names and note not in study.notes:
            study.notes.append(note)


def _with_error(layer: Row) -> str | None:
    value, error = layer.get("alignment"), layer.get("alignment_error")
    if value is None:
        return None
    return f"{value:.3f}" + ("" if error is None else f" ± {_error_text(error)}")


def _error_text(error: float) -> str:
    """With three decimals, or as many as its first digit needs: only an error of zero is written as 0."""
    return f"{error:.3f}" if error >= 5e-4 or error == 0 else f"{error:.0e}"
