"""Trainings whose temperature changes."""

import math
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch

from rankdeficit import cross_entropy
from rankdeficit.control.interventions import Intervened
from rankdeficit.control.schedules import ScheduleOptions, TemperatureSchedule, last_temperatures
from rankdeficit.toys.schedules import temperature_at


def test_the_loss_is_at_the_temperature_of_the_step() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator)
    labels = torch.arange(6) % 4
    loss = Intervened(cross_entropy, temperature=lambda step: 1.0 + step)
    for step in (0, 3):
        expected = cross_entropy(logits, labels, 1.0 + step)
        assert torch.equal(loss(logits, labels, step, logits), expected)
    assert loss.state_dict() == {}


@pytest.mark.parametrize("schedule", get_args(TemperatureSchedule))
def test_temperatures_are_those_of_the_toys(schedule: Any) -> None:
    options = ScheduleOptions(temperature_schedule=schedule, hot_share=0.2, temperature_cycles=2)
    for step in range(11):
        expected = 50.0
        if schedule != "constant":
            expected = temperature_at(schedule, 50.0, step / 10, 0.5, 2, 0.2)
        assert options.temperature_after(50.0, step, 10) == expected


def test_extremes() -> None:
    """No steps are the start; a share of one is constant; at T = 1 all schedules are."""
    down = ScheduleOptions(temperature_schedule="down")
    assert down.temperature_after(9.0, 0, 0) == 9
    always = replace(down, temperature_schedule="hot", hot_share=1.0)
    assert always.temperature_after(9.0, 10, 10) == 9
    assert down.temperature_after(1.0, 3, 10) == 1
    assert ScheduleOptions().notes_on_schedule(9.0, 9.0) == []


def test_options_of_other_schedules_have_no_effect() -> None:
    hot = ScheduleOptions(temperature_schedule="hot").unused_of_schedule()
    assert hot.keys() == {"temperature_ramp", "temperature_cycles"}
    assert len(ScheduleOptions().unused_of_schedule()) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature_schedule", "sideways"),
        ("hot_share", 0.0),
        ("hot_share", math.nan),
        ("temperature_ramp", 1.5),
        ("temperature_cycles", 0),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_options(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        ScheduleOptions(**{name: value})


def test_runs_that_end_at_another_temperature_are_told() -> None:
    assert last_temperatures([(50.0, 50.0), (1.0, 1.0), (9.0, None)]) == []
    (sentence,) = last_temperatures([(50.0, 1.0), (10.0, 1.0), (50.0, 1.0), (1.0, 1.0)])
    assert "1 for T = 10, 1 for T = 50" in sentence
