"""Classes of unequal size in deep UFMs: do small classes merge, and does temperature decide?

Half of the classes are large and half small, or sizes fall geometrically. With weight decay and a large
enough ratio of sizes the classifier's vectors of the small classes become equal (minority collapse; Fang
et al. 2021): these classes cannot be told apart, and the class-centred rank falls to the number of large
classes. With two factors this happens above a temperature in closed form
(`rankdeficit.toys.optima.merging_temperature`), and at each temperature from an imbalance in closed form
(`merging_imbalance`).

    python -m simulations.imbalance --imbalance 1 10 100 1000 --temperature 50
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb, isfinite, log
from pathlib import Path
from statistics import median
from typing import Literal

from jaxtyping import Float, Float64
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from torch import Tensor

from rankdeficit.experiments import figure_style, tables
from rankdeficit.experiments.experiment import StepByStep, experiment
from rankdeficit.experiments.settings import Row, check_values
from rankdeficit.spectrum import centre
from rankdeficit.toys.labels import long_tailed_counts, step_counts
from rankdeficit.toys.optima import merging_imbalance, merging_temperature
from rankdeficit.toys.ufm import UfmShape
from simulations.ufm import batch

MERGED = 0.99
"""Mean cosine between the classifier's vectors of small classes from which they count as merged."""


@dataclass(frozen=True)
class Settings(batch.ModelSettings):
    """Train deep unconstrained feature models on classes of unequal size."""

    imbalance: tuple[float, ...] = (1.0, 10.0, 100.0)
    """Samples of the largest class, of which there are --samples-per-class, over those of the smallest
    one."""
    profile: Literal["step", "long-tailed"] = "step"
    """step: half of the classes are large, the others small; long-tailed: sizes fall geometrically."""
    classes: int = 10
    """Number of classes c."""
    samples_per_class: int = 100
    """Samples of the largest class."""
    width: int = 32
    depth: tuple[int, ...] = (1, 3)
    weight_decay: float = 1e-4
    steps: int = 2000


class Batch(batch.Batch):
    """All temperatures and seeds at one depth and imbalance."""

    def __init__(self, settings: Settings, shape: UfmShape, imbalance: float) -> None:
        super().__init__(settings, shape)
        self.imbalance, self.small = imbalance, shape.classes // 2
        self.merging = predicted_temperature(settings, shape)
        self.from_imbalance = {
            temperature: predicted_imbalance(settings, shape, temperature)
            for temperature in settings.temperatures
        }

    def measure(self, step: int) -> list[Row]:
        """One row per run, with accuracy and cosines of the smaller half of the classes."""
        rows = super().measure(step)
        labels = self.model.shape.labels(self.parameters.device)
        right = (self.model.logits().argmax(dim=-1) == labels).double()
        few = labels >= self.model.shape.classes - self.small
        accuracy = right[:, few].mean(dim=1).tolist()
        vectors = self.model.factors.weights[-1]
        small = mean_cosine(vectors, slice(-self.small, None)).tolist()
        large = mean_cosine(vectors, slice(None, -self.small)).tolist()
        names = ("small_accuracy", "small_cosine", "large_cosine")
        for row, *own in zip(rows, accuracy, small, large, strict=True):
            found = [
                value if row["rank"] is not None and isfinite(value) else None for value in own
            ]
            row |= {"imbalance": self.imbalance, "merging_temperature": self.merging}
            row["merging_imbalance"] = self.from_imbalance[row["temperature"]]
            row |= dict(zip(names, found, strict=True))
        return rows


def predicted_temperature(settings: Settings, shape: UfmShape) -> float | None:
    """Temperature from which small classes merge; None where theory does not tell it."""
    decay, feature_decay = settings.weight_decay, settings.decay_of_features
    own_labels = settings.loss == "ce" and settings.label_noise == 0
    known = shape.depth == 1 and own_labels and settings.profile == "step"
    if not (known and decay and feature_decay and shape.counts):
        return None
    return merging_temperature(shape.samples, min(shape.counts), decay, feature_decay)


def predicted_imbalance(settings: Settings, shape: UfmShape, temperature: float) -> float | None:
    """Imbalance from which small classes merge at a temperature; None where theory does not tell it."""
    if predicted_temperature(settings, shape) is None or shape.classes < 4:
        return None
    small = shape.classes // 2
    return merging_imbalance(
        shape.classes - small,
        small,
        settings.samples_per_class,
        temperature,
        settings.weight_decay,
        settings.decay_of_features,
    )


def mean_cosine(
    vectors: Float[Tensor, "runs classes width"], which: slice
) -> Float64[Tensor, " runs"]:
    """Mean cosine between the classifier's vectors of some classes, less the mean over all classes.

    NaN for a single class, and for vectors that are all equal.
    """
    centred = centre(vectors.mT).mT[:, which]
    unit = centred / centred.norm(dim=-1, keepdim=True)
    k = unit.shape[1]
    return (unit.sum(dim=1).square().sum(dim=-1) - k) / (2 * comb(k, 2) or float("nan"))


@experiment
class Imbalance(StepByStep[Settings, Batch]):
    """Do small classes merge, and does it depend on the temperature?"""

    settings = Settings
    leave_out = ("singular_values",)

    def prepare(self, settings: Settings) -> list[Batch]:
        """A batch for each depth and imbalance."""
        check_values(imbalance=settings.imbalance)
        counts = step_counts if settings.profile == "step" else long_tailed_counts
        return [
            Batch(
                settings,
                batch.shape_of(
                    settings,
                    depth,
                    counts(settings.classes, settings.samples_per_class, imbalance),
                ),
                imbalance,
            )
            for depth in sorted(set(settings.depth))
            for imbalance in sorted(set(settings.imbalance))
        ]

    def summarise(self, settings: Settings, batches: Sequence[Batch], path: Path) -> Row:
        """Final measures and outcome of every run."""
        uniform = log(settings.classes) if settings.loss == "ce" else 1 - 1 / settings.classes
        runs = [
            {**row, "outcome": tables.outcome(row["loss"], row["accuracy"], uniform)}
            for batch in batches
            for row in batch.measure(settings.steps)
        ]
        predicted = tables.neural_collapse_rank(settings.classes, settings.width)
        kept = {"classes": settings.classes, "gamma": settings.gamma, "profile": settings.profile}
        return kept | {"neural_collapse_rank": predicted, "runs": runs}

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """A row per depth, imbalance and temperature; where small classes merge."""
        return imbalance_table(summary), merging_sentences(summary["runs"])

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Rank and cosine of small classes over the imbalance."""
        return {"imbalance": draw(summary)}


def cells(runs: Sequence[Row]) -> Iterator[tuple[tuple[int, float, float], list[Row]]]:
    """Runs of equal depth, imbalance and temperature that did not diverge."""
    for key, own in tables.rows_by(runs, "depth", "imbalance", "temperature"):
        yield key, [run for run in own if run["rank"] is not None]


def imbalance_table(summary: Row) -> Table:
    """A row per depth, imbalance and temperature."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians over seeds (ranges). c = {summary['classes']}. Class-centred rank of logits "
        f"at gamma = {summary['gamma']:g}; Neural Collapse predicts {summary['neural_collapse_rank']} "
        "for classes of equal size. Small and large: the halves of the classes with fewer and more "
        "samples; cosine: mean between the classifier's vectors of these classes, less the mean of all "
        "vectors; T*: the temperature above which theory predicts that small classes merge (L = 2).",
        caption_justify="left",
    )
    for name in ("depth", "imbalance", "T", "seeds", "train acc.", "of small", "norm / T", "centred",
                 "stable", "cosine, small", "cosine, large", "T*"):  # fmt: skip
        table.add_column(name, justify="right")
    for (depth, imbalance, temperature), alive in cells(summary["runs"]):

        def middle(name: str, form: str, alive: list[Row] = alive) -> str:
            found = [run[name] for run in alive if run[name] is not None]
            return format(median(found), form) if found else "-"

        table.add_row(
            tables.depth_and_factors(depth),
            f"{imbalance:g}",
            f"{temperature:g}",
            str(len(alive)),
            middle("accuracy", ".1%"),
            middle("small_accuracy", ".1%"),
            middle("effective_logits_norm", ".3g"),
            tables.spread([run["centred_rank"] for run in alive]),
            middle("stable_rank", ".1f"),
            middle("small_cosine", ".2f"),
            middle("large_cosine", ".2f"),
            middle("merging_temperature", ".3g"),
        )
    return table


def merging_sentences(runs: Sequence[Row]) -> list[str]:
    """From which imbalance on the small classes have merged, for each depth and temperature."""
    merged: dict[tuple[int, float], dict[float, bool]] = {}
    predicted = {
        (run["depth"], run["temperature"]): run["merging_imbalance"]
        for run in runs
        if run["merging_imbalance"] is not None
    }
    for (depth, imbalance, temperature), alive in cells(runs):
        together = bool(alive) and all((run["small_cosine"] or 0) >= MERGED for run in alive)
        merged.setdefault((depth, temperature), {})[imbalance] = together
    sentences = []
    for (depth, temperature), found in merged.items():
        first = next((imbalance for imbalance, yes in found.items() if yes), None)
        where = f"Depth {tables.depth_and_factors(depth)}, T = {temperature:g}: small classes"
        expected = predicted.get((depth, temperature))
        theory = (
            "" if expected is None else f" The global minimum merges them from {expected:.3g} on."
        )
        if first is None:
            sentences.append(f"{where} stay apart up to an imbalance of {max(found):g}.{theory}")
        else:
            sentences.append(f"{where} merge in every run at an imbalance of {first:g}.{theory}")
    return sentences


def draw(summary: Row) -> Figure:
    """Rank (top) and cosine of small classes (bottom) over the imbalance, a column per depth."""
    runs = summary["runs"]
    depths = sorted({run["depth"] for run in runs})
    temperatures = sorted({run["temperature"] for run in runs})
    figure = Figure(figsize=(1.0 + 3.6 * len(depths), 5.6))
    grid = figure.subplots(2, len(depths), sharex=True, sharey="row", squeeze=False)
    quantities = (
        ("centred_rank", f"class-centred rank, γ = {summary['gamma']:g}"),
        ("small_cosine", "cosine between small classes"),
    )
    for j, depth in enumerate(depths):
        for (name, label), axes in zip(quantities, grid[:, j], strict=True):
            for temperature in temperatures:
                own = [
                    run
                    for run in runs
                    if (run["depth"], run["temperature"]) == (depth, temperature)
                ]
                colour, text = figure_style.temperature_colour(temperature), f"T = {temperature:g}"
                figure_style.band(axes, own, "imbalance", name, colour, text)
            axes.set_xscale("log")
            if j == 0:
                axes.set_ylabel(label)
        grid[0, j].axhline(
            summary["neural_collapse_rank"], color="black", linestyle="--", linewidth=1,
            label="Neural Collapse",
        )  # fmt: skip
        grid[0, j].set_title(f"depth {tables.depth_and_factors(depth)}", fontsize=9)
        grid[-1, j].set_xlabel("samples of large over small classes")
    return figure_style.with_legend_below(figure, columns=3)


if __name__ == "__main__":
    Imbalance().main()
