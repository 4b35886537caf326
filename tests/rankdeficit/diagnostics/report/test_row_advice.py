"""Advice from the rows of a training: rows by hand, and trainings that show it and that do not."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import rankdeficit as rd
from rankdeficit.diagnostics import advise_rows
from rankdeficit.diagnostics.report.row_advice import NOT_GROWN
from tests.rankdeficit.diagnostics.diagnose.problems import batches, blobs


def rows(*norms: float | None, share: float = 0.9, **first: Any) -> list[dict[str, Any]]:
    """Of a training on 10 classes with these norms and a last loss of this share of ln 10."""
    found: list[dict[str, Any]] = [
        {"step": 10 * number, "effective_logits_norm": own, "loss": math.log(10) * share}
        for number, own in enumerate(norms)
    ]
    found[0] |= first
    return found


@pytest.mark.parametrize(
    ("told", "own"),
    [
        (True, rows(0.1, 0.12, 0.19)),
        (True, rows(0.1, 0.12, 0.19, share=0.5)),
        (True, rows(0.1, 0.3, 0.19, None)),
        (True, rows(3.0, 2.0)),
        (False, rows(0.1, 0.12, 0.2)),
        (False, rows(0.1, 0.12, 0.19, share=0.49)),
        (False, rows(0.1)),
        (False, rows(None, 0.1)),
        (False, rows(0.1, 0.1, loss=None)),
        (False, rows(0.1, math.nan)),
        (False, rows(0.1, 0.1, loss=math.inf)),
        (True, rows(0.1, 0.12, math.nan)),
    ],
)
def test_a_norm_that_stays_below_twice_its_start_is_told_while_the_loss_is_large(
    told: bool, own: list[dict[str, Any]]
) -> None:
    assert [advice.name for advice in advise_rows(own, classes=10)] == [NOT_GROWN] * told


@pytest.mark.usefixtures("unchecked")
def test_rows_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(ValueError, match="classes"):
        advise_rows(rows(0.1, 0.1))
    with pytest.raises(ValueError, match="one network"):
        advise_rows([*rows(0.1, 0.1), *rows(0.1, 0.1)], classes=10)


@pytest.mark.parametrize(("temperature", "told"), [(1.0, False), (1000.0, True)])
def test_a_watch_advises_where_the_temperature_is_too_high_for_its_steps(
    temperature: float, told: bool
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
    inputs, labels = blobs(60, 2 * torch.eye(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with rd.Watch(
        model, batches(inputs, labels), every=15, temperature=temperature, measures=["logits"]
    ) as watch:
        for _ in range(30):
            loss = rd.cross_entropy(model(inputs), labels, temperature=temperature)
            optimizer.zero_grad(), loss.backward(), optimizer.step()
            watch.step(loss)
    assert [own.name for own in watch.advice()] == [NOT_GROWN] * told
