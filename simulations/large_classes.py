"""Many more classes than dimensions, as in the head of a language model: is the width used up?

Free features of c contexts, one for each class, above them linear layers of width d << c and a head.
Contexts may be as frequent as words (Zipf's law). Neural Collapse predicts logits of the largest possible
rank, d; the simulation asks how much of it training uses at a high temperature. Logits are never held as
a whole: the loss and its gradient go through blocks of contexts, and their spectrum comes from the last
two factors.

    python -m simulations.large_classes --classes 10000 --width 64 --temperature 20
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import check_at_least, check_positive, divergence_bound
from rankdeficit.experiments import cli, figure_style, tables
from rankdeficit.experiments.experiment import StepByStep, experiment
from rankdeficit.experiments.loops import OptimizedBatch
from rankdeficit.experiments.settings import Row, TemperatureSettings, TrainingSettings
from rankdeficit.products import product_spectrum
from rankdeficit.spectrum import Spectrum

GIB = 2**30


@dataclass(frozen=True)
class Settings(TrainingSettings, TemperatureSettings):
    """Train deep linear models with free features on many classes."""

    temperature: tuple[float, ...] = (20.0,)
    """Softmax temperatures T beside 1; logits are divided by T."""
    seeds: int = 3
    """Runs per temperature."""
    classes: int = 2_000
    """Number of classes c, and of contexts."""
    width: int = 64
    """Dimensions d of features, layers and head."""
    depth: int = 3
    """Weight matrices above the free features, the head among them; the theory counts L = depth + 1."""
    frequencies: Literal["uniform", "zipf"] = "uniform"
    """Weights of the contexts in the loss: all alike, or 1/k for the k-th."""
    init_scale: float = 1.0
    """Features are initially N(0, s^2), weights N(0, s^2 / d)."""
    lr: float = 1e-2
    """Learning rate of Adam, the same at every temperature."""
    weight_decay: float = 0.0
    """L2 penalty of every factor."""
    block_memory: float = 0.25
    """GiB for the logits of a block of contexts."""
    steps: int = 300
    measure_every: int = 100
    checkpoint_every: int = 100


class Key(NamedTuple):
    """A run."""

    temperature: float
    seed: int


class Factors(NamedTuple):
    """Views of a run's parameters."""

    features: Float[Tensor, "c d"]
    layers: Float[Tensor, "inner d d"]
    head: Float[Tensor, "c d"]


class Model:
    """One run, with explicit gradients. Its parameters are one tensor."""

    def __init__(self, settings: Settings, key: Key) -> None:
        c, d, inner = settings.classes, settings.width, settings.depth - 1
        generator = torch.Generator().manual_seed(key.seed)
        start = settings.init_scale * torch.randn(d * (2 * c + inner * d), generator=generator)
        start[c * d :] /= math.sqrt(d)
        self.shape = c, inner, d
        self.parameters = start.to(cli.resolve_device(settings.device))
        self.gradient = torch.zeros_like(self.parameters)
        self.factors, self.slopes = self.unpack(self.parameters), self.unpack(self.gradient)
        self.temperature, self.decay = key.temperature, settings.weight_decay
        ranks = torch.arange(1, c + 1, dtype=torch.float64, device=self.parameters.device)
        shares = torch.ones_like(ranks) if settings.frequencies == "uniform" else 1 / ranks
        self.shares = shares / shares.sum()
        self.rows = max(1, int(settings.block_memory * GIB) // (4 * c))

    def unpack(self, flat: Float[Tensor, " parameters"]) -> Factors:
        """Views of a tensor of parameters."""
        c, inner, d = self.shape
        features, layers, head = flat.split([c * d, inner * d * d, c * d])
        return Factors(features.view(c, d), layers.view(inner, d, d), head.view(c, d))

    def hidden(self) -> list[Float[Tensor, "c d"]]:
        """Input of each layer and of the head."""
        found = [self.factors.features]
        for layer in self.factors.layers:
            found.append(found[-1] @ layer.mT)
        return found

    def blocks(self, last: Float[Tensor, "c d"]) -> Iterator[tuple[slice, Float[Tensor, "b c"]]]:
        """Contexts, and their logits over T. last: input of the head."""
        for first in range(0, len(last), self.rows):
            block = slice(first, min(first + self.rows, len(last)))
            yield block, (last[block] @ self.factors.head.mT).div_(self.temperature)

    def compute_gradient(self) -> None:
        """Gradient of the weighted mean cross-entropy plus decay, block by block."""
        torch.mul(self.parameters, self.decay, out=self.gradient)
        *inputs, last = self.hidden()
        error = torch.empty_like(last)
        for block, scaled in self.blocks(last):
            p = scaled.softmax(dim=1)
            own = torch.arange(block.start, block.stop, device=p.device)
            p[own - block.start, own] -= 1
            p *= (self.shares[block, None] / self.temperature).to(p)
            torch.mm(p, self.factors.head, out=error[block])
            self.slopes.head.addmm_(p.mT, last[block])
        for number in reversed(range(len(inputs))):
            self.slopes.layers[number].addmm_(error.mT, inputs[number])
            error = error @ self.factors.layers[number]
        self.slopes.features.add_(error)

    def loss_and_accuracy(self) -> tuple[float, float]:
        """Weighted mean cross-entropy, and share of contexts whose largest logit is their class's."""
        loss, right = 0.0, 0
        for block, scaled in self.blocks(self.hidden()[-1]):
            own = torch.arange(block.start, block.stop, device=scaled.device)
            log_p = scaled.gather(1, own[:, None])[:, 0].double() - scaled.double().logsumexp(dim=1)
            loss -= float((self.shares[block] * log_p).sum())
            right += int((scaled.argmax(dim=1) == own).sum())
        return loss, right / len(self.shares)

    def spectrum(self, centred: bool) -> Spectrum:
        """Of the logits."""
        return product_spectrum(self.hidden()[-1], self.factors.head, centred=centred)


class Batch(OptimizedBatch):
    """One run."""

    def __init__(self, settings: Settings, key: Key) -> None:
        self.runs, self.gamma = [key], settings.gamma
        self.model = Model(settings, key)
        self.parameters = self.model.parameters
        self.parameters.grad = self.model.gradient
        self.optimizer = torch.optim.Adam([self.parameters], lr=settings.lr)

    def step(self) -> None:
        """One training step."""
        self.model.compute_gradient()
        self.optimizer.step()

    def measure(self, step: int) -> list[Row]:
        """The one row; measures of a run that diverged are None."""
        (key,) = self.runs
        bound = divergence_bound(self.parameters.dtype) ** 0.5
        alive = bool((self.parameters.abs() < bound).all())
        measured: Row = dict.fromkeys(NAMES)
        if alive:
            loss, accuracy = self.model.loss_and_accuracy()
            raw, centred = self.model.spectrum(False), self.model.spectrum(True)
            norm = float(torch.linalg.norm(raw.singular_values)) / math.sqrt(len(self.model.shares))
            found = (
                loss, accuracy, int(raw.rank(self.gamma)), int(centred.rank(self.gamma)),
                float(centred.stable_rank()), float(centred.effective_rank()), norm,
                norm / key.temperature, centred.singular_values.tolist(),
            )  # fmt: skip
            measured = dict(zip(NAMES, found, strict=True))
        return [{"step": step, **key._asdict(), **measured}]


NAMES = ("loss", "accuracy", "rank", "centred_rank", "stable_rank", "effective_rank", "logits_norm",
         "effective_logits_norm", "singular_values")  # fmt: skip


@experiment
class LargeClasses(StepByStep[Settings, Batch]):
    """How many of its dimensions does a narrow head use for many classes?"""

    settings = Settings
    leave_out = ("singular_values",)

    def prepare(self, settings: Settings) -> list[Batch]:
        """A batch for each run."""
        check_at_least(2, classes=settings.classes)
        check_at_least(1, width=settings.width, depth=settings.depth)
        check_positive(
            init_scale=settings.init_scale, lr=settings.lr, block_memory=settings.block_memory
        )
        if not 0 <= settings.weight_decay < math.inf:
            raise ValueError(
                f"weight_decay is {settings.weight_decay}; it must be finite and not negative"
            )
        temperatures = sorted({1.0, *settings.temperature})
        runs = [Key(T, seed) for T, seed in product(temperatures, settings.seed_range)]
        print(memory_line(settings, len(runs)), flush=True)
        return [Batch(settings, key) for key in runs]

    def summarise(self, settings: Settings, batches: Sequence[Batch], path: Path) -> Row:
        """Final measures and outcome of every run."""
        uniform = math.log(settings.classes)
        runs = [
            {**row, "outcome": tables.outcome(row["loss"], row["accuracy"], uniform)}
            for batch in batches
            for row in batch.measure(settings.steps)
        ]
        predicted = tables.neural_collapse_rank(settings.classes, settings.width)
        kept = {name: getattr(settings, name) for name in ("classes", "width", "depth", "gamma")}
        return kept | {"neural_collapse_rank": predicted, "runs": runs}

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """A row per temperature."""
        return results_table(summary), []

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Spectra at the end."""
        return {"spectra": draw_spectra(summary)}


def memory_line(settings: Settings, runs: int) -> str:
    """The memory that the runs take, and what all logits would."""
    own = (
        runs * 4 * 4 * 2 * settings.classes * settings.width
    )  # parameters, gradient, Adam's moments
    whole = 4 * settings.classes**2
    block = min(settings.block_memory * GIB, whole)
    return (
        f"{tables.counted(runs, 'run')}: about {(own + 3 * block) / GIB:.2g} GiB; all logits of one run, "
        f"which are never held, would be {whole / GIB:.2g} GiB."
    )


def results_table(summary: Row) -> Table:
    """A row per temperature."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians over seeds (ranges). c = {summary['classes']:,}, width {summary['width']}, "
        f"{summary['depth'] + 1} factors. Ranks of the logits at gamma = {summary['gamma']:g}; Neural "
        f"Collapse predicts {summary['neural_collapse_rank']}. Stable and effective rank are "
        "class-centred.",
        caption_justify="left",
    )
    forms = {
        "train acc.": ("accuracy", ".1%"), "loss": ("loss", ".2e"), "norm": ("logits_norm", ".3g"),
        "norm / T": ("effective_logits_norm", ".3g"), "stable": ("stable_rank", ".1f"),
        "effective": ("effective_rank", ".1f"),
    }  # fmt: skip
    for name in ("T", "seeds", "raw rank", "centred", *forms):
        table.add_column(name, justify="right")
    for (temperature,), own in tables.rows_by(summary["runs"], "temperature"):
        alive = [run for run in own if run["rank"] is not None]
        ranks = [tables.spread([run[name] for run in alive]) for name in ("rank", "centred_rank")]
        rest = [
            format(median(run[name] for run in alive), form) if alive else "-"
            for name, form in forms.values()
        ]
        table.add_row(f"{temperature:g}", str(len(alive)), *ranks, *rest)
    return table


def draw_spectra(summary: Row) -> Figure:
    """Singular values of the class-centred logits relative to the largest, a line per run."""
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    for run in summary["runs"]:
        if run["rank"] is not None and run["singular_values"][0] > 0:
            values = [value / run["singular_values"][0] for value in run["singular_values"]]
            label = (
                f"T = {run['temperature']:g}" if run["seed"] == summary["runs"][0]["seed"] else None
            )
            axes.plot(
                range(1, len(values) + 1), values, label=label,
                color=figure_style.temperature_colour(run["temperature"]),
            )  # fmt: skip
    axes.axhline(summary["gamma"], color="black", linestyle=":", label="γ")
    figure_style.set_log_scale(axes, "y")
    axes.set(xlabel="index", ylabel="singular value / largest")
    return figure_style.with_legend_below(figure, columns=4)


if __name__ == "__main__":
    LargeClasses().main()
