"""What sets the initial logits norm without touching the temperature, and what rank follows from it.

Interventions on one baseline, an MLP on Gaussian clusters: initialisation, width, depth, normalisation
before and after the logits, optimiser, weight decay, label smoothing (the paper's section 5). If the
initial norm is what counts, each of them ends with the rank that temperature alone gives at the same
initial effective norm ||M||_F / (sqrt(n) T): the dashed curve, from runs that change T only.

    python -m simulations.hyperparameters
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table

from rankdeficit.checks import check_at_least, divergence_bound
from rankdeficit.correlation import spearman
from rankdeficit.diagnostics import measure_logits
from rankdeficit.experiments import cli, tables
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.settings import (
    ClusterSettings,
    Row,
    ShapeSettings,
    TemperatureSettings,
)
from rankdeficit.spectrum import spectrum
from rankdeficit.toys.mlp import (
    BatchedMlp,
    Initialisation,
    MlpShape,
    gaussian_clusters,
    initial_parameters,
)
from rankdeficit.toys.optimizers import OptimizerName, make_optimizer
from simulations.hyperparameters import report

TEMPERATURES = "temperature"
"""The family whose runs make the dashed curve."""


@dataclass(frozen=True)
class Settings(TemperatureSettings, ShapeSettings, ClusterSettings):
    """Interventions on the logits norm of an MLP, and the ranks they lead to."""

    seeds: int = 3
    """Runs per intervention, each with its own initial weights."""
    gamma: float = 1e-2
    """Threshold of the numerical rank; at 1e-3 most of these small networks have full rank."""
    temperature: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0, 300.0)
    """Temperatures that the other interventions are compared with, besides the baseline's 1."""
    classes: int = 50
    """Number of Gaussian clusters c."""
    depth: int = 6
    """Weight matrices of the baseline."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    sgd_lr: float = 0.05
    """Learning rate of SGD with momentum 0.9."""
    steps: int = 500
    """Training steps, all samples in each."""


@dataclass(frozen=True)
class Intervention:
    """The baseline, or one change of it."""

    family: str
    name: str
    width: int
    depth: int
    temperature: float = 1.0
    init: Initialisation = "he"
    init_scale: float = 1.0
    optimizer: OptimizerName = "adam"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    layers: dict[str, Any] = field(default_factory=dict)
    """Further fields of the MlpShape."""


def interventions(settings: Settings) -> list[Intervention]:
    """The baseline and every change of it."""
    base = Intervention(TEMPERATURES, "baseline", settings.width, settings.depth)

    def change(family: str, name: str, **changes: Any) -> Intervention:
        return replace(base, family=family, name=name, **changes)

    hot = sorted({*settings.temperature} - {1.0})
    return [
        base,
        *(change(TEMPERATURES, f"T = {T:g}", temperature=T) for T in hot),
        *(
            change("init scale", f"init scale {scale:g}", init_scale=scale)
            for scale in (0.4, 0.6, 0.8, 1.25)
        ),
        change("init scheme", "LeCun", init="lecun"),
        change("init scheme", "Xavier", init="xavier"),
        change("init scheme", "orthogonal", init="orthogonal"),
        change("init scheme", "head 1e-12", init="small-head"),
        *(
            change("width", f"width {width}", width=width)
            for width in (settings.width // 2, settings.width * 2)
        ),
        *(
            change("depth", f"depth {depth}", depth=depth)
            for depth in (max(2, settings.depth // 2), settings.depth + settings.depth // 2)
        ),
        *(
            change("normalisation", f"{kind} norm", layers={"normalisation": kind})
            for kind in ("layer", "rms", "batch")
        ),
        change("normalisation", "layer norm of logits", layers={"norm_logits": True}),
        change(
            "normalisation",
            "batch norm, logits too",
            layers={"normalisation": "batch", "norm_logits": True},
        ),
        change("optimiser", "SGD, momentum 0.9", optimizer="sgd"),
        *(
            change("weight decay", f"L2 {decay:g}", weight_decay=decay)
            for decay in (1e-5, 1e-4, 1e-3)
        ),
        change("label smoothing", "smoothing 0.1", label_smoothing=0.1),
    ]


@experiment
class Hyperparameters(UnitByUnit[Settings, Intervention]):
    """Does the initial logits norm predict the final rank, whatever sets that norm?"""

    settings = Settings
    units = "interventions"

    def prepare(self, settings: Settings) -> list[Intervention]:
        """All interventions."""
        check_at_least(1, steps=settings.steps)
        check_at_least(2, width=settings.width, depth=settings.depth)
        for name, rate in (("lr", settings.lr), ("sgd_lr", settings.sgd_lr)):
            if not 0 < rate < math.inf:
                raise ValueError(f"{name} is {rate}; it must be positive and finite")
        clusters(settings)
        return interventions(settings)

    def compute(self, settings: Settings, unit: Intervention) -> Iterator[Row]:
        """Train all seeds of one intervention."""
        return train(settings, unit)

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """Initial norms and final ranks, and their correlations."""
        return summarise(settings, rows)

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Initial norm and final rank of every intervention."""
        return report.report(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Final rank against initial norm."""
        return {"norm_and_rank": report.draw_ranks(summary)}


def clusters(settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian clusters of the first seed, and their labels."""
    return gaussian_clusters(
        settings.classes,
        settings.samples_per_class,
        settings.inputs,
        settings.separation,
        settings.seed,
    )


def train(settings: Settings, intervention: Intervention) -> Iterator[Row]:
    """Train all seeds of an intervention in one batch; a row each, with measures before and after."""
    device = cli.resolve_device(settings.device)
    x, labels = clusters(settings)
    x, labels = x[None].to(device), labels[None].to(device)
    shape = MlpShape(
        settings.inputs,
        settings.classes,
        intervention.width,
        intervention.depth,
        **intervention.layers,
    )
    parameters = initial_parameters(
        shape,
        list(settings.seed_range),
        intervention.init,
        intervention.init_scale,
        device=device,
    )
    model = BatchedMlp(
        shape,
        parameters,
        torch.full((settings.seeds,), intervention.temperature, dtype=torch.float64),
        weight_decay=intervention.weight_decay,
        label_smoothing=intervention.label_smoothing,
    )
    rate = settings.lr if intervention.optimizer == "adam" else settings.sgd_lr
    optimizer = make_optimizer(intervention.optimizer, parameters, model.gradient, rate)
    with torch.no_grad():
        first = model.forward(x).logits.double()
    initial_norms = first.norm(dim=(1, 2)) / first.shape[1] ** 0.5
    for _ in range(settings.steps):
        model.compute_gradient(x, labels)
        optimizer.step()
    with torch.no_grad():
        layers = model.forward(x)
        loss = model.data_loss(x, labels)
    bound = divergence_bound(layers.logits.dtype)
    alive = loss.isfinite() & (layers.logits.abs() < bound).all(dim=(1, 2))
    logits = torch.where(alive[:, None, None], layers.logits, 0)
    hidden = torch.where(alive[:, None, None], layers.inputs[-1], 0)
    measures = measure_logits(logits, model.temperatures, settings.gamma)
    hidden_ranks = spectrum(hidden).rank(settings.gamma)
    accuracy = (logits.argmax(dim=-1) == labels).double().mean(dim=-1)
    for i, seed in enumerate(settings.seed_range):
        initial = initial_norms[i].item()
        measured = {
            "loss": loss[i].item(),
            "accuracy": accuracy[i].item(),
            **measures.record(i),
            "hidden_rank": int(hidden_ranks[i]),
        }
        del measured["singular_values"]
        yield {
            "family": intervention.family,
            "name": intervention.name,
            "seed": seed,
            "temperature": intervention.temperature,
            "initial_norm": initial,
            "initial_effective_norm": initial / intervention.temperature,
            **(measured if alive[i] else dict.fromkeys(measured)),
        }


def summarise(settings: Settings, rows: list[Row]) -> Row:
    """Medians per intervention, the rank each should have by its initial norm, and the correlations."""
    uniform = math.log(settings.classes)
    for row in rows:
        row["outcome"] = tables.outcome(row["loss"], row["accuracy"], uniform)
    cells = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        alive = [row for row in own if row["loss"] is not None]
        ranks = [row["rank"] for row in alive]
        cells.append(
            {
                "family": own[0]["family"],
                "name": name,
                "temperature": own[0]["temperature"],
                "initial_effective_norm": median(row["initial_effective_norm"] for row in own),
                "accuracy": median(row["accuracy"] for row in alive) if alive else None,
                "final_effective_norm": median(row["effective_logits_norm"] for row in alive)
                if alive
                else None,
                "rank": median(ranks) if alive else None,
                "rank_range": [min(ranks), max(ranks)] if alive else None,
                "hidden_rank": median(row["hidden_rank"] for row in alive) if alive else None,
                "interpolated": sum(row["outcome"] == "interpolated" for row in own),
                "runs": len(own),
            }
        )
    curve = sorted(
        (cell["initial_effective_norm"], cell["rank"])
        for cell in cells
        if cell["family"] == TEMPERATURES and cell["interpolated"] == cell["runs"]
    )
    for cell in cells:
        cell["predicted_rank"] = read_off(curve, cell["initial_effective_norm"])
    return {
        "classes": settings.classes,
        "gamma": settings.gamma,
        "seeds": settings.seeds,
        "neural_collapse_rank": tables.neural_collapse_rank(settings.classes, settings.width),
        "cells": cells,
        "curve_family": TEMPERATURES,
        "curve": curve,
        "runs": rows,
        "correlations": correlations(cells),
    }


def read_off(curve: Sequence[tuple[float, float]], norm: float) -> float | None:
    """The rank on the temperature curve at this norm, linear in its logarithm; None outside of it."""
    if not curve or not curve[0][0] <= norm <= curve[-1][0]:
        return None
    norms, ranks = zip(*curve, strict=True)
    return float(np.interp(math.log(norm), np.log(norms), ranks))


def correlations(cells: Sequence[Row]) -> Row:
    """Spearman's rho of initial norm and final rank over interpolating interventions, by group."""
    settled = [cell for cell in cells if cell["interpolated"] == cell["runs"]]
    groups = {
        "all": settled,
        "without temperature": [c for c in settled if c["family"] != TEMPERATURES],
        "without temperature and normalisation": [
            c for c in settled if c["family"] not in (TEMPERATURES, "normalisation")
        ],
    }
    found = {}
    for name, own in groups.items():
        norms = [cell["initial_effective_norm"] for cell in own]
        ranks = [cell["rank"] for cell in own]
        if (correlation := spearman(norms, ranks)) is not None:
            found[name] = correlation._asdict()
    return found
