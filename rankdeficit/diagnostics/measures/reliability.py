"""Reliability of the test samples: accuracy by confidence."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rankdeficit.checks import check_at_least, check_temperature
from rankdeficit.diagnostics.measures.calibration import BINS, fitted_of
from rankdeficit.diagnostics.measures.scaling import ROWS
from rankdeficit.diagnostics.reading.needs import Needs, Rows
from rankdeficit.diagnostics.registry import Blank, Measure, Row, Values, measure
from rankdeficit.diagnostics.study import Study
from rankdeficit.experiments.figure_style import THEORY_COLOUR, with_legend_below
from rankdeficit.softmax import log_softmax


class Reliability(NamedTuple):
    """Bins of equal range of confidence, ((m - 1) / bins, m / bins]."""

    counts: list[int]
    confidences: list[float | None]
    """Mean confidence of each bin; None where it is empty."""
    accuracies: list[float | None]


def reliability(
    logits: Float[Tensor, "n c"],
    labels: Int64[Tensor, " n"],
    temperature: float | Float64[Tensor, " n"] = 1.0,
    bins: int = BINS,
) -> Reliability:
    """Counts, mean confidence and accuracy by bin of confidence max softmax(logits / T), in float64.

    temperature: T, or that of each sample.
    The bins are those of ECE (Guo et al., 2017): ECE = sum_m n_m |accuracy_m - confidence_m| / n.
    Raises ValueError for a bad temperature and bins < 1.
    """
    if not isinstance(temperature, Tensor):
        check_temperature(temperature)
        temperature = torch.full(labels.shape, temperature, dtype=torch.float64)
    check_at_least(1, bins=bins)
    sums = torch.zeros(3, bins, dtype=torch.float64, device=logits.device)
    for block, own, T in zip(
        *(part.split(ROWS) for part in (logits.detach(), labels, temperature.to(logits.device))),
        strict=True,
    ):
        found = log_softmax(block.double(), T, validate=False)
        confidences, predictions = found.exp().max(dim=1)
        places = ((confidences * bins).ceil().long() - 1).clamp(0, bins - 1)
        hits = (predictions == own).double()
        for total, weights in zip(sums, (torch.ones_like(hits), confidences, hits), strict=True):
            total += torch.bincount(places, weights, minlength=bins)
    counts, *means = sums.cpu()
    told = [
        [t / n if n else None for t, n in zip(m.tolist(), counts.tolist(), strict=True)]
        for m in means
    ]
    return Reliability([int(count) for count in counts], *told)


def draw(record: Row) -> Figure | None:
    """Reliability before and after temperature scaling, with the share of samples in each bin."""
    found = record.get("reliability")
    if not found:
        return None
    panels = {f"T = {record['conditions']['temperature']:g}, as trained": found}
    if after := found.get("after"):
        fitted = (record.get("calibration") or {}).get("temperatures") or ()
        told = " and ".join(dict.fromkeys(f"{T:.3g}" for T in fitted))
        panels[f"T = {told}, fitted" if told else "temperature fitted"] = after
    figure = Figure(figsize=(1 + 3.8 * len(panels), 5))
    rows = figure.subplots(
        2, len(panels), sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False
    )
    for (title, own), upper, lower in zip(panels.items(), *rows, strict=True):
        draw_curve(upper, own, "test samples", "C0")
        finish(upper, record)
        counts = own["counts"]
        bins, n = len(counts), sum(counts)
        places = [(m + 0.5) / bins for m in range(bins)]
        lower.bar(places, [c / n for c in counts], 0.9 / bins, color="0.6")
        upper.set_title(title, fontsize=9)
        lower.set(xlabel="confidence (largest probability)", xlim=(0, 1))
        upper.label_outer()
    rows[1][0].set_ylabel("share")
    return with_legend_below(figure, columns=3)


def draw_curve(axes: Axes, found: Row, label: str, colour: str) -> None:
    """Accuracy by mean confidence of the bins that hold samples."""
    points = [
        (q, a)
        for q, a in zip(found["confidences"], found["accuracies"], strict=True)
        if q is not None
    ]
    axes.plot(*zip(*points, strict=True), "-o", markersize=4, color=colour, label=label)


def finish(axes: Axes, record: Row) -> None:
    """The line of perfect calibration, and that of guessing."""
    axes.plot([0, 1], [0, 1], "--", color=THEORY_COLOUR, linewidth=1, label="calibrated")
    chance = 1 / record["network"]["classes"]
    axes.axvline(chance, color="0.6", linestyle=":", linewidth=1, label="uniform predictions")
    axes.set(xlim=(0, 1), ylim=(0, 1.03), ylabel="accuracy")


@measure("reliability", place=125)
class ReliabilityMeasure(Measure):
    """Accuracy of the test samples by the confidence of their predictions."""

    needs = Needs(test=(Rows("logits"),))
    blank = Blank(sections={"reliability": None})
    figures = (("reliability", draw),)

    def values(self, study: Study) -> Values:
        """`Reliability` at the temperature of training, and `after` at those fitted on other samples."""
        logits, labels = study.logits("test"), study.test.labels
        row = reliability(logits, labels, study.options.temperature)._asdict()
        if len(labels) > 1:
            after = reliability(logits, labels, fitted_of(study).per_sample)
            row["after"] = after._asdict()
        return Values(sections={"reliability": row})
