"""Softmax temperature schedules between 1 and a maximum."""

import math
from typing import Literal, get_args

from rankdeficit.checks import check_at_least, check_temperature

Schedule = Literal["cold", "hot", "up", "down", "cyclic", "cosine"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


def temperature_at(
    schedule: Schedule,
    hottest: float,
    progress: float,
    ramp: float = 0.5,
    cycles: int = 4,
    hot_share: float = 1.0,
) -> float:
    """Temperature T = hottest^w at the fraction `progress` in [0, 1] of training.

    With r = min(1, progress / ramp), the exponent w is
    0 for "cold";
    1 for "hot", and 0 from the fraction `hot_share` on (by default it stays hot);
    r for "up", 1 - r for "down", (1 + cos(pi r)) / 2 for "cosine";
    (1 + cos(2 pi cycles progress)) / 2 for "cyclic", which starts and ends hot.
    Raises ValueError for progress outside [0, 1], a ramp or share outside (0, 1], and unknown schedules.
    """
    check_temperature(hottest)
    check_at_least(1, cycles=cycles)
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is {progress}; it must lie in [0, 1]")
    for name, share in (("ramp", ramp), ("hot_share", hot_share)):
        if not 0 < share <= 1:
            raise ValueError(f"{name} is {share}; it must lie in (0, 1]")
    rising = min(1.0, progress / ramp)
    shares = {
        "cold": 0.0,
        "hot": float(progress < hot_share or hot_share == 1),
        "up": rising,
        "down": 1 - rising,
        "cosine": (1 + math.cos(math.pi * rising)) / 2,
        "cyclic": (1 + math.cos(2 * math.pi * cycles * progress)) / 2,
    }
    if schedule not in shares:
        raise ValueError(f"schedule is {schedule!r}; it must be one of {', '.join(SCHEDULES)}")
    return float(hottest ** shares[schedule])
