"""What to try, from the rows of a training: they include its start, which a single report lacks.

Rows are those of a `Watch`, of its run folder, or of the run of one network, `rd.load_run(folder).rows`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from rankdeficit.diagnostics.report.advice import SMALL_LOSS, Advice
from rankdeficit.diagnostics.report.records import Row

NORM = "effective_logits_norm"

GROWN = 2.0
"""Factor by which the effective logits norm of a network that learns grows over its training."""

NOT_GROWN = "norm did not grow"
ROW_RULES = (NOT_GROWN,)
"""Names of the rules."""


def advise_rows(rows: Sequence[Row], classes: int | None = None) -> list[Advice]:
    """What to try, from one network's training; rows without a finite norm and loss are ignored.

    rows: with `step`, `effective_logits_norm` (or `logits.effective_logits_norm`) and `loss`, the first
        of them from the start of the training. classes: needed where rows have no `loss_over_uniform`.
    Raises ValueError where classes are needed and missing, and for rows of several networks.
    """
    steps = [row["step"] for row in rows]
    if any(later <= step for step, later in pairwise(steps)):
        raise ValueError("steps of rows do not increase; give the rows of one network's training")
    known = [row for row in rows if _is_finite(_norm(row)) and _is_finite(row.get("loss"))]
    if len(known) < 2:
        return []
    before, after = (_norm(own) for own in (known[0], known[-1]))
    share = _loss_share(known[-1], classes)
    assert before is not None
    assert after is not None
    if share < SMALL_LOSS or after >= GROWN * before:
        return []
    return [
        Advice(
            NOT_GROWN,
            f"the logits norm over T went from {before:.2g} to {after:.2g} in "
            f"{known[-1]['step'] - known[0]['step']} steps, and the loss is still {share:.2f} ln c",
            "a lower temperature, larger initial logits, a higher learning rate or longer training",
            "the logits must grow to about T before the loss falls (paper, section 4)",
        )
    ]


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _norm(row: Row) -> float | None:
    found: float | None = row.get(f"logits.{NORM}", row.get(NORM))
    return found


def _loss_share(row: Row, classes: int | None) -> float:
    """Loss over that of uniform predictions, ln c."""
    if "loss_over_uniform" in row:
        return float(row["loss_over_uniform"])
    if classes is None:
        raise ValueError(
            "classes is None; rows without loss_over_uniform need the number of classes"
        )
    return float(row["loss"]) / math.log(classes)
