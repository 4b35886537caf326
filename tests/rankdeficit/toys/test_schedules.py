"""Temperatures of schedules, by hand."""

from typing import get_args

import pytest

from rankdeficit.toys.schedules import Schedule, temperature_at


@pytest.mark.parametrize(
    ("schedule", "temperatures"),
    [
        ("cold", [1, 1, 1, 1, 1]),
        ("hot", [16, 16, 16, 16, 16]),
        ("up", [1, 4, 16, 16, 16]),
        ("down", [16, 4, 1, 1, 1]),
        ("cyclic", [16, 4, 1, 4, 16]),
        ("cosine", [16, 4, 1, 1, 1]),
    ],
)
def test_schedules_at_quarters(schedule: Schedule, temperatures: list[float]) -> None:
    found = [temperature_at(schedule, 16.0, quarter / 4, 0.5, cycles=1) for quarter in range(5)]
    assert found == pytest.approx(temperatures)


def test_the_ramp_sets_when_annealing_ends() -> None:
    assert temperature_at("up", 16.0, 0.25, ramp=0.25) == pytest.approx(16)
    assert temperature_at("up", 16.0, 0.5, ramp=1.0) == pytest.approx(4)
    assert temperature_at("cosine", 16.0, 0.5, ramp=1.0) == pytest.approx(4)
    assert temperature_at("cosine", 16.0, 1 / 3, ramp=1.0) == pytest.approx(16**0.75)
    assert temperature_at("cyclic", 16.0, 1 / 8, cycles=4) == pytest.approx(1)


def test_hot_for_a_share_is_one_afterwards() -> None:
    found = [temperature_at("hot", 16.0, step / 10, hot_share=0.3) for step in range(11)]
    assert found == [16] * 3 + [1] * 8


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_temperatures_stay_between_one_and_the_hottest(schedule: Schedule) -> None:
    for step in range(101):
        assert 1 <= temperature_at(schedule, 50.0, step / 100) <= 50 * (1 + 1e-15)


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    for arguments, word in (
        (("up", 0.0, 0.5), "temperature"),
        (("up", 5.0, 1.5), "progress"),
        (("up", 5.0, 0.5, 0.0), "ramp"),
        (("sideways", 5.0, 0.5), "sideways"),
        (("up", 5.0, 0.5, 0.5, 0), "cycles"),
        (("hot", 5.0, 0.5, 0.5, 4, 0.0), "hot_share"),
    ):
        with pytest.raises(ValueError, match=word):
            temperature_at(*arguments)
