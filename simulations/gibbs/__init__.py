"""Softmax outputs as Gibbs states: energy, entropy, free energy and optimal temperatures against theory.

Four parts. Classes are drawn at temperatures T by Gumbel noise and their energy and entropy compared with
the formulas. The temperature of Gaussian clusters is fitted and compared with 2 sigma^2. Two logits are
fitted to noisy labels and their gap compared with T ln(q / (1 - q)). Weight decay is raised: in the
two-factor model this acts as a higher temperature, on two inputs of unequal length no temperature has the
same effect.

    python -m simulations.gibbs --sigma 0.5 1 2 --seeds 8
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table

from rankdeficit.checks import check_at_least, check_positive
from rankdeficit.experiments import cli
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.settings import Row, TemperatureSettings, check_values
from rankdeficit.toys.ufm import UfmShape
from simulations.gibbs import decay, fits, report, states, verdicts
from simulations.gibbs.fits import Arrangement
from simulations.gibbs.states import Kind

Part = Literal["states", "clusters", "noise", "decay"]


@dataclass(frozen=True)
class Settings(TemperatureSettings):
    """Compare softmax outputs with the theory of Gibbs states."""

    temperature: tuple[float, ...] = (1.0, 4.0, 16.0)
    """Temperatures of training, for noisy labels and for weight decay."""
    classes: int = 10
    """Number of classes c."""
    samples: int = 5000
    """Draws per temperature, points of clusters and noisy labels."""
    kind: tuple[Kind, ...] = get_args(Kind)
    """Kinds of logits whose states are drawn, each with mean 0 and variance 1 over classes."""
    least_temperature: float = 0.05
    """Lowest temperature of the states."""
    largest_temperature: float = 50.0
    """Highest temperature of the states."""
    temperatures: int = 25
    """Number of temperatures of the states, evenly spaced in log T."""
    arrangement: tuple[Arrangement, ...] = get_args(Arrangement)
    """Means of Gaussian clusters: standard normal, or on a circle of radius 2."""
    inputs: int = 3
    """Dimensions of Gaussian clusters."""
    sigma: tuple[float, ...] = (0.5, 0.8, 1.2, 2.0, 3.0)
    """Standard deviations of Gaussian clusters."""
    noise: tuple[float, ...] = (0.01, 0.03, 0.1, 0.2, 0.3, 0.4)
    """Shares of flipped labels, of two classes."""
    decay: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
    """Weight decays lambda, of weights and of free features."""
    samples_per_class: int = 2
    """Samples per class N of the two-factor model."""
    lengths: tuple[float, ...] = (1.0, 3.0)
    """Lengths of the two orthogonal inputs on which decay does not act as heating."""


class Unit(NamedTuple):
    """One part with one seed."""

    part: Part
    seed: int


@experiment
class Gibbs(UnitByUnit[Settings, Unit]):
    """Do softmax outputs behave as Gibbs states, and when is weight decay a higher temperature?"""

    settings = Settings
    units = "parts"

    def prepare(self, settings: Settings) -> list[Unit]:
        """All parts with all seeds."""
        check_values(
            kind=settings.kind,
            arrangement=settings.arrangement,
            sigma=settings.sigma,
            noise=settings.noise,
            decay=settings.decay,
        )
        check_at_least(3, classes=settings.classes)
        check_at_least(2, temperatures=settings.temperatures, samples=settings.samples)
        check_at_least(2, inputs=settings.inputs)
        check_at_least(1, samples_per_class=settings.samples_per_class)
        if not 0 < settings.least_temperature < settings.largest_temperature < math.inf:
            raise ValueError(
                f"least_temperature is {settings.least_temperature} and largest_temperature "
                f"{settings.largest_temperature}; they must be positive, finite and in this order"
            )
        if not all(0 < rate < 0.5 for rate in settings.noise):
            raise ValueError(f"noise is {settings.noise}; shares must lie strictly in 0..0.5")
        if len(settings.lengths) != 2:
            raise ValueError(f"lengths are {settings.lengths}; give two")
        check_positive(sigma=settings.sigma, decay=settings.decay, lengths=settings.lengths)
        return [Unit(*unit) for unit in product(get_args(Part), settings.seed_range)]

    def compute(self, settings: Settings, unit: Unit) -> Iterator[Row]:
        """The rows of one part."""
        for row in self._rows(settings, unit):
            yield {**unit._asdict(), **row}

    def _rows(self, settings: Settings, unit: Unit) -> Iterator[Row]:
        device = cli.resolve_device(settings.device)
        generator = torch.Generator().manual_seed(unit.seed)
        temperatures = sorted(set(settings.temperature))
        if unit.part == "states":
            curve = np.geomspace(
                settings.least_temperature, settings.largest_temperature, settings.temperatures
            ).tolist()
            for kind in dict.fromkeys(settings.kind):
                logits = states.logits_of(kind, settings.classes, settings.seed).to(device)
                yield from states.measure(kind, logits, curve, settings.samples, generator)
        elif unit.part == "clusters":
            size = fits.Clusters(settings.classes, settings.inputs, settings.samples)
            for arrangement in dict.fromkeys(settings.arrangement):
                sigmas = sorted(set(settings.sigma))
                yield from fits.fit_clusters(
                    arrangement, size, sigmas, settings.gamma, generator, device
                )
        elif unit.part == "noise":
            for T in temperatures:
                yield from fits.fit_noise(
                    T, sorted(set(settings.noise)), settings.samples, generator
                )
        else:
            decays = sorted(set(settings.decay))
            shape = UfmShape(settings.classes, settings.samples_per_class, settings.classes, 1)
            for T in temperatures:
                for row in decay.two_factors(shape, T, decays, unit.seed, device):
                    yield {"model": "two factors", **row}
                for row in decay.linear(settings.lengths, T, decays, unit.seed):
                    yield {"model": "linear", **row}

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """Every statement with its measured errors, and the settings that figures need."""
        return {
            "gamma": settings.gamma,
            "seeds": settings.seeds,
            "classes": settings.classes,
            "samples": settings.samples,
            "lengths": settings.lengths,
            "verdicts": verdicts.judge(rows),
            "fits": verdicts.cluster_fits(rows),
            "heating": verdicts.heating(rows),
        }

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """The statements with measurement and verdict."""
        return report.report(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """One page."""
        return {"gibbs": report.draw(rows, summary)}
