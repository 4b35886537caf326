"""How measures move from baseline to low logit norm, in sentences, and how they do in the paper."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from real_nets.page.numbers import share
from real_nets.paper.chance import Side, no_verdict
from real_nets.paper.grid import Cell as Place
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import Measure, at, pairs, values, where

Moves = list[str | None]
"""Verdicts on a pair, None where there is nothing to judge."""

UNEQUAL = 0.05
"""Difference of train accuracies that is told."""

MOVES = {1: "rises", -1: "falls", 0: "does not move"}


def verdict(
    what: str,
    baseline: Sequence[float],
    low_norm: Sequence[float],
    expected: int | None,
    form: Callable[[float], str],
) -> str | None:
    """How the median of a measure moves from baseline to low logit norm, and how it does in the paper.

    expected: 1 for up, -1 for down, 0 for neither, None where the paper does not say. What is written
    alike has not moved. Movements go beyond the spread of seeds where the ranges do not meet. Returns
    None where either has no value.
    """
    if not baseline or not low_norm:
        return None
    before, after = median(baseline), median(low_norm)
    numbers = f"{form(before)} to {form(after)}"
    moved = 0 if form(before) == form(after) else sign(after - before)
    apart = max(baseline) < min(low_norm) or max(low_norm) < min(baseline)
    single = len(baseline) == 1 or len(low_norm) == 1
    remarks = [] if expected is None else [f"in the paper it {MOVES[expected]}"]
    if not moved:
        extent = ""
    elif single:
        extent = ", judged by a single seed"
    else:
        extent = f" {'beyond' if apart else 'within'} the spread of seeds"
    if moved and not apart and not single:
        remarks.insert(0, "which leaves it open")
    elif moved == expected:
        remarks = ["as in the paper"]
    told = f"{what} {MOVES[moved]}{extent} ({numbers})"
    return f"{told}, {'; '.join(remarks)}" if remarks else told


def sign(change: float) -> int:
    """1, 0 or -1."""
    return (change > 0) - (change < 0)


def move(
    baseline: Side,
    low: Side,
    what: str,
    measure: Measure,
    expected: int | None,
    form: Callable[[float], str],
) -> str | None:
    """The verdict on a measure of a pair."""
    (_, cold), (_, hot) = baseline, low
    return verdict(what, values(cold, measure), values(hot, measure), expected, form)


def pair_sentences(
    cells: Sequence[Place],
    results: Results,
    moves: Callable[[Side, Side], Iterable[str | None]],
    snapshot: str | None = None,
) -> list[str]:
    """Of every pair how it moves from baseline to low logit norm, or why nothing is to be said of that.

    moves: verdicts on a pair, None where there is nothing to judge.
    """
    said = []
    for baseline, low in pairs(cells):
        cold, hot = ((cell, at(results.outcomes(cell), snapshot)) for cell in (baseline, low))
        if why := no_verdict(cold, hot):
            said.append(f"{where(baseline)}: {why}.")
        elif told := [move for move in moves(cold, hot) if move]:
            said.append(f"{where(baseline)}{_unequal(cold, hot)}: {'; '.join(told)}.")
    return said


def _unequal(cold: Side, hot: Side) -> str:
    """Train accuracies where they are so far apart that what moves may move with them."""
    found = [values(outcomes, lambda one: one.train_accuracy) for _, outcomes in (cold, hot)]
    if not all(found):
        return ""
    before, after = map(median, found)
    apart = abs(after - before) >= UNEQUAL
    return f" (train accuracy {share(before)} and {share(after)})" if apart else ""
