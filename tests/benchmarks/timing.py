"""How benchmarks take time."""

import time
from collections.abc import Callable
from statistics import median

THREADS = 2
REPETITIONS = 15


def seconds(*functions: Callable[[], object], repetitions: int = REPETITIONS) -> list[float]:
    """Median seconds of each function, run in turn; the first round warms up."""
    times: list[list[float]] = [[] for _ in functions]
    for round_ in range(repetitions + 1):
        for function, own in zip(functions, times, strict=True):
            started = time.perf_counter()
            function()
            if round_:
                own.append(time.perf_counter() - started)
    return [median(own) for own in times]
