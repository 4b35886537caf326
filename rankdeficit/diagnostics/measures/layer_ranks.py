"""Numerical ranks of the representation after every layer, and of what the classifier reads."""

from functools import partial

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from rankdeficit.diagnostics.reading.needs import Needs
from rankdeficit.diagnostics.reading.streams import FEATURES, PENULTIMATE
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.cells import rank_text, text
from rankdeficit.diagnostics.report.drawing import Curve, by_layer, get
from rankdeficit.diagnostics.study import Study
from rankdeficit.spectrum import Spectrum

COARSE_GAMMAS = (1e-2, 1e-1)
"""Thresholds at which layers' ranks are shown besides the record's own."""


def rank_row(found: Spectrum, gamma: float) -> Row:
    """`Spectrum.record` with the convention of its ranks: nothing is subtracted from the matrix."""
    return found.record(gamma) | {"convention": "matrix"}


def draw(record: Row) -> Figure | None:
    """Numerical rank of each layer's representation at several thresholds, train and test."""
    layers, gammas = record["layers"], shown_gammas(record)
    if not layers or not all(_measured(layer) for layer in layers):
        return None
    features = [get(layer, "features") for layer in layers]
    curves = [Curve("features", features, {"marker": "", "color": "0.85", "linewidth": 5})]
    colours = colormaps["plasma"](np.linspace(0.05, 0.75, len(gammas)))
    for gamma, colour in zip(gammas, colours, strict=True):
        for data, line in (("train", "-"), ("test", ":")):
            ranks = [records.rank_over_gamma(record, layer[data])[gamma] for layer in layers]
            style = {"linestyle": line, "color": colour}
            curves.append(Curve(f"{data}, γ = {gamma:g}", ranks, style))
    return by_layer(record, curves, "numerical rank", scale="rank", columns=4)


def shown_gammas(record: Row) -> list[float]:
    """Thresholds at which layers' ranks are shown."""
    return sorted({record["conditions"]["gamma"], *COARSE_GAMMAS})


@measure("layer_ranks", place=20)
class LayerRanks(Measure):
    """Numerical ranks of the representation after every layer, over thresholds."""

    needs = Needs(train=(FEATURES,), test=(FEATURES,))
    blank = Blank(layers={"train": None, "test": None})
    figures = (("layer_ranks", draw),)

    def values(self, study: Study) -> Values:
        """`rank_row` by layer, of train and test samples."""
        states = {survey.name: survey.by_layer(FEATURES) for survey in (study.train, study.test)}
        return Values(
            layers={
                layer.name: {
                    data: rank_row(own[layer.name].spectrum(), study.options.gamma)
                    for data, own in states.items()
                }
                for layer in study.network.layers.chosen
            }
        )

    def layer_columns(self, record: Row) -> list[Column]:
        """Train / test at each shown gamma."""
        note = "Ranks at each gamma (convention: matrix), train / test."
        return [
            Column(f"rank at\n{gamma:g}", partial(_ranks_at, record, gamma), note)
            for gamma in shown_gammas(record)
        ]


@measure("penultimate", place=25)
class Penultimate(Measure):
    """Numerical ranks of what the classifier reads, over thresholds."""

    needs = Needs(train=(PENULTIMATE,), test=(PENULTIMATE,))
    blank = Blank(sections={"penultimate": {}})

    def values(self, study: Study) -> Values:
        """`rank_row` of train and test samples."""
        return Values(
            sections={
                "penultimate": {
                    survey.name: rank_row(survey.state(PENULTIMATE).spectrum(), study.options.gamma)
                    for survey in (study.train, study.test)
                }
            }
        )


def _measured(layer: Row) -> bool:
    return bool(layer.get("train") and layer.get("test"))


def _ranks_at(record: Row, gamma: float, layer: Row) -> str | None:
    if not _measured(layer):
        return None
    if gamma == record["conditions"]["gamma"]:
        return f"{rank_text(layer['train'])}/{rank_text(layer['test'])}"
    curves = (records.rank_over_gamma(record, layer[data]) for data in ("train", "test"))
    return "/".join(text(curve.get(gamma)) or "-" for curve in curves)
