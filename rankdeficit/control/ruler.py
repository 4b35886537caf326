"""One ruler for interventions on the logits: distances from the curve that temperature alone gives.

The curve is the final class-centred rank of trainings that differ in temperature alone, against their
initial effective norm ||M||_F / (sqrt(n) T), linear in the logarithm of the norm. Other interventions
are compared with the curve of the same seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankdeficit.experiments import figure_style

CURVE = "temperature"
"""Family of the trainings that make the curve."""

TOLERANCE = 0.1
"""Share of the curve's span of ranks within which an intervention follows it."""

FAR_BELOW = 1e-4
"""Norms below this are drawn at the left edge."""

Verdict = Literal["curve", "follows", "above", "below", "open", "ceiling", "outside", "not fitted"]

WORDS: dict[Verdict, str] = {
    "follows": "Follow the curve of temperature",
    "above": "End with a higher rank than a temperature of the same initial norm",
    "below": "End with a lower rank than a temperature of the same initial norm",
    "open": "Open, since seeds disagree",
    "ceiling": "No test, since the curve is at its highest rank at this norm",
    "outside": "Start outside the norms of the curve",
    "not fitted": "Left out, as not all seeds fit the train data",
}
Curve = list[tuple[float, float]]
"""Norms and ranks, by norm."""


@dataclass(frozen=True)
class Trained:
    """One training."""

    family: str
    name: str
    seed: int
    norm: float | None
    """Initial effective norm of the logits that the loss sees; None where unknown."""
    rank: float | None
    """Final class-centred rank; None where training diverged."""
    fitted: bool
    """Whether it fits its train data, without which ranks say little."""


@dataclass(frozen=True)
class Placed:
    """All seeds of an intervention beside the curve."""

    family: str
    name: str
    norm: float | None
    """Median over seeds."""
    ranks: list[float]
    distances: list[float]
    """Ranks above the curve of the same seed, where it reaches the norm."""
    fitted: int
    """Number of seeds that fit."""
    runs: int
    verdict: Verdict


@dataclass(frozen=True)
class Ruler:
    """Interventions beside the curve of each seed."""

    curves: dict[int, Curve]
    tolerance: float
    """Ranks within which an intervention follows the curve: TOLERANCE of its span."""
    placed: list[Placed]

    @classmethod
    def of(cls, trainings: Sequence[Trained]) -> "Ruler":
        """The ruler of trainings, those of the family CURVE among them."""
        seeds = sorted({own.seed for own in trainings})
        curves = {seed: curve_of(trainings, seed) for seed in seeds}
        spans = [max(ranks) - min(ranks) for c in curves.values() if (ranks := [r for _, r in c])]
        tolerance = TOLERANCE * median(spans) if spans else 0.0
        names = dict.fromkeys(own.name for own in trainings)
        placed = [
            place([own for own in trainings if own.name == name], curves, tolerance)
            for name in names
        ]
        return cls(curves, tolerance, placed)

    def sentences(self) -> list[str]:
        """Which interventions follow the curve, which break it, and which say nothing."""
        found = []
        for verdict, words in WORDS.items():
            names = [own.name for own in self.placed if own.verdict == verdict]
            if names:
                found.append(f"{words}: {', '.join(names)}.")
        return found


def curve_of(trainings: Sequence[Trained], seed: int) -> Curve:
    """The curve of one seed, from its temperatures that fit; a norm of zero has no logarithm."""
    return sorted(
        (own.norm, own.rank)
        for own in trainings
        if own.family == CURVE
        and own.seed == seed
        and own.fitted
        and own.norm is not None
        and 0 < own.norm < math.inf
        and own.rank is not None
    )


def distance_from(curve: Curve, own: Trained) -> float | None:
    """Difference of a training's rank and the curve's at its norm; None beyond the curve's ends."""
    if own.rank is None or own.norm is None or not curve:
        return None
    if not curve[0][0] <= own.norm <= curve[-1][0]:
        return None
    norms, ranks = zip(*curve, strict=True)
    return float(own.rank - np.interp(math.log(own.norm), np.log(norms), ranks))


def place(own: Sequence[Trained], curves: dict[int, Curve], tolerance: float) -> Placed:
    """All seeds of one intervention beside the curves."""
    distances = [d for one in own if (d := distance_from(curves[one.seed], one)) is not None]
    norms = [one.norm for one in own if one.norm is not None]
    return Placed(
        own[0].family,
        own[0].name,
        median(norms) if norms else None,
        [one.rank for one in own if one.rank is not None],
        distances,
        sum(one.fitted for one in own),
        len(own),
        verdict_of(
            own, distances, tolerance, max(r for c in curves.values() for _, r in c or [(0.0, 0.0)])
        ),
    )


def verdict_of(
    own: Sequence[Trained], distances: Sequence[float], tolerance: float, highest: float
) -> Verdict:
    """What the distances of all seeds of an intervention mean.

    It follows the curve if the median is within the tolerance; above or below if all seeds are beyond
    it; open otherwise. Ceiling: it follows the curve within the tolerance of its highest rank, where it
    could not be above. Outside: the curve does not reach the norm of each seed.
    """
    if own[0].family == CURVE:
        return "curve"
    if not all(one.fitted for one in own):
        return "not fitted"
    if len(distances) < len(own):
        return "outside"
    if abs(median(distances)) <= tolerance:
        ranks = [one.rank for one in own if one.rank is not None]
        return "ceiling" if median(ranks) - median(distances) >= highest - tolerance else "follows"
    if min(distances) > tolerance:
        return "above"
    return "below" if max(distances) < -tolerance else "open"


def annotate(axes: Axes, named: Sequence[tuple[float, float, str]]) -> None:
    """Names at points (logarithm of the norm, rank), those of close points in one block, by norm."""
    blocks: list[list[tuple[float, float, str]]] = []
    for point in sorted(named):
        at, rank, _ = point
        close = [b for b in blocks if at - b[-1][0] < 0.4 and abs(rank - b[0][1]) < 0.1 * b[0][1]]
        if close:
            close[0].append(point)
        else:
            blocks.append([point])
    for block in blocks:
        (at, rank, _), names = block[0], "\n".join(name for *_, name in block)
        offset = {"xytext": (6, -4), "textcoords": "offset points"}
        axes.annotate(names, (10**at, rank), **offset, fontsize=7, va="top")  # type: ignore[arg-type]


def draw_ruler(ruler: Ruler, ranks: str) -> Figure:
    """Final rank against initial norm; dashed: temperature alone, a curve per seed.

    ranks: label of the ranks. Open markers: not all seeds fit. Named: interventions off the curve.
    """
    figure = Figure(figsize=(7.4, 5.6))
    axes = figure.subplots()
    markers = "os^vD<>PX*ph8d"
    families = list(dict.fromkeys(own.family for own in ruler.placed))
    named: list[tuple[float, float, str]] = []
    for number, family in enumerate(families):
        marker = markers[number % len(markers)]
        colour = "black" if family == CURVE else f"C{number % 10}"
        for own in ruler.placed:
            if own.family != family or not own.ranks or own.norm is None:
                continue
            at, rank = max(own.norm, FAR_BELOW), median(own.ranks)
            spread = [[rank - min(own.ranks)], [max(own.ranks) - rank]]
            full = "full" if own.fitted == own.runs else "none"
            axes.errorbar(
                [at], [rank], spread, fmt=marker, color=colour, ms=5, elinewidth=0.8, fillstyle=full,
            )  # fmt: skip
            if own.verdict in ("above", "below"):
                named.append((math.log10(at), rank, own.name))
        axes.plot([], [], marker, color=colour, linestyle="", ms=5, label=family)
    annotate(axes, named)
    for number, curve in enumerate(curve for curve in ruler.curves.values() if curve):
        label = "" if number else "temperature alone"
        axes.plot(*zip(*curve, strict=True), "--", color="black", linewidth=0.8, label=label)
    figure_style.set_log_scale(axes, "x")
    axes.set_xlabel(r"initial effective norm $\|M\|_F/(\sqrt{n}\,T)$ that the loss sees")
    axes.set_ylabel(ranks)
    return figure_style.with_legend_below(figure, columns=3)
