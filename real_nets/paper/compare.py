"""Comparison of networks at T = 1 with the same networks at low logit norm, by measure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import Literal, NamedTuple

from rankdeficit.correlation import Correlation, spearman, spearman_within
from real_nets.jobs.folder import JobFolder, milestone_name
from real_nets.paper.chance import LEARNED, Cause, Check
from real_nets.paper.grid import BASELINE, LOW_NORM, Cell
from real_nets.paper.store import Results, groups

Direction = Literal[-1, 0, 1]
Evidence = Literal["alike", "beyond the spread", "within the spread", "single seed"]

UNEQUAL = 0.05
"""Smallest difference of train accuracies that a comparison reports."""
LEAST_POINTS = 4
"""Minimum number of points of a correlation."""
SIGNIFICANT = 0.05
"""Largest p-value of a correlation that counts for or against the paper's."""


class Side(NamedTuple):
    """A cell with its networks, opened at the weights to compare."""

    cell: Cell
    networks: Sequence[JobFolder]


class Pair(NamedTuple):
    """The two sides of a comparison: T = 1 and low logit norm."""

    baseline: Side
    low: Side

    @property
    def ood(self) -> tuple[str, ...]:
        """Out-of-distribution sets of the jobs."""
        return next((side.networks[0].job.ood for side in self if side.networks), ())


@dataclass(frozen=True)
class Printed:
    """The paper's numbers of a measure for both sides."""

    baseline: float
    low_norm: float
    form: Callable[[float], str]
    difference: Callable[[float], str]
    """Formats a difference, measured minus the paper's."""
    notes: tuple[str | None, str | None] = (None, None)


@dataclass(frozen=True)
class Measure:
    """A number of a network, with its format and what the paper says of it."""

    name: str
    value: Callable[[JobFolder], float | None]
    form: Callable[[float], str]
    """Formats the number. Where all networks have the same text, it is unchanged."""
    expected: Direction | None = None
    """Direction in the paper from T = 1 to low logit norm; None if the paper reports none."""
    check: Check | None = None
    """Check without which the measure bears no verdict."""
    printed: Printed | None = None


class Spread(NamedTuple):
    """Median, range and number of networks."""

    median: float
    low: float
    high: float
    n: int


class NoVerdict(NamedTuple):
    """Reason for having no verdict."""

    cause: Cause
    failed: tuple[int, int] = (0, 0)
    """Numbers of networks that fail the check, at T = 1 and at low logit norm."""
    chance: float | None = None


class Verdict(Enum):
    """A measured direction compared with the paper's."""

    AGREES = "as in the paper"
    DIFFERS = "not as in the paper"
    OPEN = "open"
    UNCLAIMED = "no claim in the paper"
    NONE = "no verdict"


@dataclass(frozen=True)
class Comparison:
    """Change of one measure from T = 1 to low logit norm."""

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
        """Whether train accuracies differ so much that they may explain the change."""
        found = self.train_accuracies
        return found is not None and abs(found[1] - found[0]) >= UNEQUAL

    @property
    def verdict(self) -> Verdict:
        """Agreement with the paper's direction; a change with overlapping ranges is open."""
        if self.no_verdict:
            return Verdict.NONE
        if self.evidence == "within the spread":
            return Verdict.OPEN
        if self.measure.expected is None:
            return Verdict.UNCLAIMED
        return Verdict.AGREES if self.moved == self.measure.expected else Verdict.DIFFERS


def values(
    networks: Iterable[JobFolder], value: Callable[[JobFolder], float | None]
) -> list[float]:
    """The values of all networks that have one."""
    return [float(found) for found in map(value, networks) if found is not None]


def spread_of(found: Sequence[float]) -> Spread | None:
    """Median, range and number of the values; None if there are none."""
    return Spread(median(found), min(found), max(found), len(found)) if found else None


def sign(change: float) -> Direction:
    """1, 0 or -1."""
    return 1 if change > 0 else -1 if change < 0 else 0


def compare(pair: Pair, measure: Measure) -> Comparison:
    """Compare a pair in one measure."""
    found = [values(side.networks, measure.value) for side in pair]
    before, after = map(spread_of, found)
    accuracies = [values(side.networks, lambda one: one.train_accuracy) for side in pair]
    if before is None or after is None:
        no_verdict: NoVerdict | None = NoVerdict(Cause.NOT_MEASURED)
        moved: Direction = 0
        evidence: Evidence = "within the spread"
    else:
        checks = [LEARNED, *([measure.check] if measure.check else [])]
        no_verdict = next(filter(None, (failed(pair, check) for check in checks)), None)
        alike = len({measure.form(one) for side in found for one in side}) == 1
        moved = 0 if alike else sign(after.median - before.median)
        apart = before.high < after.low or after.high < before.low
        single = before.n == 1 or after.n == 1
        spread: Evidence = "beyond the spread" if apart else "within the spread"
        evidence = "single seed" if single else "alike" if alike else spread
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
    """The reason for no verdict if some network of the pair fails the check, else None."""
    counts = [sum(not check.passed(one) for one in side.networks) for side in pair]
    if not any(counts):
        return None
    chance = check.chance and check.chance(pair.baseline.networks[0])
    return NoVerdict(check.cause, (counts[0], counts[1]), chance)


def tally(comparisons: Iterable[Comparison]) -> dict[Verdict, int]:
    """Counts of the verdicts on measures for which the paper reports a direction."""
    claimed = [one for one in comparisons if one.measure.expected is not None]
    counts = Counter(one.verdict for one in claimed if one.before and one.after)
    return {verdict: counts[verdict] for verdict in Verdict if counts[verdict]}


def pairs(cells: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Pairs (baseline, low logit norm) of cells of the same network and data set."""
    found = []
    for same in groups(cells).values():
        by_condition = {cell.condition: cell for cell in same}
        if BASELINE in by_condition and LOW_NORM in by_condition:
            found.append((by_condition[BASELINE], by_condition[LOW_NORM]))
    return found


def measured_pairs(
    cells: Sequence[Cell], results: Results, accuracy: float | None = None
) -> list[Pair]:
    """The pairs with their networks, at the final weights or those kept at a train accuracy."""
    return [
        Pair(*(Side(cell, _at(results.outcomes(cell), accuracy)) for cell in pair))
        for pair in pairs(cells)
    ]


def _at(networks: Sequence[JobFolder], accuracy: float | None) -> Sequence[JobFolder]:
    """The networks at the weights kept at an accuracy, if these were diagnosed."""
    if accuracy is None:
        return networks
    kept = [one.at(milestone_name(accuracy)) for one in networks]
    return [one for one in kept if one.diagnosed]


def equal_accuracy(cells: Sequence[Cell], results: Results) -> dict[float, list[Cell]]:
    """Cells of pairs, by the highest train accuracy at which all networks of the pair kept weights."""
    found: dict[float, list[Cell]] = {}
    for pair in pairs(cells):
        accuracy = results.common_accuracy(pair) if all(map(results.outcomes, pair)) else None
        if accuracy is not None:
            found.setdefault(accuracy, []).extend(pair)
    return dict(sorted(found.items()))


def correlation(
    points: Sequence[tuple[float, float]], groups: Sequence[str] | None = None
) -> Correlation | None:
    """Spearman's correlation, within groups if there are any.

    None for fewer than LEAST_POINTS points or a constant coordinate.
    """
    if len(points) < LEAST_POINTS:
        return None
    first, second = [x for x, _ in points], [y for _, y in points]
    return spearman(first, second) if groups is None else spearman_within(first, second, groups)


def agreement(found: Correlation) -> Verdict:
    """A correlation compared with the paper's, which is positive."""
    if not found.p < SIGNIFICANT:
        return Verdict.OPEN
    return Verdict.AGREES if found.rho > 0 else Verdict.DIFFERS
