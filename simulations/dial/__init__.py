"""Pilots of toys, and the ranks and depths that they end with: fits and judges the predictor of the dial.

Each batch is a random deep UFM or perceptron, a few configurations of it (learning rate, decay,
scale, data) and a few random temperatures for each. Batches of wider ranges, which take no part in the
fit, judge the intervals. predictor.json in the run folder is what rankdeficit/control/dial holds.

    python -m simulations.dial --out runs/dial
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

from matplotlib.figure import Figure
from rich.table import Table

from rankdeficit.checks import check_at_least
from rankdeficit.experiments import cli
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.runs import RunFolder, write_atomically
from rankdeficit.experiments.settings import CommonSettings, Row
from rankdeficit.spectrum import GAMMAS
from simulations.dial import report
from simulations.dial.fit import summarise
from simulations.dial.toys import INSIDE, OUTSIDE, TINY, Kind, draw, train


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Fit and judge the predictor of final ranks and depths from pilots, on random toys."""

    seeds: int = 160
    """Number of batches of each kind for the fit."""
    judged: int = 52
    """Number of batches of each kind, of wider ranges, on which it is judged."""
    configurations: int = 2
    """Configurations in a batch."""
    temperatures: int = 5
    """Temperatures of each configuration."""
    trial: bool = False
    """Draw tiny toys instead, to try the command."""
    level: float = 0.9
    """Level of the intervals."""
    gamma: float = 1e-3
    """Threshold of the ranks that the table shows; the fit has all of 1e-4, 1e-3, 0.01, 0.03 and 0.1."""


class Unit(NamedTuple):
    """A batch."""

    kind: Kind
    judging: bool
    seed: int


@experiment
class Dial(UnitByUnit[Settings, Unit]):
    """How well do pilots predict the rank and the depth that a training ends with?"""

    settings = Settings
    units = "batches"

    def prepare(self, settings: Settings) -> list[Unit]:
        """Batches of both kinds, those of the fit and the judging ones in turn."""
        check_at_least(
            1, configurations=settings.configurations, temperatures=settings.temperatures
        )
        check_at_least(1, judged=settings.judged)
        if settings.gamma not in GAMMAS:
            raise ValueError(f"gamma is {settings.gamma}; it must be one of {GAMMAS}")
        if not 0 < settings.level < 1:
            raise ValueError(f"level is {settings.level}; it must lie strictly in 0..1")
        return [
            Unit(kind, judging, settings.seed + number)
            for number in range(max(settings.seeds, settings.judged))
            for judging, count in ((False, settings.seeds), (True, settings.judged))
            for kind in get_args(Kind)
            if number < count
        ]

    def compute(self, settings: Settings, unit: Unit) -> Iterator[Row]:
        """A row for each run of the batch."""
        ranges = TINY if settings.trial else OUTSIDE if unit.judging else INSIDE
        toys = draw(unit.kind, ranges, unit.seed, settings.configurations, settings.temperatures)
        for row in train(toys, cli.resolve_device(settings.device)):
            yield {"judging": unit.judging, "batch": unit.seed, **row}

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """The predictor, and the coverage of its intervals."""
        return summarise(rows, settings.level, settings.gamma)

    def work(
        self, settings: Settings, prepared: Sequence[Unit], folder: RunFolder, resumed: bool
    ) -> Row:
        """Train all toys; the fit goes to predictor.json."""
        summary = super().work(settings, prepared, folder, resumed)
        content = json.dumps(summary.pop("predictor"), allow_nan=False) + "\n"
        write_atomically(folder.path / "predictor.json", content.encode())
        return summary

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Coverage and width of the intervals by kind of toy."""
        return report.coverage_table(summary), report.sentences(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Predicted against final values."""
        return {"predictions": report.draw_predictions(summary)}
