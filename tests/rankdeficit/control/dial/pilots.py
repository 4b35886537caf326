"""Pilots of a made-up world, whose end is a known function of what they show."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rankdeficit.control.dial import Example, Pilot, Point, Target
from rankdeficit.spectrum import GAMMAS


def pilot(rank: int = 20, loss: float = 1.0, temperature: float = 1.0, **options: Any) -> Pilot:
    """Ranks are the same at every gamma; 41 classes, so that the full rank is 40."""
    usual = {"classes": 41, "width": 64, "layers": 5, "share": 0.1}
    start = Point(0, (40,) * len(GAMMAS), 2.0 / (temperature or 1), math.log(41), 0.02)
    end = Point(30, (rank,) * len(GAMMAS), 3.0 / (temperature or 1), loss, 0.5)
    return Pilot(**usual | {"temperature": temperature, "points": (start, end)} | options)


def world(count: int, seed: int, noise: float, each: int = 3) -> list[Example]:
    """Groups of pilots: the logit of the rank changes by 0.5, minus 0.3 ln T, and noise of the group."""
    random = np.random.default_rng(seed)
    target, found = Target("rank"), []
    for group in range(count):
        own = random.normal(0, noise)
        for _ in range(each):
            temperature = float(np.exp(random.uniform(0, 4)))
            one = pilot(int(random.integers(5, 36)), temperature=temperature)
            logit = target.now(one) + 0.5 - 0.3 * math.log(temperature) + own
            found.append(Example(one, target.value(logit, one), (seed, group)))
    return found


def ends(examples: Sequence[Example]) -> list[float]:
    return [own.end for own in examples]
