"""Rank-deficit bias in deep unconstrained feature models, at several softmax temperatures.

Features and weights are all free; runs of one shape train side by side in one batched program,
whatever their temperature, seed and numeric options. Seeds pair runs: the same seed starts alike at
every temperature.

    python -m simulations.ufm --temperature 50
    python -m simulations.ufm --sweep lr=0.003,0.01 weight-decay=0,1e-4 width=64,128
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from rankdeficit.control.interventions.options import InterventionOptions
from rankdeficit.experiments import over_temperature, plots, tables
from rankdeficit.experiments.experiment import StepByStep, experiment
from rankdeficit.experiments.settings import Row
from rankdeficit.experiments.sweeps import Variant, ranks_over_options, variants
from rankdeficit.toys.labels import long_tailed_counts
from rankdeficit.toys.ufm import UfmShape
from simulations.ufm.batch import Batch, ModelSettings, shape_of
from simulations.ufm.objective import objective


@dataclass(frozen=True)
class Settings(InterventionOptions, ModelSettings):
    """Train deep unconstrained feature models and measure the rank of their logits."""

    imbalance: float = 1.0
    """Samples of the largest class, of which there are --samples-per-class, over those of the smallest;
    between them sizes fall geometrically."""
    learn_temperature: bool = False
    """Train ln T too, from --temperature on, at the same rate and without decay."""
    sweep: tuple[str, ...] = ()
    """Values of numeric options, as NAME=VALUE,VALUE. All combinations are trained, each at all
    temperatures and depths."""


@experiment
class Ufm(StepByStep[Settings, Batch]):
    """Does a deep unconstrained feature model end with a lower rank when its temperature is high?"""

    settings = Settings
    leave_out = ("singular_values",)

    def prepare(self, settings: Settings) -> list[Batch]:
        """A batch for each shape."""
        loss, seen = objective(settings.loss, settings.interventions)
        if settings.learn_temperature and settings.intervention:
            raise ValueError(
                f"intervention {settings.intervention[0]} trains at fixed temperatures; leave out "
                "--learn-temperature or the intervention"
            )
        by_shape: dict[UfmShape, list[Variant]] = {}
        for depth in sorted(set(settings.depth)):
            for variant in variants(settings, settings.sweep):
                shape = _shape(variant.settings, depth)
                by_shape.setdefault(shape, []).append(variant)
        return [Batch(settings, shape, own, loss, seen) for shape, own in by_shape.items()]

    def summarise(self, settings: Settings, batches: Sequence[Batch], path: Path) -> Row:
        """Final measures and outcome of every run, and the verdict in words."""
        runs = []
        for batch in batches:
            for run, row in zip(batch.runs, batch.measure(settings.steps), strict=True):
                classes, width = run.variant.settings.classes, run.variant.settings.width
                uniform = None
                if not settings.intervention:
                    uniform = math.log(classes) if settings.loss == "ce" else 1 - 1 / classes
                predicted = tables.neural_collapse_rank(classes, width)
                outcome = tables.outcome(row["loss"], row["accuracy"], uniform)
                row |= {"neural_collapse_rank": predicted, "outcome": outcome}
                if settings.sweep:
                    row["configuration"] = f"L = {row['depth'] + 1}, {run.variant.name}"
                runs.append(row)
        facet = "configuration" if settings.sweep else "depth"
        return {
            "runs": runs,
            "verdict": tables.verdicts(runs, facet),
            "gamma": settings.gamma,
            "classes": settings.classes,
            "swept": list(batches[0].runs[0].variant.values),
            "notes": settings.notes_on_interventions,
            "halvings": [] if settings.sweep else over_temperature.halvings(runs),
        }

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """The table and the verdict."""
        runs, gamma = summary["runs"], summary["gamma"]
        if summary.get("swept"):
            table = tables.results_table(runs, "configuration", gamma)
        else:
            table = tables.results_table(runs, "depth", gamma, tables.depth_and_factors)
        highest = max(run["temperature"] for run in runs)
        halved = over_temperature.halving_sentences(summary.get("halvings", ()), highest)
        notes = [f"{note[0].upper()}{note[1:]}." for note in summary.get("notes", ())]
        return table, [*summary["verdict"], *halved, *_learnt(runs), *notes]

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Ranks and alignment over training, the final spectra, and ranks over temperature.

        Of a sweep: final ranks over each option.
        """
        runs, classes, gamma = summary["runs"], summary["classes"], summary["gamma"]
        if summary.get("swept"):
            return {"sweep": ranks_over_options(runs, summary["swept"], gamma)}
        predicted = runs[0]["neural_collapse_rank"]
        figures = {
            "ranks": plots.ranks_over_training(rows, classes, predicted, "step", "depth"),
            "spectra": plots.spectra(runs, predicted, gamma, "depth"),
            "alignment": plots.alignment_over_training(rows, "step", "depth"),
        }
        over = over_temperature.rank_over_temperature(runs, predicted, gamma)
        return figures if over is None else figures | {"rank_over_temperature": over}


def _shape(settings: Settings, depth: int) -> UfmShape:
    counts = long_tailed_counts(settings.classes, settings.samples_per_class, settings.imbalance)
    unequal = None if settings.imbalance == 1 else counts
    return shape_of(settings, depth, unequal, settings.learn_temperature)


def _learnt(runs: Sequence[Row]) -> list[str]:
    """A sentence for each configuration whose temperatures are learnt."""
    known = [run for run in runs if run.get("learnt_temperature") is not None]
    facet = "configuration" if any("configuration" in run for run in known) else "depth"
    sentences = []
    for (value,), alike in tables.rows_by(known, facet):
        told = ", ".join(
            f"from {start:g} to {tables.spread([round(one['learnt_temperature'], 3) for one in own])}"
            for (start,), own in tables.rows_by(alike, "temperature")
        )
        sentences.append(f"Training changed the temperature {told} ({facet} {value}).")
    return sentences
