"""The dial: from pilots at a few temperatures to the temperature to train with."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from rankdeficit.checks import check_at_least, check_not_empty, check_temperature
from rankdeficit.control.dial.pilots import Pilot
from rankdeficit.control.dial.predictor import Prediction, Predictor, Target
from rankdeficit.control.dial.stored import Calibration, stored_predictor

TEMPERATURES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Temperatures of the pilots."""

PilotRunner = Callable[[float], Pilot | None]


@dataclass(frozen=True)
class Try:
    """A pilot with its prediction; both None where it diverged."""

    temperature: float
    pilot: Pilot | None
    predicted: Prediction | None


@dataclass(frozen=True)
class Answer:
    """The temperature whose predicted rank or depth is nearest to the target."""

    kind: str
    """"rank" or "depth"."""
    target: float | int
    temperature: float
    predicted: Prediction
    """At this temperature."""
    reachable: bool
    """Whether the predictions reach the target between the lowest and the highest temperature."""
    initial_norm: float
    """Effective norm of the logits before the first step at this temperature."""
    tries: tuple[Try, ...]
    notes: tuple[str, ...]

    @property
    def head_scale(self) -> float:
        """Factor of the head's weights that makes a training at T = 1 start like this one."""
        return 1 / self.temperature

    def __str__(self) -> str:
        """The answer, the equivalent initial norm and all notes, a sentence a line."""
        value, low, high = (spell(self.kind, own) for own in self.predicted)
        rate = "lr / T^2 for SGD, lr / T for Adam"
        lines = [
            f"train at T = {self.temperature:.3g}: predicted {self.kind} {value} "
            f"(90 % interval {low} to {high}), asked for {spell(self.kind, self.target)}",
            f"equivalent at T = 1: the head's weights times {self.head_scale:.3g} (set_logits_norm to an "
            f"effective norm of {self.initial_norm:.3g}) with the head's learning rate {rate}: "
            "rankdeficit.control.equivalent",
        ]
        return "\n".join([*lines, *self.notes])


def dial(
    pilot: PilotRunner,
    *,
    target_rank: int | None = None,
    target_depth: float | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
    gamma: float = 1e-3,
    calibration: Calibration = "networks",
) -> Answer:
    """The temperature at which a training is predicted to end with a rank or effective depth.

    pilot: trains the first share of a training at a temperature, with the full schedule, and returns a
        `Pilot`, or None if it diverged. It is called once for each temperature, in ascending order.
    target_rank: class-centred numerical rank of the train logits at `gamma`, in 1..min(c - 1, width).
    target_depth: effective depth kappa in (0, 1]; pilots must have a `depth`.
    calibration: intervals widened for real networks, or those of toys.
    Between pilots, predictions are interpolated on the logit scale, linearly in log T. A pilot's own
    temperature is preferred if its prediction, rounded, is the target.
    Raises ValueError unless one target is given, for a target out of range, for temperatures that are not
    positive or given twice, and if all pilots diverge.
    """
    target = check_target(target_rank, target_depth, gamma)
    order = check_temperatures(temperatures)
    asked = float(target_rank if target_depth is None else target_depth)  # type: ignore[arg-type]
    predictor = stored_predictor(target, calibration)
    tries = []
    for temperature in order:
        found = pilot(temperature)
        if found is not None and target.kind == "rank":
            check_rank(asked, found.classes, found.width)
        tries.append(Try(temperature, found, None if found is None else predictor(found)))
    return answer(target, asked, tries, predictor)


def answer(
    target: Target, asked: float | int, tries: Sequence[Try], predictor: Predictor
) -> Answer:
    """The answer from pilots and their predictions. Raises ValueError if all diverged."""
    alive = [own for own in tries if own.pilot is not None]
    if not alive:
        raise ValueError("all pilots diverged; lower the learning rate")
    pilots = [own.pilot for own in alive if own.pilot is not None]
    log_T = np.log([own.temperature for own in pilots])
    logits = np.array([predictor.logits(own) for own in pilots])
    aim = target.logit(asked, pilots[0])
    place, reachable = _place(log_T, logits[:, 0], aim, target, pilots[0])
    at = [float(np.interp(place, log_T, logits[:, column])) for column in range(3)]
    exact = math.exp(place)
    same = [own for own in pilots if math.isclose(own.temperature, exact, rel_tol=1e-9)]
    temperature = float(same[0].temperature if same else f"{exact:.3g}")
    raw = pilots[0].points[0].norm * pilots[0].temperature
    return Answer(
        target.kind,
        asked,
        temperature,
        target.interval(Prediction(*at), pilots[0]),
        reachable,
        raw / temperature,
        tuple(tries),
        tuple(_notes(target, asked, temperature, reachable, tries, pilots)),
    )


def _place(
    log_T: np.ndarray, logits: np.ndarray, aim: float, target: Target, pilot: Pilot
) -> tuple[float, bool]:
    """log T of the prediction nearest to the aim, and whether predictions reach it.

    Of several, the lowest; a pilot's own temperature if its rounded prediction is the aim.
    """
    step, wanted = target.step(pilot), target.value(aim, pilot)
    values = np.array([target.value(own, pilot) for own in logits])
    hits = np.flatnonzero(abs(values - wanted) < step / 2)
    if len(hits):
        return float(log_T[hits[0]]), True
    for i in range(len(logits) - 1):
        before, after = logits[i] - aim, logits[i + 1] - aim
        if before * after < 0:
            share = before / (before - after)
            return float(log_T[i] + share * (log_T[i + 1] - log_T[i])), True
    return float(log_T[abs(values - wanted).argmin()]), False


def _notes(
    target: Target,
    asked: float | int,
    temperature: float,
    reachable: bool,
    tries: Sequence[Try],
    pilots: Sequence[Pilot],
) -> list[str]:
    """What to know about the answer, a line each."""
    notes = []
    diverged = [f"{own.temperature:g}" for own in tries if own.pilot is None]
    if diverged:
        notes.append(f"pilots at T = {', '.join(diverged)} diverged and are left out")
    if not reachable:
        values = [own.predicted.value for own in tries if own.predicted is not None]
        notes.append(
            f"out of reach: predictions between T = {pilots[0].temperature:g} and "
            f"{pilots[-1].temperature:g} go from {spell(target.kind, min(values))} to "
            f"{spell(target.kind, max(values))}, not to {spell(target.kind, asked)}; try other "
            "temperatures"
        )
    around = _around(pilots, temperature)
    if not any(own.left for own in pilots):
        notes.append(
            "no pilot has left its start, so they tell little; take longer pilots, a higher learning "
            "rate or lower temperatures"
        )
    elif not all(own.left for own in around):
        names = ", ".join(f"{own.temperature:g}" for own in around if not own.left)
        notes.append(
            f"the pilot at T = {names} has not left its start: the training may end before it has learnt "
            "anything, so compare its accuracy"
        )
    return notes


def _around(pilots: Sequence[Pilot], temperature: float) -> list[Pilot]:
    """The pilot of this temperature, or its two neighbours."""
    exact = [own for own in pilots if own.temperature == temperature]
    below = [own for own in pilots if own.temperature < temperature][-1:]
    above = [own for own in pilots if own.temperature > temperature][:1]
    return exact or [*below, *above]


def check_target(target_rank: int | None, target_depth: float | None, gamma: float) -> Target:
    """The target. Raises ValueError unless there is one, in the range that every training has."""
    if (target_rank is None) == (target_depth is None):
        raise ValueError(
            "give one of target_rank and target_depth: target_rank 40, or target_depth 0.7"
        )
    if target_depth is not None:
        if not (isinstance(target_depth, Real) and 0 < target_depth <= 1):
            raise ValueError(f"target_depth is {target_depth}; it must lie in (0, 1]")
        return Target("depth")
    check_at_least(1, target_rank=target_rank)  # type: ignore[arg-type]
    return Target("rank", gamma)


def check_rank(rank: float | int, classes: int, width: int) -> None:
    """Raise ValueError for a rank that no logits of so many classes and features have."""
    most = min(classes - 1, width)
    if rank > most:
        raise ValueError(
            f"target_rank is {rank:g}, but class-centred logits of {classes} classes from {width} "
            f"features have rank {most} at most; ask for less"
        )


def check_temperatures(temperatures: Sequence[float]) -> list[float]:
    """The temperatures in ascending order. Raises ValueError for none, bad and equal ones."""
    check_not_empty(temperatures=temperatures)
    for own in temperatures:
        check_temperature(own)
    if len(set(temperatures)) < len(temperatures):
        raise ValueError(f"temperatures are {list(temperatures)}; give each once")
    return sorted(float(own) for own in temperatures)


def spell(kind: str, value: float | int) -> str:
    """A rank as an integer, a depth with two digits."""
    return f"{value:.2f}" if kind == "depth" else f"{value:.0f}"
