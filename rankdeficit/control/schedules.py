"""Options of a training whose softmax temperature changes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from rankdeficit.experiments.options import Unused
from rankdeficit.toys.schedules import temperature_at

TemperatureSchedule = Literal["constant", "hot", "up", "down", "cyclic", "cosine"]


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """How the temperature changes during training. A network is diagnosed at its last temperature."""

    temperature_schedule: TemperatureSchedule = "constant"
    """Course of the softmax temperature: constant; T for a share of training, then 1 (hot); from 1 to T
    (up); from T to 1 (down, cosine); between T and 1 several times (cyclic)."""
    hot_share: float = 0.3
    """Share of training at temperature T with the schedule hot."""
    temperature_ramp: float = 0.5
    """Share of training during which the schedules up, down and cosine change the temperature."""
    temperature_cycles: int = 4
    """Number of periods of the cyclic schedule."""

    def __post_init__(self) -> None:
        known = get_args(TemperatureSchedule)
        if self.temperature_schedule not in known:
            raise ValueError(
                f"temperature_schedule is {self.temperature_schedule!r}; it must be one of "
                f"{', '.join(known)}"
            )
        for name in ("hot_share", "temperature_ramp"):
            if not 0 < (share := getattr(self, name)) <= 1:
                raise ValueError(f"{name} is {share}; it must lie in (0, 1]")
        if self.temperature_cycles < 1:
            raise ValueError(
                f"temperature_cycles is {self.temperature_cycles}; it must be at least 1"
            )

    def temperature_after(self, temperature: float, step: int, steps: int) -> float:
        """Softmax temperature after `step` of `steps` steps of a training at T = `temperature`."""
        if self.temperature_schedule == "constant":
            return temperature
        return temperature_at(
            self.temperature_schedule,
            temperature,
            min(1.0, step / max(1, steps)),
            self.temperature_ramp,
            self.temperature_cycles,
            self.hot_share,
        )

    def unused_of_schedule(self) -> Unused:
        """Options that have no effect beside the others."""
        used = {
            "hot": {"hot_share"},
            "up": {"temperature_ramp"},
            "down": {"temperature_ramp"},
            "cosine": {"temperature_ramp"},
            "cyclic": {"temperature_cycles"},
        }.get(self.temperature_schedule, set())
        options = {"hot_share", "temperature_ramp", "temperature_cycles"}
        reason = f"with --temperature-schedule {self.temperature_schedule}; take another schedule"
        return dict.fromkeys(sorted(options - used), reason)

    def notes_on_schedule(self, temperature: float, last: float) -> list[str]:
        """The note of a diagnosis at the last temperature; empty where it never changed."""
        if self.temperature_schedule == "constant":
            return []
        return [
            f"trained with temperature schedule {self.temperature_schedule} and T = {temperature:g}; "
            f"all measures are at the last temperature of training, {last:g}"
        ]


def last_temperatures(runs: Iterable[tuple[float, float | None]]) -> list[str]:
    """A sentence on runs (T, last temperature) that were not measured at T; empty for none."""
    moved = {T: last for T, last in runs if last is not None and last != T}
    if not moved:
        return []
    found = ", ".join(f"{last:g} for T = {T:g}" for T, last in sorted(moved.items()))
    return [f"Losses and effective norms are at the last temperature of the schedule: {found}."]
