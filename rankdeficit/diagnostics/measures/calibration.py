"""Calibration of the probabilities softmax(logits / T), and the temperature that improves it.

The temperature of training is part of the network: pass it to every function that takes a temperature.
Logits may be as large as a memory map holds: they are read in blocks of rows, and only a block is in
float64.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import check_at_least, check_temperature
from rankdeficit.diagnostics.measures.scaling import (
    ROWS,
    Limit,
    check_samples,
    fit_rows,
    fit_vector,
    gaussian_temperature,
)
from rankdeficit.diagnostics.measures.smooth_ece import smooth_ece
from rankdeficit.diagnostics.reading.needs import Needs, Rows
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report.cells import make_table, number, percent
from rankdeficit.diagnostics.study import Study
from rankdeficit.experiments.figure_style import with_legend_below
from rankdeficit.softmax import log_softmax

BINS = 15
"""Bins of the calibration error, the number Guo et al. use."""


class Calibration(NamedTuple):
    """Losses of the predicted probabilities; all 0 where every prediction is certain and right."""

    nll: float
    """Negative log-likelihood: mean of -ln p_y, in nats; uniform predictions have ln c."""
    ece: float
    """Expected calibration error: mean |accuracy - confidence| of bins of equal confidence range."""
    brier: float
    """Mean of sum_k (p_k - y_k)^2; uniform predictions have 1 - 1/c."""
    smooth_ece: float
    """Smooth calibration error smECE of the largest probability, which needs no bins."""


class TemperatureScaling(NamedTuple):
    """Calibration before and after temperatures fitted on samples other than those they are used on."""

    before: Calibration
    after: Calibration
    temperatures: tuple[float, float]
    """The one fitted on the second half and used on the first, and the other way round."""
    limits: tuple[Limit | None, Limit | None]
    """`temperature_limit` of each: not None if the temperature only represents a limit."""


class CrossFitted(NamedTuple):
    """Temperatures fitted on samples other than those they are used on."""

    per_sample: Float64[Tensor, " n"]
    temperatures: tuple[float, float]
    """The one fitted on the second half and used on the first, and the other way round."""
    limits: tuple[Limit | None, Limit | None]


class VectorScaled(NamedTuple):
    """Calibration after vector scaling, which may change predictions."""

    after: Calibration
    accuracy: float


def calibration(
    logits: Float[Tensor, "n c"],
    labels: Int64[Tensor, " n"],
    temperature: float = 1.0,
    bins: int = BINS,
) -> Calibration:
    """Calibration of softmax(logits / T), in float64.

    ECE is that of Guo et al. (2017, arXiv 1706.04599, equation 3): confidence is the largest
    probability, bin m of `bins` holds those in ((m - 1) / bins, m / bins], bins are weighted by
    their number of samples. Raises ValueError for a bad temperature, bins < 1, labels that are not n
    classes of the logits, and logits that are not finite.
    """
    check_temperature(temperature)
    check_samples(logits, labels)
    return _calibration(logits, labels, lambda block, rows: _at(block, temperature), bins)[0]


def temperature_scaling(
    logits: Float[Tensor, "n c"],
    labels: Int64[Tensor, " n"],
    temperature: float = 1.0,
    bins: int = BINS,
    seed: int = 0,
) -> TemperatureScaling:
    """Calibration at the temperature of training and, cross-fitted, at the best one (Guo et al., 2017).

    The samples are halved by a permutation seeded with `seed`, and each half is calibrated with the
    temperature fitted on the other: no sample influences its own temperature. Predictions do not change.
    Raises ValueError as `calibration`, and for fewer than two samples.
    """
    before = calibration(logits, labels, temperature, bins)
    fitted = cross_fit(logits, labels, seed)
    after = _scaled(logits, labels, fitted, bins)
    return TemperatureScaling(before, after, fitted.temperatures, fitted.limits)


def cross_fit(
    logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], seed: int = 0
) -> CrossFitted:
    """The temperatures of `temperature_scaling`. Raises ValueError as that."""
    check_at_least(2, samples=len(labels))
    check_samples(logits, labels)
    first, second = _halves(labels, seed)
    on_first, on_second = fit_rows(logits, labels, second), fit_rows(logits, labels, first)
    temperatures = torch.empty(labels.shape, dtype=torch.float64, device=logits.device)
    temperatures[first], temperatures[second] = on_first[0], on_second[0]
    return CrossFitted(temperatures, (on_first[0], on_second[0]), (on_first[1], on_second[1]))


def fitted_of(study: Study) -> CrossFitted:
    """The temperatures of the test samples, fitted once for all measures."""
    found: CrossFitted | None = study.prepared.get("calibration")
    if found is None:
        found = cross_fit(study.logits("test"), study.test.labels, study.options.seed)
        study.prepared["calibration"] = found
    return found


def vector_scaling(
    logits: Float[Tensor, "n c"],
    labels: Int64[Tensor, " n"],
    bins: int = BINS,
    seed: int = 0,
) -> VectorScaled | None:
    """Calibration with weights and biases per class, cross-fitted on the halves of `temperature_scaling`.

    None where `fit_vector_scaling` is None on either half. With few samples per class it overfits.
    Raises ValueError as `temperature_scaling`.
    """
    check_at_least(2, samples=len(labels))
    check_samples(logits, labels)
    first, second = _halves(labels, seed)
    on_first, on_second = fit_vector(logits, labels, second), fit_vector(logits, labels, first)
    if on_first is None or on_second is None:
        return None
    in_second = torch.zeros(labels.shape, dtype=torch.int64, device=logits.device)
    in_second[second] = 1
    weights = torch.stack([on_first.weights, on_second.weights])
    biases = torch.stack([on_first.biases, on_second.biases])

    def log_probabilities(block: Tensor, rows: slice) -> Tensor:
        half = in_second[rows]
        return _at(block * weights[half] + biases[half], 1.0)

    return VectorScaled(*_calibration(logits, labels, log_probabilities, bins))


def draw(record: Row) -> Figure | None:
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


@measure("calibration", place=120)
class CalibrationMeasure(Measure):
    """NLL, ECE, Brier score and smooth ECE of the test samples before and after temperature scaling."""

    needs = Needs(test=(Rows("logits"),))
    blank = Blank(sections={"calibration": None})
    figures = (("calibration", draw),)

    def values(self, study: Study) -> Values:
        """`TemperatureScaling` of the test samples; a note where there is only one."""
        if len(study.test.labels) < 2:
            study.notes.append("no calibration: cross-fitting needs at least two test samples")
            return Values()
        logits, labels, found = study.logits("test"), study.test.labels, fitted_of(study)
        by_class = vector_scaling(logits, labels, seed=study.options.seed)
        row = {
            "before": calibration(logits, labels, study.options.temperature)._asdict(),
            "after": _scaled(logits, labels, found, BINS)._asdict(),
            "vector": by_class and {**by_class.after._asdict(), "accuracy": by_class.accuracy},
            "temperatures": list(found.temperatures),
            "limits": list(found.limits),
            "gaussian_temperature": gaussian_temperature(logits, labels),
        }
        if any(found.limits):
            tends = " and ".join(sorted({limit for limit in found.limits if limit}))
            study.notes.append(
                f"calibration has no best finite temperature: the loss keeps falling as T tends to "
                f"{tends}, so a bound is used instead"
            )
        return Values(sections={"calibration": row})

    def tables(self, record: Row) -> list[Table]:
        """A row before scaling, one after temperature scaling, and one after vector scaling."""
        found = record.get("calibration")
        if not found:
            return []
        T = record["conditions"]["temperature"]
        fitted = found.get("temperatures") or ()
        temperatures = {"before": f"{T:g}", "after": ", ".join(f"{own:.3g}" for own in fitted)}
        note = "Test samples; after: each half with the temperature fitted on the other"
        rows = {"before": "before", "after": "after"}
        if found.get("vector"):
            rows["vector"] = "vector scaling"
            note += ", or with a weight and a bias for each class, which may change predictions"
        columns = [
            Column("calibration", rows.__getitem__, f"{note}."),
            Column("T", temperatures.get, _ratios(fitted, found.get("gaussian_temperature"), T)),
            Column("NLL", lambda name: number(found[name]["nll"])),
            Column("ECE", lambda name: percent(found[name]["ece"])),
            Column("smECE", lambda name: percent(found[name].get("smooth_ece"))),
            Column("Brier", lambda name: number(found[name]["brier"])),
        ]
        return [make_table("Calibration", columns, list(rows))]


def _ratios(fitted: Sequence[float], gaussian: float | None, temperature: float) -> str:
    """A sentence on fitted and predicted temperatures relative to that of training."""
    if not fitted:
        return ""
    spelled = " and ".join(f"{own / temperature:.3g}" for own in fitted)
    sentence = f"Fitted temperatures are {spelled} times that of training"
    if gaussian is not None:
        sentence += (
            f"; Gaussian logits of this margin and variance would have {gaussian / temperature:.3g}"
        )
    return f"{sentence}."


def _halves(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of both halves of the samples."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    first, second = (half.sort().values.to(labels.device) for half in order.tensor_split(2))
    return first, second


def _scaled(logits: Tensor, labels: Tensor, fitted: CrossFitted, bins: int) -> Calibration:
    def log_probabilities(block: Tensor, rows: slice) -> Tensor:
        return _at(block, fitted.per_sample[rows])

    return _calibration(logits, labels, log_probabilities, bins)[0]


def _at(block: Tensor, temperature: float | Tensor) -> Tensor:
    return log_softmax(block, temperature, validate=False)


def _calibration(
    logits: Tensor,
    labels: Tensor,
    log_probabilities: Callable[[Tensor, slice], Tensor],
    bins: int,
) -> tuple[Calibration, float]:
    """Calibration and accuracy. log_probabilities: of a block of logits in float64, and its rows."""
    check_at_least(1, bins=bins)
    nll = brier = 0.0
    n = len(labels)
    confidences = torch.empty(labels.shape, dtype=torch.float64, device=logits.device)
    hits = torch.empty_like(confidences)
    gaps = torch.zeros(bins, dtype=torch.float64, device=logits.device)
    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        own = labels[rows]
        found = log_probabilities(logits[rows].detach().double(), rows)
        nll -= float(found.gather(1, own[:, None]).sum())
        probabilities = found.exp()
        confidences[rows], predictions = probabilities.max(dim=1)
        hits[rows] = (predictions == own).double()
        bin_ = (confidences[rows] * bins).ceil().long() - 1
        gap = hits[rows] - confidences[rows]
        gaps += torch.bincount(bin_.clamp(max=bins - 1), gap, minlength=bins)
        probabilities.scatter_add_(1, own[:, None], -torch.ones_like(gap[:, None]))
        brier += float(probabilities.square().sum())
    smooth = smooth_ece(confidences, hits)
    scores = Calibration(nll / n, float(gaps.abs().sum()) / n, brier / n, smooth)
    return scores, float(hits.mean())
