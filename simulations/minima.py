"""The lowest minima that are known of deep linear unconstrained feature models, by classes and factors.

At T = 1 with one sample per class the objective of logits M is their mean cross-entropy plus
(L/2) lambda sum_i sigma_i(M)^(2/L), the least decay of L balanced factors. Random starts, half of them of
limited rank, and starts with the symmetry of an abelian group train side by side; the best of them are
polished at their rank by L-BFGS and compared with the codes in closed form. `minima.json` in the run
folder is the table of `rankdeficit.toys.minima`, whose objectives `proofs.structures` certifies as upper
bounds. Nothing here proves that a minimum is global.

    python -m simulations.minima --classes 6 8 --factors 3 4
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from rich.table import Table
from scipy.optimize import minimize
from torch import Tensor

from rankdeficit.checks import check_at_least, check_positive
from rankdeficit.constructions import named_codes
from rankdeficit.experiments import cli
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.runs import RunFolder, write_atomically
from rankdeficit.experiments.settings import CommonSettings, Row, check_values
from rankdeficit.toys.minima import Minimum, objective_of
from rankdeficit.toys.optima import best_scale
from rankdeficit.toys.optimizers import make_optimizer
from rankdeficit.toys.ufm import DeepUfm, UfmShape, initial_parameters
from simulations.phase_diagram import FINAL_LR_SHARE, limit_ranks

LEAST_SHARE = 1e-3
"""Singular values below this share of the largest are left out before polishing."""
POLISHED = 4
"""Number of the best starts that are polished."""
CLOSE = 1e-7
"""Objectives that differ by less, relative to ln c, are of the same structure."""
NEAR = 1e-5
"""The same before polishing."""
DECIMALS = 8
"""Of the entries of the factors that are kept."""


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Search the lowest minima over numbers of classes and of factors."""

    seeds: int = 8
    """Random starts for each scale."""
    classes: tuple[int, ...] = tuple(range(3, 21))
    """Numbers of classes c."""
    factors: tuple[int, ...] = tuple(range(2, 9))
    """Numbers of factors L, the free features among them."""
    weight_decay: float = 1e-3
    """Weight decay lambda of every factor; a temperature T acts as lambda T^(2/L)."""
    init_scale: tuple[float, ...] = (0.2, 0.4, 0.7, 1.2)
    """Scales of the random starts: small ones find low ranks."""
    symmetric_starts: int = 24
    """Starts with the symmetry of an abelian group of c elements."""
    steps: int = 2000
    """Steps of Adam before polishing."""
    lr: float = 0.02
    """First learning rate of Adam; falls along a cosine."""


class Unit(NamedTuple):
    """A cell of the table."""

    classes: int
    factors: int


@experiment
class Minima(UnitByUnit[Settings, Unit]):
    """Which structure has the lowest known objective, for 3 to 20 classes and 2 to 8 factors?"""

    settings = Settings
    units = "cells"

    def prepare(self, settings: Settings) -> list[Unit]:
        """A unit for each number of classes and of factors."""
        check_values(classes=settings.classes, factors=settings.factors)
        check_values(init_scale=settings.init_scale)
        check_at_least(3, classes=min(settings.classes))
        check_at_least(2, factors=min(settings.factors))
        check_at_least(0, symmetric_starts=settings.symmetric_starts)
        check_at_least(1, steps=settings.steps)
        check_positive(weight_decay=settings.weight_decay, lr=settings.lr)
        cells = product(sorted(set(settings.classes)), sorted(set(settings.factors)))
        return [Unit(*cell) for cell in cells]

    def compute(self, settings: Settings, unit: Unit) -> Iterable[Row]:
        """The lowest minimum of one cell."""
        found = search(settings, unit)
        return [found.minimum.record() | {"starts": found.starts, "reached": found.reached}]

    def work(
        self, settings: Settings, prepared: Sequence[Unit], folder: RunFolder, resumed: bool
    ) -> Row:
        """Go through all cells, and write the table."""
        summary = super().work(settings, prepared, folder, resumed)
        lines = [json.dumps(row) for row in summary["minima"]]
        text = "[\n" + ",\n".join(lines) + "\n]\n"
        write_atomically(folder.path / "minima.json", text.encode())
        return summary

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """All minima, and how many starts found each."""
        counts = ("starts", "reached")
        return {
            "weight_decay": settings.weight_decay,
            "minima": [{k: v for k, v in row.items() if k not in counts} for row in rows],
            "cells": [
                {
                    k: row[k]
                    for k in ("classes", "factors", "structure", "rank", "objective", *counts)
                }
                for row in rows
            ],
        }

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Rank and structure of each cell."""
        factors = sorted({cell["factors"] for cell in summary["cells"]})
        title = (
            f"Rank and structure of the lowest minimum, weight decay {summary['weight_decay']:g}"
        )
        table = Table(title=title, title_justify="left")
        table.add_column("classes", justify="right")
        for L in factors:
            table.add_column(f"L = {L}")
        by_cell = {(cell["classes"], cell["factors"]): cell for cell in summary["cells"]}
        for c in sorted({cell["classes"] for cell in summary["cells"]}):
            cells = [by_cell[c, L] for L in factors]
            table.add_row(str(c), *(f"{own['rank']} {own['structure']}" for own in cells))
        other = [cell for cell in summary["cells"] if cell["structure"] == "other"]
        once = [cell for cell in summary["cells"] if cell["reached"] <= 1]
        return table, [
            f"{len(other)} of {len(summary['cells'])} minima are lower than all codes in closed form.",
            f"{len(once)} of {len(summary['cells'])} were found by one start at most; more --seeds or "
            "--symmetric-starts may find lower ones.",
        ]

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """The rank of the lowest minimum."""
        return {"minima": draw(summary)}


class Found(NamedTuple):
    """The outcome of a search."""

    minimum: Minimum
    starts: int
    reached: int
    """Starts whose objective was within NEAR of it before polishing."""


def search(settings: Settings, unit: Unit) -> Found:
    """The lowest objective of one cell among trained starts and codes."""
    c, L = unit
    decay = settings.weight_decay
    logits = trained_logits(settings, unit)
    values = torch.tensor([objective_of(own, L, decay) for own in logits])
    best = [polish(logits[i], L, decay) for i in values.argsort()[:POLISHED]]
    minima = [Minimum.of(own, L, decay, DECIMALS) for own in best]
    for code in named_codes(c).values():
        scale = round(best_scale(code, L, 1, 1.0, decay).scale, DECIMALS)
        if scale:
            minima.append(Minimum.of_code(code, scale, L, decay))
    room = CLOSE * math.log(c)
    lowest = min(own.objective for own in minima)
    near = [own for own in minima if own.objective <= lowest + room]
    closed = [own for own in near if own.structure != "other"]
    reached = int((values <= lowest + NEAR * math.log(c)).sum())
    return Found(min(closed or near, key=lambda own: own.objective), len(logits), reached)


def trained_logits(settings: Settings, unit: Unit) -> Float64[Tensor, "starts c c"]:
    """Logits of all starts after training, which diverges nowhere at the default learning rate."""
    c, L = unit
    shape = UfmShape(c, 1, c, L - 1)
    seeds = [seed for _ in settings.init_scale for seed in settings.seed_range]
    start = initial_parameters(shape, seeds, dtype=torch.float64)
    limit_ranks(shape, start, [seed - settings.seed for seed in seeds])
    start *= torch.tensor(settings.init_scale).repeat_interleave(settings.seeds)[:, None]
    symmetric = start.new_zeros(settings.symmetric_starts, shape.parameter_count)
    generator = np.random.default_rng(settings.seed)
    for row in symmetric:
        set_factors(shape, row, group_logits(c, generator))
    parameters = torch.cat([start, symmetric]).to(cli.resolve_device(settings.device))
    model = DeepUfm(
        shape,
        parameters,
        torch.ones(len(parameters), dtype=torch.float64),
        weight_decay=settings.weight_decay,
    )
    optimizer = make_optimizer("adam", parameters, model.gradient, settings.lr)
    for step in range(settings.steps):
        share = (1 + math.cos(math.pi * step / settings.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * (FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * share)
        model.compute_gradient()
        optimizer.step()
    return model.logits().cpu().clone()


def set_factors(shape: UfmShape, row: Float64[Tensor, " parameters"], logits: Tensor) -> None:
    """Write balanced factors of the logits into the parameters of one run."""
    U, values, Vh = torch.linalg.svd(logits)
    root = values ** (1 / (shape.depth + 1))
    factors = shape.unpack(row[None])
    factors.features[0] = U * root
    for weight in factors.weights[:-1]:
        weight[0] = root.diag()
    factors.weights[-1][0] = Vh.mT * root


def group_logits(classes: int, generator: np.random.Generator) -> Float64[Tensor, "c c"]:
    """Logits that a random abelian group of c elements leaves as they are, of random rank.

    A positive combination of some characters of the group, without the trivial one, at a margin between
    1 and 10.
    """
    orders = []
    left = classes
    while left > 1:
        orders.append(int(generator.choice([d for d in range(2, left + 1) if left % d == 0])))
        left //= orders[-1]
    elements = np.array(list(product(*map(range, orders))))
    kept = generator.permutation(np.arange(1, classes))[: generator.integers(1, classes)]
    phases = (elements[:, None] - elements[None]) / np.array(orders)
    weights = np.exp(generator.normal(size=len(kept)))
    cosines = np.cos(2 * np.pi * phases @ elements[kept].T)
    logits = torch.from_numpy(cosines @ weights)
    margin = float(logits[0, 0] - logits[0, 1:].max())
    return logits * (generator.uniform(1, 10) / max(margin, 0.1 * float(logits[0, 0])))


def polish(
    logits: Float64[Tensor, "c c"], factors: int, weight_decay: float
) -> Float64[Tensor, "c c"]:
    """The minimum of the objective near the logits, among those of their rank or less."""
    U, values, Vh = torch.linalg.svd(logits)
    rank = max(1, int((values > LEAST_SHARE * values[0]).sum()))
    root = values[:rank].sqrt()
    start = torch.cat([U[:, :rank] * root, Vh[:rank].mT * root])

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = torch.from_numpy(flat).view(start.shape).requires_grad_()
        left, right = both.chunk(2)
        product = left @ right.mT
        loss = torch.logsumexp(product, dim=1).mean() - product.diagonal().mean()
        kept = torch.linalg.svdvals(product)[:rank].clamp(min=1e-300)
        value = loss + factors / 2 * weight_decay * (kept ** (2 / factors)).sum()
        (slope,) = torch.autograd.grad(value, both)
        return value.item(), slope.flatten().numpy()

    options = {"maxiter": 3000, "maxfun": 6000, "gtol": 1e-11, "ftol": 1e-15}
    found = minimize(
        value_and_slope, start.flatten().numpy(), jac=True, method="L-BFGS-B", options=options
    )
    left, right = torch.from_numpy(found.x).view(start.shape).chunk(2)
    polished = left @ right.mT
    kept = torch.linalg.svdvals(polished)
    if int((kept > LEAST_SHARE * kept[0]).sum()) < rank:
        return polish(polished, factors, weight_decay)
    return polished


def draw(summary: Row) -> Figure:
    """Ranks by classes and factors, with the initial of each structure that has a name."""
    classes = sorted({cell["classes"] for cell in summary["cells"]})
    factors = sorted({cell["factors"] for cell in summary["cells"]})
    ranks = np.full((len(classes), len(factors)), np.nan)
    figure = Figure(figsize=(1.8 + 0.75 * len(factors), 1.4 + 0.32 * len(classes)))
    axes = figure.subplots()
    for cell in summary["cells"]:
        i, j = classes.index(cell["classes"]), factors.index(cell["factors"])
        ranks[i, j] = cell["rank"]
        initial = "" if cell["structure"] == "other" else f" {cell['structure'][0]}"
        axes.text(j, i, f"{cell['rank']}{initial}", ha="center", va="center", fontsize=8)
    highest = int(np.nanmax(ranks))
    bounds = np.arange(0.5, highest + 1)
    image = axes.imshow(
        ranks, aspect="auto", cmap="Blues", norm=BoundaryNorm(bounds, 256), alpha=0.7
    )
    axes.set_xticks(range(len(factors)), [str(L) for L in factors])
    axes.set_yticks(range(len(classes)), [str(c) for c in classes])
    axes.set_xlabel("factors L")
    axes.set_ylabel("classes c")
    conditions = f"weight decay {summary['weight_decay']:g}, T = 1"
    axes.set_title(
        f"Rank of the lowest known minimum\n{conditions}; s: simplex, p: pairs, c: circle",
        fontsize=10,
    )
    figure.colorbar(image, ax=axes, label="rank")
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    Minima().main()
