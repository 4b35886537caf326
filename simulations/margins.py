"""Which structure does a network reach when it trains without weight decay until its logits are large?

A deep linear unconstrained feature model is homogeneous, so its cross-entropy has no minimum: the
parameters grow along a direction, in which stationary points of the normalised margin
min_ik (M_iy - M_ik) / ||theta||^L can be limits (Lyu and Li 2020, arXiv 1906.05890). Codes in closed form
are compared by theirs: margin Delta, rank K and singular values kappa of the class logits give
Delta / (kappa (L K)^(L/2)). Each step follows the direction of the gradient, which is computed from
logarithms of probabilities and so does not vanish with the loss, and changes the logits by a fixed
amount.

    python -m simulations.margins --classes 10 --depth 1 2 3
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from jaxtyping import Float64
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import check_at_least, check_positive
from rankdeficit.constructions import Code, named_codes
from rankdeficit.experiments import cli, figure_style, tables
from rankdeficit.experiments.experiment import StepByStep, experiment
from rankdeficit.experiments.settings import DepthSettings, Row, TrainingSettings, check_values
from rankdeficit.spectrum import numerical_rank
from rankdeficit.structures import recognise
from rankdeficit.toys.ufm import UfmShape, initial_parameters

COARSE = 1e-2
"""A second threshold of the rank."""


@dataclass(frozen=True)
class Settings(TrainingSettings, DepthSettings):
    """Follow the gradient of deep linear models without weight decay to large logits."""

    seeds: int = 8
    """Runs per depth and init scale."""
    classes: int = 10
    """Number of classes c, with one sample each."""
    width: int = 10
    """Width of all layers and features."""
    depth: tuple[int, ...] = (1, 2, 3, 5, 7)
    init_scale: tuple[float, ...] = (0.3, 1.0)
    """Features are initially N(0, s^2), weights N(0, s^2 / width)."""
    logits_step: float = 0.2
    """Approximate size of the change of the logits in each step."""
    steps: int = 20_000
    measure_every: int = 1000
    checkpoint_every: int = 1000


class Runs:
    """All runs of one depth in one program."""

    def __init__(self, settings: Settings, depth: int) -> None:
        self.settings = settings
        self.shape = UfmShape(settings.classes, 1, settings.width, depth)
        scales = sorted(set(settings.init_scale))
        self.runs = [(scale, seed) for scale in scales for seed in settings.seed_range]
        start = initial_parameters(self.shape, [seed for _, seed in self.runs], dtype=torch.float64)
        start *= torch.tensor([scale for scale, _ in self.runs], dtype=torch.float64)[:, None]
        self.parameters = start.to(cli.resolve_device(settings.device))
        self.gradient = torch.zeros_like(self.parameters)

    def layers(self) -> list[Float64[Tensor, "runs c width"]]:
        """What each weight matrix reads, and the logits."""
        factors = self.shape.unpack(self.parameters)
        found = [factors.features]
        for weight in factors.weights:
            found.append(found[-1] @ weight.mT)
        return found

    def step(self) -> None:
        """A step along the gradient, of fixed size in the logits."""
        *inputs, logits = self.layers()
        weights = self.shape.unpack(self.parameters).weights
        slopes = self.shape.unpack(self.gradient)
        error = direction(logits)
        for layer in reversed(range(self.shape.depth)):
            slopes.weights[layer].copy_(error.mT @ inputs[layer])
            error = error @ weights[layer]
        slopes.features.copy_(error)
        size = torch.linalg.vector_norm(self.parameters, dim=1)
        length = torch.linalg.vector_norm(self.gradient, dim=1)
        largest = logits.abs().amax(dim=(1, 2)).clamp(min=1)
        rate = self.settings.logits_step * size / ((self.shape.depth + 1) * largest * length)
        self.parameters.addcmul_(self.gradient, rate[:, None], value=-1)

    def measure(self, step: int) -> list[Row]:
        """One row per run."""
        logits = self.layers()[-1]
        gap = gaps(logits).amin(dim=(1, 2))
        size = torch.linalg.vector_norm(self.parameters, dim=1)
        normalised = gap / size ** (self.shape.depth + 1)
        ranks = [numerical_rank(logits, own, centred=True) for own in (self.settings.gamma, COARSE)]
        norm = torch.linalg.matrix_norm(logits) / math.sqrt(self.shape.classes)
        return [
            {
                "step": step,
                "depth": self.shape.depth,
                "init_scale": scale,
                "seed": seed,
                "margin": gap[i].item(),
                "normalised_margin": normalised[i].item(),
                "logits_norm": norm[i].item(),
                "centred_rank": int(ranks[0][i]),
                "coarse_rank": int(ranks[1][i]),
            }
            for i, (scale, seed) in enumerate(self.runs)
        ]

    def state(self) -> Row:
        """The state to save in a checkpoint."""
        return {"parameters": self.parameters}

    def restore(self, state: Row) -> None:
        """Continue from the state of a checkpoint."""
        self.parameters.copy_(state["parameters"])


def gaps(logits: Float64[Tensor, "runs c c"]) -> Float64[Tensor, "runs c c"]:
    """True logit minus every other one, and infinity for itself."""
    own = logits.diagonal(dim1=1, dim2=2)
    return (own[..., None] - logits) + torch.diag_embed(torch.full_like(own, math.inf))


def direction(logits: Float64[Tensor, "runs c c"]) -> Float64[Tensor, "runs c c"]:
    """Gradient of the cross-entropy in the logits, over its largest entry off the diagonal."""
    log_p = logits.log_softmax(dim=-1)
    log_p = log_p - torch.diag_embed(torch.full_like(log_p[:, 0], math.inf))
    wrong = (log_p - log_p.amax(dim=(1, 2), keepdim=True)).exp()
    return wrong - torch.diag_embed(wrong.sum(dim=-1))


def normalised_margin(code: Code, factors: int) -> float:
    """Delta / (kappa (L K)^(L/2)) of a code's logits in balanced factors, with kappa = c / K."""
    kappa = code.classes / code.rank
    return code.margin / (kappa * (factors * code.rank) ** (factors / 2))


@experiment
class Margins(StepByStep[Settings, Runs]):
    """Which structure does training without weight decay reach as the logits grow without bound?"""

    settings = Settings

    def prepare(self, settings: Settings) -> list[Runs]:
        """A batch for each depth."""
        check_at_least(3, classes=settings.classes)
        check_at_least(2, width=settings.width)
        check_values(init_scale=settings.init_scale)
        check_positive(init_scale=settings.init_scale, logits_step=settings.logits_step)
        return [Runs(settings, depth) for depth in sorted(set(settings.depth))]

    def summarise(self, settings: Settings, batches: Sequence[Runs], path: Path) -> Row:
        """All runs at the end with their structures, and the margins of the codes."""
        labels = torch.arange(settings.classes)
        runs = []
        for batch in batches:
            logits = batch.layers()[-1].cpu()
            for row, own in zip(batch.measure(settings.steps), logits, strict=True):
                found = recognise(own, labels)
                runs.append({**row, "structure": found.name, "distance": found.distance})
        codes = [
            {"depth": batch.shape.depth, "code": code.name, "rank": code.rank,
             "normalised_margin": normalised_margin(code, batch.shape.depth + 1)}
            for batch in batches
            for code in named_codes(settings.classes).values()
            if code.rank <= settings.width
        ]  # fmt: skip
        return {"classes": settings.classes, "gamma": settings.gamma, "runs": runs, "codes": codes}

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """A row per depth and init scale."""
        table = Table(
            box=box.SIMPLE_HEAVY,
            caption=f"Medians over seeds (ranges). c = {summary['classes']}. Class-centred ranks at "
            f"gamma = {summary['gamma']:g} and {COARSE:g}. Margin / code: normalised margin over that of "
            "the best code in closed form.",
            caption_justify="left",
        )
        for name in ("depth", "init scale", "margin", "rank", f"at {COARSE:g}", "margin / code",
                     "best code", "structures"):  # fmt: skip
            table.add_column(name, justify="right")
        for (depth, scale), own in tables.rows_by(summary["runs"], "depth", "init_scale"):
            best = best_code(summary, depth)
            shares = [run["normalised_margin"] / best["normalised_margin"] for run in own]
            names = Counter(run["structure"] for run in own).most_common()
            table.add_row(
                tables.depth_and_factors(depth), f"{scale:g}",
                f"{median(run['margin'] for run in own):.3g}",
                tables.spread([run["centred_rank"] for run in own]),
                tables.spread([run["coarse_rank"] for run in own]),
                f"{median(shares):.3f} ({min(shares):.3f}-{max(shares):.3f})",
                f"{best['code']} ({best['rank']})",
                ", ".join(f"{count} {name}" for name, count in names),
            )  # fmt: skip
        lower = [
            run
            for run in summary["runs"]
            if run["normalised_margin"] < best_code(summary, run["depth"])["normalised_margin"]
        ]
        return table, [
            f"{len(lower)} of {len(summary['runs'])} runs end below the normalised margin of the best "
            "code in closed form."
        ]

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Rank and normalised margin against the margin."""
        return {"margins": draw(rows, summary)}


def best_code(summary: Row, depth: int) -> Row:
    """The code with the largest normalised margin at a depth."""
    own = [code for code in summary["codes"] if code["depth"] == depth]
    return max(own, key=lambda code: float(code["normalised_margin"]))


def draw(rows: Sequence[Row], summary: Row) -> Figure:
    """Rank at COARSE and margin over the best code's against the logits norm; a column per depth."""
    depths = sorted({row["depth"] for row in rows})
    scales = sorted({row["init_scale"] for row in rows})
    figure = Figure(figsize=(1 + 2.6 * len(depths), 5))
    grid = figure.subplots(2, len(depths), sharex=True, sharey="row", squeeze=False)
    colours = {scale: f"C{i}" for i, scale in enumerate(scales)}
    for column, depth in enumerate(depths):
        best = best_code(summary, depth)
        for (scale, seed), own in tables.rows_by(
            [row for row in rows if row["depth"] == depth and row["margin"] > 0],
            "init_scale",
            "seed",
        ):
            label = f"init scale {scale:g}" if seed == own[0]["seed"] == rows[0]["seed"] else None
            norms = [row["logits_norm"] for row in own]
            style = {"color": colours[scale], "linewidth": 1, "label": label}
            grid[0, column].plot(norms, [row["coarse_rank"] for row in own], **style)
            shares = [row["normalised_margin"] / best["normalised_margin"] for row in own]
            grid[1, column].plot(norms, shares, **style)
        grid[0, column].axhline(best["rank"], color=figure_style.THEORY_COLOUR, linestyle="--")
        grid[1, column].axhline(1, color=figure_style.THEORY_COLOUR, linestyle="--")
        grid[0, column].set_title(f"L = {depth + 1}; best code: {best['code']}", fontsize=9)
        figure_style.set_log_scale(grid[1, column], "x")
        grid[1, column].set_xlabel("logits norm")
    grid[0, 0].set_ylabel(f"class-centred rank, γ = {COARSE:g}")
    grid[1, 0].set_ylabel("normalised margin / best code's")
    return figure_style.with_legend_below(figure, columns=4)


if __name__ == "__main__":
    Margins().main()
