"""Each rule on rows that show it and on rows that miss one of its conditions."""

from typing import Any

import pytest

from rankdeficit.diagnostics.watch.alarms import Thresholds, holding


def rows(steps: int = 1000, **last: float) -> list[dict[str, Any]]:
    """Two rows of a training that has stalled at T = 50, with changes of the last one."""
    stalled = {
        "finite": True,
        "loss_over_uniform": 1.0,
        "logits.effective_logits_norm": 0.01,
        "logits.centred_rank": 9,
    }
    changes = {name.replace("__", "."): value for name, value in last.items()}
    return [{"step": 0, **stalled}, {"step": steps, **stalled, **changes}]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (rows(), {"stalled"}),
        (rows(999), set()),
        (rows(loss_over_uniform=1.0099), {"stalled"}),
        (rows(loss_over_uniform=0.98), set()),
        (rows(loss_over_uniform=1.02), set()),
        (rows(logits__effective_logits_norm=0.0109), {"stalled"}),
        (rows(logits__effective_logits_norm=0.0111), set()),
        (rows(999, logits__centred_rank=4, loss_over_uniform=0.98), {"collapsed"}),
        (rows(999, logits__centred_rank=5, loss_over_uniform=0.98), set()),
        (rows(999, logits__centred_rank=4, loss_over_uniform=0.995), set()),
        (rows(999, train_loss=float("inf")), {"non-finite"}),
        (rows(999, train_loss=3.0), set()),
        ([{"step": 7, "finite": False}], {"non-finite"}),
        ([{"step": 7, "finite": True, "loss_over_uniform": 1.0}], set()),
    ],
)
def test_rules_hold_where_all_their_conditions_do(
    found: list[dict[str, Any]], expected: set[str]
) -> None:
    assert set(holding(found, 9, Thresholds())) == expected


def test_the_message_of_a_stalled_training_has_its_numbers() -> None:
    message = holding(rows(logits__effective_logits_norm=0.0105), 9, Thresholds())["stalled"]
    assert all(number in message for number in ("1.0000", "0.01 ", "0.0105", "1000"))


def test_thresholds_must_make_sense() -> None:
    with pytest.raises(ValueError, match=r"stalled_steps.* 0"):
        Thresholds(stalled_steps=0)
    with pytest.raises(ValueError, match=r"collapsed_share.* -1"):
        Thresholds(collapsed_share=-1.0)
