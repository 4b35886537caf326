"""Trainings of networks with their pilots: coverage of the intervals, and how much to widen them."""

import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from rankdeficit.control.dial.conformal import grouped_quantile
from rankdeficit.control.dial.pilots import Pilot, Point
from rankdeficit.control.dial.predictor import Example, Predictor, Target
from rankdeficit.spectrum import GAMMAS


@dataclass(frozen=True)
class Trained:
    """A pilot of a network and what the whole training ended with."""

    configuration: str
    architecture: str
    pilot: Pilot
    ranks: tuple[int, ...]
    """Class-centred rank at each of GAMMAS."""
    depth: float | None
    accuracy: float
    """On train images, at the end."""

    def example(self, target: Target) -> Example | None:
        """The example of a target; None where the depth was not measured."""
        if target.kind == "rank":
            end = float(self.ranks[GAMMAS.index(target.gamma)])
            return Example(self.pilot, end, self.configuration)
        if self.depth is None or self.pilot.depth is None:
            return None
        return Example(self.pilot, self.depth, self.configuration)


class Judged(TypedDict):
    """A prediction beside what a training ended with."""

    target: str
    configuration: str
    architecture: str
    temperature: float
    left: bool
    now: float
    """The rank or depth at the end of the pilot."""
    predicted: float
    toys: tuple[float, float]
    """Interval from residuals of toys."""
    networks: tuple[float, float]
    """The same, widened by the factor of networks of other architectures."""
    end: float
    most: float
    """The full rank; 1 for depths."""


class Coverage(TypedDict):
    """How often intervals hold; widths and errors are shares of the largest value."""

    target: str
    runs: int
    toys: float
    networks: float
    toys_width: float
    networks_width: float
    error: float
    error_without_change: float


def pilot_of(record: dict[str, Any]) -> Pilot:
    """The pilot of a record of plain values, as `asdict` gives it."""
    points = tuple(Point(**own | {"ranks": tuple(own["ranks"])}) for own in record["points"])
    return Pilot(**record | {"points": points})


def read_run(path: Path) -> list[Trained]:
    """Trainings in a run folder of real_nets.dial that have a pilot and an end; none that diverged.

    Raises ValueError for another folder, and for damaged files.
    """
    try:
        settings = json.loads((path / "settings.json").read_text())["settings"]
        found = []
        for file in sorted(path.glob("*/end.json")):
            end = json.loads(file.read_text())
            begun = json.loads((file.parent / "pilot.json").read_text())
            if end["diverged"] is None and begun["pilot"] is not None:
                ranks, pilot = tuple(end["ranks"]), pilot_of(begun["pilot"])
                own = path.name, settings["model"], pilot, ranks, end["depth"], end["accuracy"]
                found.append(Trained(*own))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no run folder of real_nets.dial, or is damaged ({error}); name others"
        ) from error
    return found


def factor(predictor: Predictor, trained: Sequence[Trained], level: float) -> float:
    """By how much intervals of toys must be widened for networks; configurations are the groups.

    Infinite for fewer than level / (1 - level) configurations.
    """
    examples = [own for one in trained if (own := one.example(predictor.target)) is not None]
    groups = [one.group for one in examples]
    return _factor([predictor.least_factor(own) for own in examples], groups, level)


def _factor(factors: Sequence[float], groups: Sequence[Hashable], level: float) -> float:
    return grouped_quantile(np.array(factors, float), groups, level) if factors else math.inf


def judge(predictor: Predictor, trained: Sequence[Trained], level: float) -> list[Judged]:
    """Each training beside its prediction.

    The second interval is widened by the factor of all other architectures, so that the architecture that
    is judged has taken no part in it.
    """
    target, found = predictor.target, []
    pairs = [(one, own) for one in trained if (own := one.example(target)) is not None]
    factors = [predictor.least_factor(own) for _, own in pairs]
    for one, example in pairs:
        others = [i for i, (other, _) in enumerate(pairs) if other.architecture != one.architecture]
        groups = [pairs[i][1].group for i in others]
        widened = predictor.widened(_factor([factors[i] for i in others], groups, level))
        by_toys, by_networks = predictor(one.pilot), widened(one.pilot)
        found.append(
            Judged(
                target=target.name,
                configuration=one.configuration,
                architecture=one.architecture,
                temperature=one.pilot.temperature,
                left=one.pilot.left,
                now=target.value(target.now(one.pilot), one.pilot),
                predicted=by_toys.value,
                toys=(by_toys.low, by_toys.high),
                networks=(by_networks.low, by_networks.high),
                end=example.end,
                most=1.0 if target.kind == "depth" else float(one.pilot.full_rank),
            )
        )
    return found


def inside(judged: Judged, interval: tuple[float, float]) -> bool:
    """Whether the end lies in an interval."""
    end = min(judged["end"], judged["most"])
    return interval[0] - 1e-9 <= end <= interval[1] + 1e-9


def coverage(judged: Sequence[Judged]) -> Coverage:
    """Shares of trainings within both intervals, their median widths, and mean errors."""

    def mean(values: Sequence[float | bool]) -> float:
        return float(np.mean(values))

    def width(name: str) -> float:
        return float(np.median([(own[name][1] - own[name][0]) / own["most"] for own in judged]))  # type: ignore[literal-required]

    return Coverage(
        target=judged[0]["target"],
        runs=len(judged),
        toys=mean([inside(own, own["toys"]) for own in judged]),
        networks=mean([inside(own, own["networks"]) for own in judged]),
        toys_width=width("toys"),
        networks_width=width("networks"),
        error=mean([abs(own["predicted"] - own["end"]) / own["most"] for own in judged]),
        error_without_change=mean([abs(own["now"] - own["end"]) / own["most"] for own in judged]),
    )


def records_of(trained: Sequence[Trained]) -> list[dict[str, Any]]:
    """Plain values of trainings, from which `trained_of` makes them again."""
    return [asdict(one) for one in trained]


def trained_of(records: Sequence[dict[str, Any]]) -> list[Trained]:
    """Trainings of plain values."""
    return [
        Trained(**own | {"pilot": pilot_of(own["pilot"]), "ranks": tuple(own["ranks"])})
        for own in records
    ]
