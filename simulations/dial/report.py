"""Coverage of the intervals as a table, and predicted against final values."""

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from rankdeficit.experiments import figure_style
from rankdeficit.experiments.settings import Row

KINDS = {"ufm": "deep UFM", "mlp": "perceptron"}


def coverage_table(summary: Row) -> Table:
    """A line for each target, kind of toy and start."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Intervals of level {summary['level']:g} on toys that took no part in the fit, with "
        "pilots of a tenth of the training; each batch counts once. Left: the loss of the pilot is below "
        "90 % of ln c. Widths and errors are shares of the full rank min(c - 1, width), or depths.",
        caption_justify="left",
    )
    for name in (
        "predicted", "toys", "pilots", "runs", "coverage", "median width", "mean width", "mean error",
        "error of no change",
    ):  # fmt: skip
        table.add_column(
            name, justify="left" if name in ("predicted", "toys", "pilots") else "right"
        )
    for row in summary["coverage"]:
        table.add_row(
            row["target"], KINDS[row["kind"]], row["start"], str(row["runs"]),
            f"{row['coverage']:.1%}",
            *(
                f"{row[name]:.3f}"
                for name in ("median_width", "mean_width", "error", "error_without_change")
            ),
        )  # fmt: skip
    return table


def sentences(summary: Row) -> list[str]:
    """How many runs, and where intervals cover less than they should."""
    found = [
        f"Fitted to {summary['fitted_runs']} runs, judged on {summary['judging_runs']}, which are partly "
        "wider, deeper, longer, hotter, and have more classes and other rates."
    ]
    short = [row for row in summary["coverage"] if row["coverage"] < summary["level"]]
    if short:
        worst = min(short, key=lambda row: float(row["coverage"]))
        found.append(
            f"Coverage is below {summary['level']:.0%} in {len(short)} of {len(summary['coverage'])} "
            f"lines; lowest: {worst['target']}, {KINDS[worst['kind']]}, {worst['start']} "
            f"({worst['coverage']:.1%} of {worst['runs']} runs)."
        )
    return found


def draw_predictions(summary: Row) -> Figure:
    """Final against predicted shares with their intervals, a panel for each target and kind."""
    panels = list(dict.fromkeys((row["target"], row["kind"]) for row in summary["examples"]))
    figure = Figure(figsize=(0.8 + 3.2 * len(panels), 3.4))
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for (target, kind), axes in zip(panels, grid, strict=True):
        own = [r for r in summary["examples"] if (r["target"], r["kind"]) == (target, kind)]
        for left, colour in ((True, "C0"), (False, "C1")):
            part = [row for row in own if row["left"] is left]
            value = [row["predicted"] for row in part]
            below = [max(0.0, row["predicted"] - row["low"]) for row in part]
            above = [max(0.0, row["high"] - row["predicted"]) for row in part]
            axes.errorbar(
                [row["end"] for row in part], value, yerr=[below, above], fmt="o", markersize=2,
                elinewidth=0.4, alpha=0.6, color=colour,
                label="pilot has left its start" if left else "pilot has not left its start",
            )  # fmt: skip
        axes.plot([0, 1], [0, 1], color=figure_style.THEORY_COLOUR, linestyle="--", linewidth=0.8)
        axes.set(title=f"{target}, {KINDS[kind]}", xlabel="at the end (share)")
    grid[0].set_ylabel("predicted (share)")
    return figure_style.with_legend_below(figure, columns=2)
