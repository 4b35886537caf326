"""Softmax temperature schedules between 1 and a maximum."""

import math
from typing import Literal, get_args

from rankdeficit.checks import check_at_least, check_temperature

Schedule = Literal["cold", "hot", "up", "down", "cyclic"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


def temperature_at(
    schedule: Schedule, hottest: float, progress: float, ramp: float = 0.5, cycles: int = 4
) -> float:
    """Temperature T = hottest^w at the fraction `progress` in [0, 1] of training.

    The exponent w is 0 for "cold", 1 for "hot", min(1, progress / ramp) for "up", 1 minus that for
    "down", and (1 + cos(2 pi cycles progress)) / 2 for "cyclic", which starts and ends hot.
    Raises ValueError for progress outside [0, 1], a ramp outside (0, 1], and unknown schedules.
    """
    check_temperature(hottest)
    check_at_least(1, cycles=cycles)
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is {progress}; it must lie in [0, 1]")
    if not 0 < ramp <= 1:
        raise ValueError(f"ramp is {ramp}; it must lie in (0, 1]")
    rising = min(1.0, progress / ramp)
    shares = {
        "cold": 0.0,
        "hot": 1.0,
        "up": rising,
        "down": 1 - rising,
        "cyclic": (1 + math.cos(2 * math.pi * cycles * progress)) / 2,
    }
    if schedule not in shares:
        raise ValueError(f"schedule is {schedule!r}; it must be one of {', '.join(SCHEDULES)}")
    return float(hottest ** shares[schedule])
