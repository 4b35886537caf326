"""Runs at temperature T beside their reparametrised twins."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from rankdeficit.experiments import figure_style, tables
from rankdeficit.experiments.settings import Row


def report(summary: Row) -> tuple[Table, list[str]]:
    """Each case with what theory expects and what was found."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption="Largest relative difference of theta / a and phi over all steps (range over "
        f"{tables.counted(summary['seeds'], 'seed')}); equal: below {summary['equal_below']:g}. "
        f"Ranks of the logits at the end, original / twin, first seed, gamma = {summary['gamma']:g}. "
        "Depth: weight matrices; L = depth + 1 factors in the unconstrained feature model, L = depth in "
        "the MLP.",
        caption_justify="left",
    )
    for name in ("case", "T", "depth", "expected", "found", "difference", "ranks"):
        table.add_column(name, justify="right" if name in ("T", "depth") else "left")
    for cell in summary["cells"]:
        first, second = cell["ranks"][0]
        table.add_row(
            cell["case"],
            f"{cell['temperature']:g}",
            str(cell["depth"]),
            cell["expected"],
            cell["found"],
            _spell(cell["differences"]),
            f"{first} / {second}",
        )
    surprises = [cell for cell in summary["cells"] if cell["found"] != cell["expected"]]
    sentences = [
        f"{cell['case']} (T = {cell['temperature']:g}, depth {cell['depth']}): expected "
        f"{cell['expected']}, found {cell['found']}."
        for cell in surprises
    ]
    if any(cell["expected"] == "equal" for cell in surprises):
        sentences.append(
            "In chaotic training rounding errors of 1e-15 grow by themselves. The figure shows whether "
            "the runs differ from the first steps or only later; with fewer --steps they may agree."
        )
    return table, sentences or [
        "All cases agree with the theory. Temperature is an initial scale and a learning rate together, "
        "exactly so in homogeneous networks whose weight decay and epsilon are scaled too. In networks "
        "with normalisation only the scale of the head can replace it."
    ]


def _spell(differences: Sequence[float | None]) -> str:
    finite = [d for d in differences if d is not None and math.isfinite(d)]
    ends = dict.fromkeys(f"{end:.1e}" for end in (min(finite), max(finite))) if finite else {}
    text = " to ".join(ends)
    diverged = len(differences) - len(finite)
    return text + f" ({diverged} diverged)" * bool(diverged)


def draw_differences(rows: Sequence[Row], summary: Row) -> Figure:
    """Difference against steps, a panel for what theory calls equal and one for the rest."""
    cells = summary["cells"]
    T, depth = cells[0]["temperature"], cells[0]["depth"]
    seed = min(row["seed"] for row in rows)
    figure = Figure(figsize=(5.6, 8.0))
    panels = figure.subplots(2, 1, sharex=True)
    for axes, expected in zip(panels, ("equal", "different"), strict=True):
        names = list(dict.fromkeys(row["case"] for row in rows if row["expected"] == expected))
        for name, colour in zip(
            names, colormaps["turbo"](np.linspace(0, 1, len(names))), strict=True
        ):
            key = (name, T, depth, seed)
            own = [r for r in rows if (r["case"], r["temperature"], r["depth"], r["seed"]) == key]
            own = [row for row in own if row["difference"] is not None]
            values = [max(row["difference"], 1e-17) for row in own]
            axes.plot([row["step"] for row in own], values, color=colour, label=name)
        axes.axhline(summary["equal_below"], color="black", linestyle="--", linewidth=1)
        axes.set(ylim=(1e-17, 1e8), ylabel="largest relative difference")
        figure_style.set_log_scale(axes, "y")
        axes.set_title(f"theory: {expected} (T = {T:g}, depth {depth})", fontsize=9)
        axes.legend(fontsize=7, ncols=2, loc="upper left")
        note = "above: different" if expected == "equal" else "below: equal"
        height = summary["equal_below"] * (2 if expected == "equal" else 0.2)
        axes.text(0.99, height, note, fontsize=7, ha="right", transform=axes.get_yaxis_transform())
    panels[-1].set_xlabel("training step")
    figure.set_layout_engine("constrained")
    return figure
