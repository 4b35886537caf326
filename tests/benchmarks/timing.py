"""How benchmarks take time, and how a trial of them differs: it is short and asks for no goal."""

import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

THREADS = 2
REPETITIONS = 15
TRIAL = False
"""Whether benchmarks only have to run (`pytest tests/benchmarks -m benchmark --trial`)."""
T = TypeVar("T")


def size(full: T, trial: T) -> T:
    """A size of the problem, and a small one for trials."""
    return trial if TRIAL else full


def meet(reached: bool) -> None:
    """Fail where a goal is missed; a trial has none."""
    assert reached or TRIAL


def seconds(*functions: Callable[[], object], repetitions: int = REPETITIONS) -> list[float]:
    """Median seconds of each function, run in turn; the first round warms up."""
    times: list[list[float]] = [[] for _ in functions]
    for round_ in range(size(repetitions, 1) + 1):
        for function, own in zip(functions, times, strict=True):
            started = time.perf_counter()
            function()
            if round_:
                own.append(time.perf_counter() - started)
    return [median(own) for own in times]
