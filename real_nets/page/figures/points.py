"""What is read from the records of runs: points (x, y) to draw."""

import math
from collections.abc import Iterable
from typing import Any

Run = dict[str, Any]
Row = dict[str, Any]
Points = list[tuple[float, float]]
"""(x, y); several seeds have points at the same x."""


def cases(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """Pairs of network and data, in the order of the runs."""
    return list(dict.fromkeys((run["network"], run["data"]) for run in runs))


def of_case(runs: Iterable[Run], case: tuple[str, str]) -> list[Run]:
    """Those of this network and data."""
    return [run for run in runs if (run["network"], run["data"]) == case]


def at_temperature(runs: Iterable[Run], temperature: float) -> list[Run]:
    """Those at this one."""
    return [run for run in runs if run["temperature"] == temperature]


def during_training(runs: Iterable[Run], *keys: str | int) -> Points:
    """(epoch, number) of all measurements that have one below the keys."""
    rows = [row for run in runs for row in run["rows"]]
    return finite((number(row, "epoch"), number(row, *keys)) for row in rows)


def over_layers(runs: Iterable[Run], *keys: str | int) -> Points:
    """(layer from 1, number) of all layers of reports that have one below the keys."""
    return finite(
        (float(i), number(layer, *keys))
        for run in runs
        for i, layer in enumerate((run.get("report") or {}).get("layers") or (), start=1)
    )


def number(node: Any, *keys: str | int) -> float:
    """The number below the keys, which may be positions in lists; NaN where there is none."""
    for key in keys:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return math.nan
    return math.nan if node is None else float(node)


def finite(points: Iterable[tuple[float, float]]) -> Points:
    """Points without NaN and infinity."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def positive(points: Points) -> Points:
    """Points that a logarithmic axis has a place for."""
    return [(x, y) for x, y in points if y > 0]
