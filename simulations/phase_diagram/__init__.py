"""Which structure the best minimum of a deep linear unconstrained feature model has, over T and depth.

Many random starts per configuration, all runs of a depth in one batched program, against the closed
forms of the known structures: simplex ETF (rank c - 1), pairs (c/2), Petersen code (4, ten classes),
circle (2) and zero. Structures are compared with each other and with what training finds; none is
proven to be the global minimum beyond two factors. The geometry of each best minimum is recognised from
its logits (`rankdeficit.structures`).

    python -m simulations.phase_diagram --temperature 1 10 100 1000 --depth 1 2 3
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table

from rankdeficit import constructions
from rankdeficit.checks import check_at_least, check_positive, divergence_bound
from rankdeficit.constructions import Code
from rankdeficit.diagnostics import measure_logits
from rankdeficit.experiments import cli, tables
from rankdeficit.experiments.experiment import StepByStep, experiment
from rankdeficit.experiments.loops import OptimizedBatch
from rankdeficit.experiments.options import Unused
from rankdeficit.experiments.settings import (
    DepthSettings,
    Row,
    ShapeSettings,
    TemperatureSettings,
    TrainingSettings,
    check_values,
)
from rankdeficit.structures import recognise
from rankdeficit.toys.optima import best_scale
from rankdeficit.toys.optimizers import make_optimizer
from rankdeficit.toys.ufm import DeepUfm, UfmShape, initial_parameters
from simulations.phase_diagram import report

SAME = 1e-5
"""Objectives that differ by less, relative to ln c, belong to the same structure."""
LEAST = 1e-50
"""Temperatures lie between it and its inverse, so that squares of logits stay in float64."""
FINAL_LR_SHARE = 1e-3
CURVE_POINTS = 41


@dataclass(frozen=True)
class Settings(TrainingSettings, TemperatureSettings, DepthSettings, ShapeSettings):
    """Best minima of the deep linear UFM over temperature, depth, weight decay and init scale."""

    seeds: int = 14
    """Random starts per configuration; see --limit-ranks."""
    limit_ranks: bool = True
    """Every second start has a limited rank (2, 3, .. c - 2 in turn), which training then keeps."""
    temperature: tuple[float, ...] = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
    depth: tuple[int, ...] = (1, 2, 3)
    weight_decay: tuple[float, ...] = (1e-3,)
    """Weight decays lambda, of every factor."""
    init_scale: tuple[float, ...] = (0.2, 0.4, 0.7, 1.2)
    """Scales of the initial factors: small ones find low ranks."""
    classes: int = 10
    samples_per_class: int = 1
    width: int = 20
    rule: Literal["equivalent", "matched"] = "equivalent"
    """How start and learning rate depend on T: scaled by T^(1/L), or the same at every T."""
    lr: float = 0.02
    """First learning rate of Adam; falls along a cosine."""
    steps: int = 3000
    measure_every: int = 500
    checkpoint_every: int = 500

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        found = super().unused()
        if self.seeds == 1 or min(self.classes - 1, self.width) <= 2:
            found["limit_ranks"] = (
                "on one start, or without ranks from 2 to c - 2; raise --seeds or sizes"
            )
        if set(self.temperature) == {1.0}:
            found["rule"] = "at T = 1; add other temperatures"
        return found


class Configuration(NamedTuple):
    """The key of a run within its depth."""

    temperature: float
    weight_decay: float
    init_scale: float
    seed: int


class StartsOfOneDepth(OptimizedBatch):
    """All runs of one depth in one model.

    Under the equivalent rule, the run at temperature T that starts at T^(1/L) phi and has the
    learning rate eta T^(1/L) is trained as its exact twin: T = 1, start phi, learning rate eta and weight
    decay lambda T^(2/L). Objectives are equal, and its logits are T times the twin's.
    """

    def __init__(self, settings: Settings, depth: int) -> None:
        self.shape = UfmShape(settings.classes, settings.samples_per_class, settings.width, depth)
        self.settings, self.factors = settings, depth + 1
        self.runs = [
            Configuration(*values)
            for values in product(
                sorted(set(settings.temperature)),
                sorted(set(settings.weight_decay)),
                sorted(set(settings.init_scale)),
                settings.seed_range,
            )
        ]
        self.temperatures, decays, scales = (
            torch.tensor([run[i] for run in self.runs], dtype=torch.float64) for i in range(3)
        )
        twin = settings.rule == "equivalent"
        self.growth = self.temperatures if twin else torch.ones_like(self.temperatures)
        start = initial_parameters(self.shape, [run.seed for run in self.runs], dtype=torch.float64)
        if settings.limit_ranks:
            limit_ranks(self.shape, start, [run.seed - settings.seed for run in self.runs])
        self.parameters = (start * scales[:, None]).to(cli.resolve_device(settings.device))
        self.model = DeepUfm(
            self.shape,
            self.parameters,
            self.temperatures / self.growth,
            weight_decay=decays * self.growth ** (2 / self.factors),
        )
        self.optimizer = make_optimizer("adam", self.parameters, self.model.gradient, settings.lr)

    def step(self) -> None:
        """One step of Adam, the learning rate on its way down."""
        share = (1 + math.cos(math.pi * self.steps_done / self.settings.steps)) / 2
        rate = self.settings.lr * (FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.compute_gradient()
        self.optimizer.step()
        self.steps_done += 1

    def measure(self, step: int) -> list[Row]:
        """One row per run."""
        self.model.compute_gradient()
        slope = self.model.gradient.abs().amax(dim=1)
        objective = self.model.objective()
        logits = self.model.logits()
        loss = self.model.data_loss(logits)
        logits = logits * self.growth.to(logits)[:, None, None]
        temperatures = self.temperatures.to(logits.device)
        bound = divergence_bound(logits.dtype)
        alive = objective.isfinite() & (logits.abs().amax(dim=(1, 2)) < bound)
        logits = torch.where(alive[:, None, None], logits, 0)
        labels = self.shape.labels(logits.device)
        accuracy = (logits.argmax(dim=-1) == labels).double().mean(dim=-1)
        zero = logits.abs().amax(dim=(1, 2)) < SAME * temperatures
        logits = torch.where(zero[:, None, None], 0, logits)
        measures = measure_logits(logits, temperatures, self.settings.gamma)
        rows = []
        for i, run in enumerate(self.runs):
            measured = {
                "objective": objective[i].item(),
                "loss": loss[i].item(),
                "largest_slope": slope[i].item(),
                "accuracy": accuracy[i].item(),
                **measures.record(i),
            }
            identity = {"step": step, "depth": self.shape.depth, **run._asdict()}
            rows.append(identity | (measured if alive[i] else dict.fromkeys(measured)))
        return rows

    def geometry(self, cell: Row) -> Row:
        """Structure of the logits of a cell's best run; None if all of its runs diverged."""
        if cell["objective"] is None:
            return dict.fromkeys(("geometry", "geometry_distance"))
        own = cell["temperature"], cell["weight_decay"]
        same = torch.tensor([run[:2] == own for run in self.runs])
        objective = self.model.objective().cpu().where(same, math.inf).nan_to_num(nan=math.inf)
        best = int(objective.argmin())
        logits = self.model.logits()[best] * (cell["rank"] > 0)
        found = recognise(logits.cpu(), self.shape.labels())
        return {"geometry": found.name, "geometry_distance": found.distance}


def limit_ranks(shape: UfmShape, start: torch.Tensor, numbers: Sequence[int]) -> None:
    """Zero all but k coordinates of the factors of every second start, k = 2, 3, .. c - 2 in turn.

    A coordinate that is zero in all factors has no gradient: training stays within rank k, and its
    minima are stationary points of the whole objective. numbers: of each run's start, from 0.
    """
    limits = range(2, min(shape.classes - 1, shape.width))
    factors = shape.unpack(start)
    for i, number in enumerate(numbers):
        if number % 2 and limits:
            limit = limits[number // 2 % len(limits)]
            factors.features[i, :, limit:] = 0
            for weight in factors.weights:
                weight[i, :, limit:] = 0
            for weight in factors.weights[:-1]:
                weight[i, limit:] = 0


@experiment
class PhaseDiagram(StepByStep[Settings, StartsOfOneDepth]):
    """Which structure has the best minimum of a deep linear model, over temperature and depth?"""

    settings = Settings
    leave_out = ("singular_values", "rank_curve", "centred_rank_curve", "post_softmax_rank_curve")

    def prepare(self, settings: Settings) -> list[StartsOfOneDepth]:
        """A batch for each depth."""
        check_at_least(3, classes=settings.classes)
        for T in settings.temperature:
            if not LEAST <= T <= 1 / LEAST:
                raise ValueError(f"temperature is {T}; it must lie in {LEAST:g}..{1 / LEAST:g}")
        check_values(weight_decay=settings.weight_decay, init_scale=settings.init_scale)
        check_positive(weight_decay=settings.weight_decay, init_scale=settings.init_scale)
        return [StartsOfOneDepth(settings, depth) for depth in sorted(set(settings.depth))]

    def summarise(self, settings: Settings, batches: Sequence[StartsOfOneDepth], path: Path) -> Row:
        """One cell per configuration, and the predicted curves."""
        rows = [row for batch in batches for row in batch.measure(settings.steps)]
        summary = summarise(settings, rows)
        by_depth = {batch.shape.depth: batch for batch in batches}
        for cell in summary["cells"]:
            cell |= by_depth[cell["depth"]].geometry(cell)
        return summary

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """What was found and predicted in each cell."""
        return report.report(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """The phase diagram and the objectives."""
        return report.figures(summary)


def structures(classes: int, width: int) -> list[Code]:
    """The codes that fit the width and whose objectives are known in closed form, highest rank first."""
    return [code for code in constructions.named_codes(classes).values() if code.rank <= width]


def predict(settings: Settings, depth: int, temperature: float, decay: float) -> dict[str, float]:
    """Least objective of each structure that has a minimum below zero's, which is ln c."""
    best = {
        code.name: best_scale(code, depth + 1, settings.samples_per_class, temperature, decay)
        for code in structures(settings.classes, settings.width)
    }
    below = {name: found.value for name, found in best.items() if found.scale > 0}
    return {**below, "zero": math.log(settings.classes)}


def summarise(settings: Settings, rows: list[Row]) -> Row:
    """One cell per depth, temperature and decay, and the predicted curves between them."""
    keys = ("depth", "temperature", "weight_decay")

    cells = [
        dict(zip(keys, values, strict=True)) | judge(settings, same)
        for values, same in tables.rows_by(rows, *keys)
    ]
    curves = []
    low, high = min(settings.temperature), max(settings.temperature)
    for depth, decay in product(sorted(set(settings.depth)), sorted(set(settings.weight_decay))):
        temperatures = np.geomspace(low / 2, high * 2, CURVE_POINTS).tolist()
        curves.append(
            {
                "depth": depth,
                "weight_decay": decay,
                "temperatures": temperatures,
                "objectives": [predict(settings, depth, T, decay) for T in temperatures],
            }
        )
    ranks = {code.name: code.rank for code in structures(settings.classes, settings.width)} | {
        "zero": 0
    }
    return {
        "classes": settings.classes,
        "gamma": settings.gamma,
        "seeds": settings.seeds,
        "structure_ranks": ranks,
        "cells": cells,
        "curves": curves,
    }


def judge(settings: Settings, starts: Sequence[Row]) -> Row:
    """The best of the starts of one cell, beside the best predicted structure."""
    first, room = starts[0], SAME * math.log(settings.classes)
    predicted = predict(settings, first["depth"], first["temperature"], first["weight_decay"])
    name = min(predicted, key=lambda name: predicted[name])
    alive = [start for start in starts if start["objective"] is not None]
    cell: Row = {
        "predicted_structure": name,
        "predicted_objective": predicted[name],
        "structures": predicted,
        "starts": len(starts),
        "diverged": len(starts) - len(alive),
        "ranks": dict(sorted(Counter(start["rank"] for start in alive).items())),
    }
    found = ("rank", "objective", "loss", "largest_slope", "accuracy", "rank_curve", "logits_norm")
    if not alive:
        return cell | dict.fromkeys((*found, "excess")) | {"structure": "diverged", "room": room}
    best = min(alive, key=lambda start: start["objective"])

    def structure_of(objective: float) -> str:
        near = [name for name, value in predicted.items() if abs(value - objective) <= room]
        return near[0] if near else "other"

    def of_init_scale(scale: float) -> Row:
        own = [start for start in alive if start["init_scale"] == scale]
        least = min(own, key=lambda start: start["objective"], default=dict.fromkeys(found))
        reached = sum(start["objective"] <= best["objective"] + room for start in own)
        return {
            "init_scale": scale,
            "objective": least["objective"],
            "rank": least["rank"],
            "structures": dict(Counter(structure_of(start["objective"]) for start in own)),
            "share_of_starts": reached / settings.seeds,
        }

    return cell | {
        **{field: best[field] for field in found},
        "structure": structure_of(best["objective"]),
        "by_init_scale": [of_init_scale(scale) for scale in sorted(set(settings.init_scale))],
        "excess": best["objective"] - predicted[name],
        "room": room,
    }
