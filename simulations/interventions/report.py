"""The ruler as a table, sentences and a figure."""

from collections.abc import Sequence
from statistics import median

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from rankdeficit.control.ruler import Placed, Ruler, Trained, draw_ruler
from rankdeficit.experiments import tables
from rankdeficit.experiments.settings import Row

MEASURED = (
    "loss", "train_accuracy", "test_accuracy", "ece", "centred_rank", "rank", "final_norm",
)  # fmt: skip
"""Measures of a run that did not diverge."""


def ruler_of(runs: Sequence[Row]) -> Ruler:
    """The ruler of the rows of a run."""
    return Ruler.of(
        [
            Trained(
                row["family"],
                row["name"],
                row["seed"],
                row["initial_norm_seen"],
                None if row["centred_rank"] is None else float(row["centred_rank"]),
                row["outcome"] == "interpolated",
            )
            for row in runs
        ]
    )


def report(summary: Row) -> tuple[Table, list[str]]:
    """Norm, rank, distance from the curve, accuracy and calibration of every change."""
    runs = summary["runs"]
    ruler = ruler_of(runs)
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians over {tables.counted(summary['seeds'], 'seed')}, ranges in brackets; "
        f"c = {summary['classes']}, class-centred ranks at gamma = {summary['gamma']:g}. Norm: initial "
        "effective norm ||M||_F / (sqrt(n) T) of the logits that are diagnosed; seen: of those that the "
        "loss uses. Distance: ranks above the curve of temperature alone at the latter norm, for "
        f"the same seed; up to {ruler.tolerance:.2g} a change follows it. Accuracy and ECE on test "
        "samples. Neural Collapse predicts rank "
        f"{summary['neural_collapse_rank']}.",
        caption_justify="left",
    )
    for name in ("change", "norm", "seen", "rank", "distance", "verdict",
                 "test acc.", "ECE", "interp."):  # fmt: skip
        table.add_column(
            name, justify="left" if name in ("change", "verdict") else "right", no_wrap=True
        )
    for own in sorted(ruler.placed, key=lambda own: own.norm or 0.0):
        table.add_row(
            own.name,
            middle(runs, own, "initial_norm", ".3g"),
            middle(runs, own, "initial_norm_seen", ".3g"),
            tables.spread(own.ranks),
            tables.spread([round(distance, 1) for distance in own.distances]),
            own.verdict,
            middle(runs, own, "test_accuracy", ".1%"),
            middle(runs, own, "ece", ".3f"),
            f"{own.fitted}/{own.runs}",
        )
    return table, ruler.sentences()


def middle(runs: Sequence[Row], own: Placed, name: str, form: str) -> str:
    """The median of a measure of a change; - if no run has it."""
    found = [row[name] for row in runs if row["name"] == own.name and row[name] is not None]
    return format(median(found), form) if found else "-"


def draw(summary: Row) -> Figure:
    """Final rank against the initial norm of the logits that the loss uses."""
    return draw_ruler(
        ruler_of(summary["runs"]), f"final class-centred rank, γ = {summary['gamma']:g}"
    )
