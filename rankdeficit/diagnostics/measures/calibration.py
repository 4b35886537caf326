"""How far the probabilities softmax(logits / T) can be trusted, and the temperature that mends them.

The temperature of training is part of the network: give it wherever one is asked for. Logits may be
as large as a memory map holds: they are read in blocks of rows, and only a block is in float64.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from matplotlib.figure import Figure
from rich.table import Table
from scipy.optimize import root_scalar
from torch import Tensor

from rankdeficit.checks import check_at_least, check_floating, check_magnitudes, check_temperature
from rankdeficit.diagnostics.reading.needs import Needs, Rows
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report.cells import make_table, number, percent
from rankdeficit.diagnostics.study import Study
from rankdeficit.experiments.plots import with_legend_below
from rankdeficit.softmax import log_softmax

BINS = 15
"""Bins of the calibration error, the number Guo et al. use."""

ROWS = 2048
"""Samples read at a time."""

ACCURACY = 1e-11
"""Relative error of a fitted temperature."""

REACH = 1e4
"""Beyond the logits' scale by this factor lies the temperature that stands for a limit, 0 or infinity."""

STEP = 8.0
"""Factor by which the bracket of a fitted temperature is widened at a time."""

ROUNDING = 1e-14
"""Relative rounding error of a slope, below which it counts as zero."""

Limit = Literal["zero", "infinity"]


class Calibration(NamedTuple):
    """Losses of the predicted probabilities; all 0 where every prediction is certain and right."""

    nll: float
    """Negative log-likelihood: mean of -ln p_y, in nats; uniform predictions have ln c."""
    ece: float
    """Expected calibration error: mean |accuracy - confidence| of bins of equal confidence range."""
    brier: float
    """Mean of sum_k (p_k - y_k)^2; uniform predictions have 1 - 1/c."""


class TemperatureScaling(NamedTuple):
    """Calibration before and after temperatures fitted on samples other than those they are used on."""

    before: Calibration
    after: Calibration
    temperatures: tuple[float, float]
    """The one fitted on the second half and used on the first, and the other way round."""
    limits: tuple[Limit | None, Limit | None]
    """`temperature_limit` of each: not None where the temperature only stands for a limit."""


class CrossFitted(NamedTuple):
    """Temperatures fitted on samples other than those they are used on."""

    per_sample: Float64[Tensor, " n"]
    temperatures: tuple[float, float]
    """The one fitted on the second half and used on the first, and the other way round."""
    limits: tuple[Limit | None, Limit | None]


def calibration(
    logits: Float[Tensor, "n c"],
    labels: Int64[Tensor, " n"],
    temperature: float = 1.0,
    bins: int = BINS,
) -> Calibration:
    """Calibration of softmax(logits / T), in float64.

    ECE is that of Guo et al. (2017, arXiv 1706.04599, equation 3): confidence is the largest
    probability, bin m of `bins` holds those in ((m - 1) / bins, m / bins], bins weigh as many as
    they hold. Raises ValueError for a bad temperature, bins < 1, labels that are not n classes of
    the logits, and logits that are not finite.
    """
    check_temperature(temperature)
    _check(logits, labels)
    temperatures = torch.full(labels.shape, temperature, dtype=torch.float64, device=logits.device)
    return _calibration(logits, labels, temperatures, bins)


def fit_temperature(logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]) -> float:
    """The temperature T > 0 of least negative log-likelihood of softmax(logits / T).

    The loss is convex in 1/T: a bracket is widened geometrically until its slope changes sign, and the
    root is found to 1e-10 of T (`scipy.optimize.root_scalar`). Where `temperature_limit` is not None
    there is no finite optimum: for "zero" T is 1e-4 of the median gap between the two largest logits
    of a sample, for "infinity" 1e4 times the largest range of a sample's logits. T is 1 where all
    logits of every sample are equal and it changes nothing.
    Raises ValueError as `calibration`.
    """
    _check(logits, labels)
    return _fit(logits, labels, torch.arange(len(labels), device=logits.device))[0]


def temperature_limit(logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]) -> Limit | None:
    """Where the likelihood of softmax(logits / T) has no finite optimum: the limit that T tends to.

    "zero" where all samples are right, so the loss falls for ever as T falls; "infinity" where the
    labels' logits are on average no larger than the mean logits, so it falls for ever as T rises. None
    where the optimum is finite, or every temperature is one. Raises ValueError as `calibration`.
    """
    _check(logits, labels)
    return _fit(logits, labels, torch.arange(len(labels), device=logits.device))[1]


def temperature_scaling(
    logits: Float[Tensor, "n c"],
    labels: Int64[Tensor, " n"],
    temperature: float = 1.0,
    bins: int = BINS,
    seed: int = 0,
) -> TemperatureScaling:
    """Calibration at the temperature of training and, cross-fitted, at the best one (Guo et al., 2017).

    The samples are halved by a permutation seeded with `seed`, and each half is calibrated with the
    temperature fitted on the other: no sample has a say in its own. Predictions do not change.
    Raises ValueError as `calibration`, and for fewer than two samples.
    """
    before = calibration(logits, labels, temperature, bins)
    fitted = cross_fit(logits, labels, seed)
    after = _calibration(logits, labels, fitted.per_sample, bins)
    return TemperatureScaling(before, after, fitted.temperatures, fitted.limits)


def cross_fit(
    logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], seed: int = 0
) -> CrossFitted:
    """The temperatures of `temperature_scaling`. Raises ValueError as that."""
    check_at_least(2, samples=len(labels))
    _check(logits, labels)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    first, second = (half.sort().values.to(logits.device) for half in order.tensor_split(2))
    on_first, on_second = _fit(logits, labels, second), _fit(logits, labels, first)
    temperatures = torch.empty(labels.shape, dtype=torch.float64, device=logits.device)
    temperatures[first], temperatures[second] = on_first[0], on_second[0]
    return CrossFitted(temperatures, (on_first[0], on_second[0]), (on_first[1], on_second[1]))


def fitted_of(study: Study) -> CrossFitted:
    """The temperatures of the test samples, fitted by the first measure that asks for them."""
    found: CrossFitted | None = study.prepared.get("calibration")
    if found is None:
        found = cross_fit(study.logits("test"), study.test.labels, study.options.seed)
        study.prepared["calibration"] = found
    return found


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
    """NLL, ECE and Brier score of the test samples before and after temperature scaling."""

    needs = Needs(test=(Rows("logits"),))
    blank = Blank(sections={"calibration": None})
    figures = (("calibration", draw),)

    def values(self, study: Study) -> Values:
        """`TemperatureScaling` of the test samples; a note where there is only one."""
        if len(study.test.labels) < 2:
            study.notes.append("no calibration: cross-fitting needs at least two test samples")
            return Values()
        logits, labels, found = study.logits("test"), study.test.labels, fitted_of(study)
        row = {
            "before": calibration(logits, labels, study.options.temperature)._asdict(),
            "after": _calibration(logits, labels, found.per_sample, BINS)._asdict(),
            "temperatures": list(found.temperatures),
            "limits": list(found.limits),
        }
        if any(found.limits):
            tends = " and ".join(sorted({limit for limit in found.limits if limit}))
            study.notes.append(
                f"calibration has no best finite temperature: the loss keeps falling as T tends to "
                f"{tends}, so a bound is used instead"
            )
        return Values(sections={"calibration": row})

    def tables(self, record: Row) -> list[Table]:
        """A row before and one after temperature scaling."""
        found = record.get("calibration")
        if not found:
            return []
        temperatures = {
            "before": f"{record['conditions']['temperature']:g}",
            "after": ", ".join(f"{T:.3g}" for T in found.get("temperatures") or ()),
        }
        note = "Test samples; after: each half with the temperature fitted on the other."
        columns = [
            Column("calibration", lambda name: name, note),
            Column("T", lambda name: temperatures[name]),
            Column("NLL", lambda name: number(found[name]["nll"])),
            Column("ECE", lambda name: percent(found[name]["ece"])),
            Column("Brier", lambda name: number(found[name]["brier"])),
        ]
        return [make_table("Calibration", columns, ["before", "after"])]


def _calibration(logits: Tensor, labels: Tensor, temperatures: Tensor, bins: int) -> Calibration:
    check_at_least(1, bins=bins)
    nll = brier = 0.0
    gaps = torch.zeros(bins, dtype=torch.float64, device=logits.device)
    for block, own, T in zip(
        logits.detach().split(ROWS), labels.split(ROWS), temperatures.split(ROWS), strict=True
    ):
        log_probabilities = log_softmax(block.double(), T, validate=False)
        nll -= float(log_probabilities.gather(1, own[:, None]).sum())
        probabilities = log_probabilities.exp()
        confidences, predictions = probabilities.max(dim=1)
        bin_ = (confidences * bins).ceil().long() - 1
        gap = (predictions == own).double() - confidences
        gaps += torch.bincount(bin_.clamp(max=bins - 1), gap, minlength=bins)
        probabilities.scatter_add_(1, own[:, None], -torch.ones_like(confidences[:, None]))
        brier += float(probabilities.square().sum())
    n = len(labels)
    return Calibration(nll / n, float(gaps.abs().sum()) / n, brier / n)


def _fit(logits: Tensor, labels: Tensor, rows: Tensor) -> tuple[float, Limit | None]:
    """Temperature of least loss over these rows, the root of the slope over ln(1 / T), and its limit."""
    gap, reach = _scales(logits, rows)
    if reach == 0:
        return 1.0, None

    def slope(log_beta: float) -> float:
        return _slope(logits, labels, rows, math.exp(log_beta)).value

    start = _slope(logits, labels, rows, 0.0)
    if start.all_right:
        return gap / REACH, "zero"
    if start.value >= -ROUNDING * start.magnitude:
        return reach * REACH, "infinity"
    low = high = -math.log(gap)
    if slope(low) < 0:
        while slope(high) < 0:
            low, high = high, high + math.log(STEP)
    else:
        while slope(low) >= 0:
            low, high = low - math.log(STEP), low
    found = root_scalar(slope, bracket=(low, high), method="toms748", xtol=ACCURACY)
    return math.exp(-found.root), None


class _Slope(NamedTuple):
    """Derivative of the summed loss in beta = 1 / T."""

    value: float
    magnitude: float
    """Sum of the terms' magnitudes."""
    all_right: bool
    """No logit is larger than its sample's label's."""


def _slope(logits: Tensor, labels: Tensor, rows: Tensor, beta: float) -> _Slope:
    """Sum over samples of E[e] - e_y under softmax(beta e): rising in beta."""
    value = magnitude = 0.0
    all_right = True
    for own in rows.split(ROWS):
        energies = logits[own].double()
        energies -= energies.gather(1, labels[own, None])
        terms = torch.softmax(beta * energies, dim=1) * energies
        value += float(terms.sum())
        magnitude += float(terms.abs().sum())
        all_right &= bool((energies <= 0).all())
    return _Slope(value, magnitude, all_right)


def _scales(logits: Tensor, rows: Tensor) -> tuple[float, float]:
    """Median gap between a sample's two largest logits where they differ, and the largest range.

    Masked classes and single outliers do not move the first. Where no largest logits differ it is
    the range.
    """
    gaps, reach = [], 0.0
    for own in rows.split(ROWS):
        block = logits[own].double()
        reach = max(reach, float((block.amax(dim=1) - block.amin(dim=1)).max()))
        largest = block.topk(min(2, block.shape[1]), dim=1).values
        gaps.append(largest[:, 0] - largest[:, -1])
    found = torch.cat(gaps)
    found = found[found > 0]
    return float(found.median()) if len(found) else reach, reach


def _check(logits: Tensor, labels: Tensor) -> None:
    check_floating("logits", logits, dimensions=2)
    if bool(torch.isinf(logits).any()):
        raise ValueError(
            "logits have infinite entries; give masked classes a finite value such as -1e9, or leave "
            "their columns out"
        )
    check_magnitudes("logits", logits)
    n, c = logits.shape
    if labels.shape != (n,) or labels.dtype != torch.int64:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; they must be {n} class "
            "indices (torch.int64)"
        )
    if bool(((labels < 0) | (labels >= c)).any()):
        raise ValueError(
            f"labels lie in {int(labels.min())}..{int(labels.max())}; they must lie in 0..{c - 1}"
        )
