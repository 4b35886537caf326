"""Every simulation on a device that is not the CPU."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import simulations
from rankdeficit.experiments.experiment import Experiment, find_experiments

NAMES = sorted(name.removeprefix("simulations.") for name in find_experiments(simulations))
LONG = {
    "dial", "distillation", "dynamics", "equivalence", "explain", "gibbs", "hyperparameters", "imbalance",
    "interventions", "margins", "minima", "phase_diagram",
}  # fmt: skip
FEWEST = {"dial": 2, "explain": 3}
"""Seeds of simulations that cannot do with one."""
SIMULATIONS = [
    pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in NAMES
]


def definition(simulation: str) -> Experiment[Any, Any]:
    return find_experiments(simulations)[f"simulations.{simulation}"]()


def results(simulation: str, device: str, out: Path) -> list[bytes]:
    settings = import_module(f"tests.simulations.test_{simulation}").SMALL
    shorter = {"steps": max(1, settings.steps // 8)} if hasattr(settings, "steps") else {}
    seeds = min(settings.seeds, FEWEST.get(simulation, 1))
    folder = definition(simulation).run(
        replace(settings, seeds=seeds, device=device, out=out, **shorter)
    )
    return [(folder / name).read_bytes() for name in ("summary.json", "metrics.jsonl")]


@pytest.mark.parametrize("simulation", SIMULATIONS)
def test_a_simulation_gives_the_same_on_a_stand_in(
    simulation: str, stand_in_device: torch.device, tmp_path: Path
) -> None:
    found = results(simulation, str(stand_in_device), tmp_path / "stand-in")
    assert found == results(simulation, "cpu", tmp_path / "cpu")
