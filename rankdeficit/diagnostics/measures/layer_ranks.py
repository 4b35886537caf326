"""Numerical ranks of the representation after every layer, and of the classifier's input."""

import math
from collections.abc import Mapping
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
from rankdeficit.diagnostics.study import Options, Study
from rankdeficit.gram import Gram
from rankdeficit.spectrum import Convention, Spectrum

COARSE_GAMMAS = (1e-2, 1e-1)
"""Thresholds at which layers' ranks are shown besides the record's own."""


def rank_row(found: Spectrum, gamma: float, convention: Convention = "matrix") -> Row:
    """`Spectrum.record` with the convention of its ranks."""
    return found.record(gamma) | {"convention": convention}


def streamed_row(gram: Gram, options: Options) -> Row:
    """The same of streamed rows, in the convention of the options."""
    return rank_row(gram.spectrum(options.convention), options.gamma, options.convention)


def draw(record: Row) -> Figure | None:
    """Numerical rank of each layer's representation at several thresholds, train and test."""
    layers, gammas = record["layers"], shown_gammas(record)
    if not any(_measured(layer) for layer in layers):
        return None
    features = [get(layer, "features") for layer in layers]
    curves = [Curve("features", features, {"marker": "", "color": "0.85", "linewidth": 5})]
    colours = colormaps["plasma"](np.linspace(0.05, 0.75, len(gammas)))
    for gamma, colour in zip(gammas, colours, strict=True):
        for data, line in (("train", "-"), ("test", ":")):
            ranks = [
                records.rank_over_gamma(record, layer[data])[gamma]
                if _measured(layer)
                else math.nan
                for layer in layers
            ]
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
        """`streamed_row` by layer, of train and test samples; a note where memory does not allow them."""
        states = {survey.name: survey.by_layer(FEATURES) for survey in (study.train, study.test)}
        rows: dict[str, Row] = {}
        for layer in study.network.layers.chosen:
            own = {data: found[layer.name] for data, found in states.items()}
            if have_spectra(study, own, f"ranks of {layer.name}"):
                rows[layer.name] = {
                    data: streamed_row(gram, study.options) for data, gram in own.items()
                }
        return Values(layers=rows)

    def layer_columns(self, record: Row) -> list[Column]:
        """Train / test at each shown gamma."""
        note = (
            f"Ranks at each gamma (convention: {record['conditions'].get('convention', 'matrix')}), "
            "train / test."
        )
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
        """`streamed_row` of train and test samples."""
        own = {survey.name: survey.state(PENULTIMATE) for survey in (study.train, study.test)}
        if not have_spectra(study, own, "ranks of what the classifier reads"):
            return Values()
        rows = {name: streamed_row(gram, study.options) for name, gram in own.items()}
        return Values(sections={"penultimate": rows})


def have_spectra(study: Study, grams: Mapping[str, Gram], what: str) -> bool:
    """Whether all of these have a spectrum; otherwise a note is added."""
    for data, gram in grams.items():
        if gram.reason is not None:
            study.notes.append(f"no {what}, {data}: {gram.reason}; give a larger matrix_memory")
            return False
    return True


def _measured(layer: Row) -> bool:
    return bool(layer.get("train") and layer.get("test"))


def _ranks_at(record: Row, gamma: float, layer: Row) -> str | None:
    if not _measured(layer):
        return None
    if gamma == record["conditions"]["gamma"]:
        return f"{rank_text(layer['train'])}/{rank_text(layer['test'])}"
    curves = (records.rank_over_gamma(record, layer[data]) for data in ("train", "test"))
    return "/".join(text(curve.get(gamma)) or "-" for curve in curves)
