"""Numerical rank and entropy of attention, softmax(Q K^T / (sqrt(d) T)), against the temperature T.

Queries and keys are normal, so that the logits have variance 1 / T^2. Before the softmax the rank is at
most d. After it, theory predicts the rank: at high T from where each singular value crosses gamma (with a
proven interval), in between from the limit of many tokens, at low T from the number of attended keys.

    python -m simulations.attention --tokens 64 128 --dimension 2 8 32
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from rankdeficit.checks import check_at_least
from rankdeficit.experiments import cli
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.settings import CommonSettings, Row, check_values
from simulations.attention import measures, report
from simulations.attention.measures import Unit


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Rank and entropy of softmax(Q K^T / (sqrt(d) T)) for random Q and K, over temperatures T."""

    seeds: int = 5
    """Random queries and keys per number of tokens and dimension."""
    tokens: tuple[int, ...] = (64, 128)
    """Numbers n of tokens: queries and keys."""
    dimension: tuple[int, ...] = (2, 8, 32)
    """Dimensions d of queries and keys."""
    least_temperature: float = 0.01
    """Lowest temperature T of the attention."""
    largest_temperature: float = 1e4
    """Highest temperature T of the attention."""
    temperatures: int = 37
    """Number of temperatures, evenly spaced in log T."""


@experiment
class AttentionRank(UnitByUnit[Settings, Unit]):
    """How do rank and entropy of attention depend on its temperature?"""

    settings = Settings
    units = "matrices"

    def prepare(self, settings: Settings) -> list[Unit]:
        """All draws of queries and keys. Raises ValueError for bad sizes and temperatures."""
        check_values(tokens=settings.tokens, dimension=settings.dimension)
        check_at_least(2, tokens=min(settings.tokens), temperatures=settings.temperatures)
        check_at_least(1, dimension=min(settings.dimension))
        low, high = settings.least_temperature, settings.largest_temperature
        if not 0 < low < high < math.inf:
            raise ValueError(
                f"least_temperature is {low} and largest_temperature {high}; they must be positive, "
                "finite and in this order"
            )
        sizes = sorted(set(settings.tokens)), sorted(set(settings.dimension))
        return [Unit(*unit) for unit in product(*sizes, settings.seed_range)]

    def compute(self, settings: Settings, unit: Unit) -> Iterator[Row]:
        """One row per temperature."""
        ends = settings.least_temperature, settings.largest_temperature
        temperatures = np.geomspace(*ends, settings.temperatures)
        return measures.measure(
            unit, temperatures, settings.gamma, cli.resolve_device(settings.device)
        )

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """Medians over seeds."""
        return measures.summarise(settings.gamma, settings.seeds, rows)

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Ranks and entropies, and how well theory predicts them."""
        return report.results_table(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Rank and entropy against temperature."""
        return {"attention": report.draw(summary)}
