"""What explains the final rank: initial norm, temperature, rates, decay, depth, width, or time?

Random deep UFMs and perceptrons are trained at random temperatures, with random scales of their initial
weights. Regressions predict the final class-centred rank of configurations that they have not seen, with
and without each number. A table of trained networks is judged in the same way.

    python -m simulations.explain --networks real_nets/results/explained/networks.csv
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

from matplotlib.figure import Figure
from rich.table import Table

from rankdeficit.checks import check_at_least
from rankdeficit.experiments import cli
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.settings import CommonSettings, Row
from simulations.dial.toys import OUTSIDE, TINY, Kind, draw
from simulations.explain import report
from simulations.explain.fits import summarise
from simulations.explain.rows import follow, read_networks


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Fit and judge regressions of the final rank on what a training starts from."""

    seeds: int = 80
    """Number of batches of each kind of toy."""
    configurations: int = 2
    """Configurations in a batch."""
    temperatures: int = 4
    """Temperatures of each configuration."""
    networks: Path | None = None
    """Table of trained networks (CSV), which are judged beside the toys."""
    trial: bool = False
    """Draw tiny toys instead, to try the command."""
    gamma: float = 1e-2
    """Threshold of the rank."""


class Unit(NamedTuple):
    """A batch of toys, or the table of networks."""

    kind: Kind | None
    seed: int


@experiment
class Explain(UnitByUnit[Settings, Unit]):
    """What explains the final rank, and does temperature act beyond the initial norm?"""

    settings = Settings
    units = "batches"

    def prepare(self, settings: Settings) -> list[Unit]:
        """Batches of both kinds, and the networks."""
        check_at_least(
            1, configurations=settings.configurations, temperatures=settings.temperatures
        )
        if settings.networks is not None:
            read_networks(settings.networks, settings.gamma)
        toys = [Unit(kind, seed) for seed in settings.seed_range for kind in get_args(Kind)]
        return toys + ([Unit(None, 0)] if settings.networks is not None else [])

    def compute(self, settings: Settings, unit: Unit) -> Iterator[Row]:
        """A row for each run of the batch, or for each network."""
        if unit.kind is None:
            assert settings.networks is not None
            yield from read_networks(settings.networks, settings.gamma)
            return
        ranges = TINY if settings.trial else OUTSIDE
        toys = draw(unit.kind, ranges, unit.seed, settings.configurations, settings.temperatures)
        yield from follow(toys, unit.seed, settings.gamma, cli.resolve_device(settings.device))

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """Held-out errors of all regressions, and what each number adds."""
        return {"gamma": settings.gamma} | summarise(rows)

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """A row for each source and regression."""
        return report.error_table(summary), report.sentences(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Predicted against final ranks, and errors of the regressions."""
        return {"explained": report.draw(summary)}
