"""Comparison of networks at T = 1 with the same networks at low logit norm, measure by measure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import Literal, NamedTuple

from rankdeficit.correlation import Correlation, spearman
from real_nets.jobs.folder import JobFolder, milestone_name
from real_nets.paper.chance import LEARNED, Cause, Check
from real_nets.paper.grid import BASELINE, LOW_NORM, Cell
from real_nets.paper.store import Results, groups

Direction = Literal[-1, 0, 1]
Evidence = Literal["beyond the spread", "within the spread", "single seed"]

UNEQUAL = 0.05
"""Least difference of train accuracies that a comparison tells."""
LEAST_POINTS = 4
"""Number of points below which no correlation is told."""
SIGNIFICANT = 0.05
"""Correlations with a larger p-value neither agree nor disagree with the paper's."""


class Side(NamedTuple):
    """A cell with its networks, which have the weights to compare."""

    cell: Cell
    networks: Sequence[JobFolder]


class Pair(NamedTuple):
    """The two sides of a comparison."""

    baseline: Side
    low: Side

    @property
    def ood(self) -> tuple[str, ...]:
        """Out-of-distribution sets of the networks."""
        return next((side.networks[0].job.ood for side in self if side.networks), ())


@dataclass(frozen=True)
class Printed:
    """The paper's numbers of a measure on both sides."""

    baseline: float
    low_norm: float
    form: Callable[[float], str]
    difference: Callable[[float], str]
    """Writes a measured number less the paper's."""
    notes: tuple[str | None, str | None] = (None, None)


@dataclass(frozen=True)
class Measure:
    """A number of a network."""

    name: str
    value: Callable[[JobFolder], float | None]
    form: Callable[[float], str]
    """Writes it. Medians that are written alike have not moved."""
    expected: Direction | None = None
    """Direction in the paper from T = 1 to low logit norm; None where the paper does not say."""
    check: Check | None = None
    """Bears no verdict where a network fails it."""
    printed: Printed | None = None


class Spread(NamedTuple):
    """Median, range and number of networks."""

    median: float
    low: float
    high: float
    n: int


class NoVerdict(NamedTuple):
    """Why there is no verdict."""

    cause: Cause
    failed: tuple[int, int] = (0, 0)
    """Number of networks that fail the check at T = 1, and at low logit norm."""
    chance: float | None = None


class Verdict(Enum):
    """A comparison beside the paper's."""

    AGREES = "as in the paper"
    DIFFERS = "not as in the paper"
    OPEN = "open"
    UNCLAIMED = "no claim in the paper"
    NONE = "no verdict"


@dataclass(frozen=True)
class Comparison:
    """How one measure moves from T = 1 to low logit norm."""

    measure: Measure
    before: Spread | None
    after: Spread | None
    moved: Direction
    evidence: Evidence
    train_accuracies: tuple[float, float] | None
    """Medians of both sides."""
    no_verdict: NoVerdict | None

    @property
    def unequal(self) -> bool:
        """Whether train accuracies are so far apart that the measure may move with them."""
        found = self.train_accuracies
        return found is not None and abs(found[1] - found[0]) >= UNEQUAL

    @property
    def verdict(self) -> Verdict:
        """What it says on the paper's direction. Ranges that meet leave a movement open."""
        if self.no_verdict:
            return Verdict.NONE
        if self.moved and self.evidence == "within the spread":
            return Verdict.OPEN
        if self.measure.expected is None:
            return Verdict.UNCLAIMED
        return Verdict.AGREES if self.moved == self.measure.expected else Verdict.DIFFERS


def values(
    networks: Iterable[JobFolder], value: Callable[[JobFolder], float | None]
) -> list[float]:
    """The measure of all networks that have it."""
    return [float(found) for found in map(value, networks) if found is not None]


def spread_of(found: Sequence[float]) -> Spread | None:
    """None for no values."""
    return Spread(median(found), min(found), max(found), len(found)) if found else None


def sign(change: float) -> Direction:
    """1, 0 or -1."""
    return 1 if change > 0 else -1 if change < 0 else 0


def compare(pair: Pair, measure: Measure) -> Comparison:
    """The comparison of a pair in one measure."""
    before, after = (spread_of(values(side.networks, measure.value)) for side in pair)
    accuracies = [values(side.networks, lambda one: one.train_accuracy) for side in pair]
    if before is None or after is None:
        no_verdict: NoVerdict | None = NoVerdict(Cause.NOT_MEASURED)
        moved: Direction = 0
        evidence: Evidence = "within the spread"
    else:
        checks = [LEARNED, *([measure.check] if measure.check else [])]
        no_verdict = next(filter(None, (failed(pair, check) for check in checks)), None)
        alike = measure.form(before.median) == measure.form(after.median)
        moved = 0 if alike else sign(after.median - before.median)
        apart = before.high < after.low or after.high < before.low
        evidence = "beyond the spread" if apart else "within the spread"
        if before.n == 1 or after.n == 1:
            evidence = "single seed"
    return Comparison(
        measure,
        before,
        after,
        moved,
        evidence,
        (median(accuracies[0]), median(accuracies[1])) if all(accuracies) else None,
        no_verdict,
    )


def failed(pair: Pair, check: Check) -> NoVerdict | None:
    """Why a check leaves no verdict on a pair; None where all networks pass."""
    counts = [sum(not check.passed(one) for one in side.networks) for side in pair]
    if not any(counts):
        return None
    return NoVerdict(check.cause, (counts[0], counts[1]), check.chance(pair.baseline.networks[0]))


def tally(comparisons: Iterable[Comparison]) -> dict[Verdict, int]:
    """Numbers of verdicts on measures of which the paper has a direction."""
    claimed = [one for one in comparisons if one.measure.expected is not None]
    counts = Counter(one.verdict for one in claimed if one.before and one.after)
    return {verdict: counts[verdict] for verdict in Verdict if counts[verdict]}


def pairs(cells: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """(baseline, low logit norm) of every data set and network that has both."""
    found = []
    for same in groups(cells).values():
        by_condition = {cell.condition: cell for cell in same}
        if BASELINE in by_condition and LOW_NORM in by_condition:
            found.append((by_condition[BASELINE], by_condition[LOW_NORM]))
    return found


def measured_pairs(
    cells: Sequence[Cell], results: Results, accuracy: float | None = None
) -> list[Pair]:
    """The same with their networks at the end, or with the weights kept at a train accuracy."""
    return [
        Pair(*(Side(cell, _at(results.outcomes(cell), accuracy)) for cell in pair))
        for pair in pairs(cells)
    ]


def _at(networks: Sequence[JobFolder], accuracy: float | None) -> Sequence[JobFolder]:
    """The networks with the weights kept at an accuracy, those that were diagnosed with them."""
    if accuracy is None:
        return networks
    kept = [one.at(milestone_name(accuracy)) for one in networks]
    return [one for one in kept if one.diagnosed]


def equal_accuracy(cells: Sequence[Cell], results: Results) -> dict[float, list[Cell]]:
    """Cells of pairs by the highest train accuracy at which all networks of the pair kept weights."""
    found: dict[float, list[Cell]] = {}
    for pair in pairs(cells):
        accuracy = results.common_accuracy(pair) if all(map(results.outcomes, pair)) else None
        if accuracy is not None:
            found.setdefault(accuracy, []).extend(pair)
    return dict(sorted(found.items()))


def correlation(points: Sequence[tuple[float, float]]) -> Correlation | None:
    """Spearman's; None for too few points, and where either measure is the same in all."""
    if len(points) < LEAST_POINTS:
        return None
    return spearman([x for x, _ in points], [y for _, y in points])


def agreement(found: Correlation) -> Verdict:
    """A correlation beside the paper's, which is positive."""
    if not found.p < SIGNIFICANT:
        return Verdict.OPEN
    return Verdict.AGREES if found.rho > 0 else Verdict.DIFFERS
