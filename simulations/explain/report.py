"""Errors of the regressions as a table, sentences on what each number adds, and a figure."""

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from rankdeficit.experiments import figure_style
from rankdeficit.experiments.settings import Row
from simulations.explain.fits import DRAWS, FOLDS, LEVEL, MANY, MODELS, PAIRS


def error_table(summary: Row) -> Table:
    """A line for each source and regression."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption="Mean error of the predicted class-centred rank as a share of the full rank min(c - 1, "
        f"width), at gamma = {summary['gamma']:g}, on configurations that took no part in the fit "
        f"({FOLDS} folds, drawn {DRAWS} times; each configuration counts once), with {LEVEL:.0%} "
        "bootstrap intervals over configurations. Others: learning rate, weight decay, depth, width, "
        "classes, steps after leaving the start, optimizer. Equivalent: rate and decay of the equal run "
        "at T = 1 (exact for homogeneous networks). Squares and products take part from "
        f"{MANY} runs.",
        caption_justify="left",
    )
    for name in ("trained", "runs", "configurations", "regression on", "error", "interval", "R^2"):
        table.add_column(name, justify="left" if name in ("trained", "regression on") else "right")
    for found in summary["sources"]:
        for model in MODELS:
            own = found["errors"][model]
            error, low, high = own["error"]
            table.add_row(
                found["source"],
                str(found["runs"]),
                str(found["groups"]),
                model,
                f"{error:.3f}",
                f"{low:.3f}-{high:.3f}",
                "-" if own["r2"] is None else f"{own['r2']:.2f}",
            )
    return table


def sentences(summary: Row) -> list[str]:
    """What each number adds to the others, and the largest coefficients."""
    told = []
    for found in summary["sources"]:
        gains = []
        for name in PAIRS:
            gain, low, high = found["gains"][name]
            verdict = "helps" if low > 0 else "misleads" if high < 0 else "adds nothing that shows"
            gains.append(f"{name} {verdict} (error less by {gain:.3f}, {low:.3f} to {high:.3f})")
        left_out = f" (not recorded: {', '.join(found['left_out'])})" if found["left_out"] else ""
        told.append(f"{found['source']}{left_out}: {'; '.join(gains)}.")
        largest = sorted(found["coefficients"].items(), key=lambda own: -abs(own[1][0]))
        slopes = ", ".join(
            f"{name} {value:+.2f} ({low:+.2f} to {high:+.2f})"
            for name, (value, low, high) in largest
            if low > 0 or high < 0
        )
        told.append(
            f"{found['source']}, logit of the rank per standard deviation of each number, where the "
            f"interval leaves out 0: {slopes or 'none'}."
        )
    if summary["stalled"]:
        told.append(f"Left out: {summary['stalled']} runs that never left their start.")
    if not summary["sources"]:
        told.append("Too few configurations: a source needs three or more.")
    return told


def draw(summary: Row) -> Figure:
    """Predicted against final shares above, errors of all regressions below, a column per source."""
    sources = summary["sources"]
    columns = max(1, len(sources))
    figure = Figure(figsize=(1.6 + 3.2 * columns, 6))
    grid = figure.subplots(2, columns, squeeze=False)
    for found, (above, below) in zip(sources, grid.T, strict=False):
        hot = [own["temperature"] > 1 for own in found["predictions"]]
        for which, colour, label in ((False, "C0", "T ≤ 1"), (True, "C1", "T > 1")):
            own = [
                p for p, is_hot in zip(found["predictions"], hot, strict=True) if is_hot is which
            ]
            above.plot(
                [p["share"] for p in own],
                [p["predicted"] for p in own],
                "o",
                color=colour,
                markersize=2.5,
                alpha=0.6,
                label=label,
            )
        above.plot([0, 1], [0, 1], color=figure_style.THEORY_COLOUR, linestyle="--", linewidth=0.8)
        above.set(xlabel="final rank (share)", title=found["source"])
        errors = [found["errors"][model]["error"] for model in MODELS]
        places = list(range(len(MODELS)))[::-1]
        ends = [[e - low for e, low, _ in errors], [high - e for e, _, high in errors]]
        below.errorbar(
            [e for e, *_ in errors], places, xerr=ends, fmt="o", color="C3", markersize=4
        )
        below.set(yticks=places, xlabel="held-out error (share)", xlim=(0, None))
        below.set_yticklabels(list(MODELS) if below is grid[1][0] else [])
    grid[0][0].set_ylabel("predicted (share)")
    return figure_style.with_legend_below(figure, columns=2)
