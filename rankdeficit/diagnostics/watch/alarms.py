"""Alarms of a training: rules that look at the rows measured so far.

A rule is a function of (rows, expected rank, thresholds) that returns a message where it holds, decorated
with `@rule(name)`. The last row is the newest. Rules hold only where the rows have what they read.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rankdeficit.checks import check_at_least, check_positive

Row = dict[str, Any]


@dataclass(frozen=True)
class Alarm:
    """A rule that begins to hold."""

    step: int
    name: str
    message: str


@dataclass(frozen=True)
class Thresholds:
    """When alarms are raised."""

    stalled_steps: int = 1000
    """Steps over which a stalled training shows no growth of its logits."""
    stalled_share: float = 0.01
    """Distance of a stalled loss from ln c, as a share of ln c, at most."""
    least_growth: float = 1.1
    """Factor by which the effective logits norm grows over these steps where training is not stalled."""
    collapsed_share: float = 0.5
    """A class-centred rank below this share of min(c - 1, width) is collapsed."""

    def __post_init__(self) -> None:
        check_at_least(1, stalled_steps=self.stalled_steps)
        check_positive(
            stalled_share=self.stalled_share,
            least_growth=self.least_growth,
            collapsed_share=self.collapsed_share,
        )


Rule = Callable[[Sequence[Row], int, Thresholds], str | None]

_RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Make a function an alarm of that name."""

    def decorate(function: Rule) -> Rule:
        _RULES[name] = function
        return function

    return decorate


def holding(rows: Sequence[Row], expected_rank: int, thresholds: Thresholds) -> dict[str, str]:
    """Messages of the rules that hold after the last row, by name.

    expected_rank: the class-centred rank of the logits that Neural Collapse predicts.
    """
    found = {name: own(rows, expected_rank, thresholds) for name, own in _RULES.items()}
    return {name: message for name, message in found.items() if message is not None}


@rule("non-finite")
def non_finite(rows: Sequence[Row], expected_rank: int, thresholds: Thresholds) -> str | None:
    """The training loss or the logits of the probes are NaN or infinite."""
    row = rows[-1]
    loss = row.get("train_loss")
    if not row["finite"]:
        return "the logits of the probes are NaN or infinite; try a lower learning rate"
    if loss is not None and not math.isfinite(loss):
        return f"the training loss is {loss}; try a lower learning rate"
    return None


@rule("stalled")
def stalled(rows: Sequence[Row], expected_rank: int, thresholds: Thresholds) -> str | None:
    """The loss stays near ln c while the effective logits norm does not grow."""
    row = rows[-1]
    before = [own for own in rows if own["step"] <= row["step"] - thresholds.stalled_steps]
    norm = "logits.effective_logits_norm"
    if not before or norm not in row or norm not in before[-1]:
        return None
    if abs(row["loss_over_uniform"] - 1) > thresholds.stalled_share:
        return None
    if row[norm] >= thresholds.least_growth * before[-1][norm]:
        return None
    steps = row["step"] - before[-1]["step"]
    return (
        f"the loss is {row['loss_over_uniform']:.4f} ln c, and the logits norm over T went from "
        f"{before[-1][norm]:.3g} to {row[norm]:.3g} in {steps} steps; try a higher learning rate, "
        "larger initial logits or a lower temperature"
    )


@rule("collapsed")
def collapsed(rows: Sequence[Row], expected_rank: int, thresholds: Thresholds) -> str | None:
    """The loss has left ln c with a class-centred rank far below what Neural Collapse predicts.

    Before that a low rank is that of the initial weights: deep networks start with nearly equal outputs.
    """
    row = rows[-1]
    rank = row.get("logits.centred_rank")
    if rank is None or rank >= thresholds.collapsed_share * expected_rank:
        return None
    if row["loss_over_uniform"] > 1 - thresholds.stalled_share:
        return None
    return (
        f"the class-centred logits have rank {rank}, where Neural Collapse predicts {expected_rank}; "
        "try a lower temperature or larger initial logits"
    )
