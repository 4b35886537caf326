"""Collapse and gradient ranks of multi-layer perceptrons."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from rankdeficit.experiments import figure_style, plots, tables
from rankdeficit.experiments.settings import Row


def report(summary: Row) -> tuple[Table, Sequence[str]]:
    """The table, layer by layer ranks, and the verdict."""
    lines = []
    for temperature in sorted({run["temperature"] for run in summary["runs"]}):
        own = [run for run in summary["runs"] if run["temperature"] == temperature]
        own = [run for run in own if run["layer_ranks"]]
        for name, field in (
            ("each layer's input and of the logits", "layer_ranks"),
            ("each layer's gradient", "gradient_ranks"),
        ):
            if own:
                medians = np.median([run[field] for run in own], axis=0)
                spelled = " ".join(f"{value:g}" for value in medians)
                lines.append(f"Median rank of {name}, T = {temperature:g}: {spelled}.")
    table = tables.results_table(summary["runs"], "depth", summary["gamma"])
    return table, [*lines, *summary["verdict"]]


def figures(rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
    """The figures by name."""
    runs, classes = summary["runs"], summary["classes"]
    predicted = runs[0]["neural_collapse_rank"]
    return {
        "ranks": plots.ranks_over_training(rows, classes, predicted, "step", "depth"),
        "alignment": plots.alignment_over_training(rows, "step", "depth"),
        "alignment_per_layer": draw_alignment_per_layer(rows),
        "collapse": draw_collapse(rows, predicted),
        "gradient_ranks": draw_gradient_ranks(runs),
    }


def draw_alignment_per_layer(rows: Sequence[Row]) -> Figure:
    """Alignment of each layer with its input over training (the top of the paper's Figure 3)."""
    temperatures = sorted({row["temperature"] for row in rows})
    figure = Figure(figsize=(1.0 + 3.0 * len(temperatures), 3.6))
    panels = figure.subplots(1, len(temperatures), sharey=True, squeeze=False)[0]
    for axes, T in zip(panels, temperatures, strict=True):
        own = [row for row in rows if row["temperature"] == T and row["alignment_per_layer"]]
        layers = len(own[0]["alignment_per_layer"]) if own else 0
        colours = colormaps["viridis"](np.linspace(0, 0.9, max(layers, 1)))
        for layer in range(layers):
            flat = [{**row, "aligned": row["alignment_per_layer"][layer]} for row in own]
            figure_style.band(axes, flat, "step", "aligned", colours[layer], f"layer {layer + 1}")
        figure_style.set_clock_scale(axes, "step")
        axes.set(ylim=(0, 1.03), xlabel="training steps")
        axes.set_title(f"T = {T:g}", fontsize=9)
    panels[0].set_ylabel("alignment with the layer's input")
    return figure_style.with_legend_below(figure, columns=4)


def draw_collapse(rows: Sequence[Row], predicted: int) -> Figure:
    """Top singular values and rank of the last hidden layer over training (the paper's Figure 3)."""
    temperatures = sorted({row["temperature"] for row in rows})
    figure = Figure(figsize=(1.0 + 3.2 * len(temperatures), 3.6))
    panels = figure.subplots(1, len(temperatures), sharey=True, squeeze=False)[0]
    rank_axes = [axes.twinx() for axes in panels]
    for right in rank_axes[1:]:
        right.sharey(rank_axes[0])
    for axes, right, T in zip(panels, rank_axes, temperatures, strict=True):
        own = [r for r in rows if r["temperature"] == T and r["top_singular_values"]]
        own = [r for r in own if r["seed"] == min(row["seed"] for row in rows)]
        steps = [row["step"] for row in own]
        values = np.array([row["top_singular_values"] for row in own])
        colours = colormaps["viridis"](np.linspace(0, 0.85, values.shape[1]))
        for i, colour in enumerate(colours):
            axes.plot(steps, values[:, i], color=colour, label=f"singular value {i + 1}")
        right.plot(
            steps, [r["hidden_rank"] for r in own], ":", color="C3", label="rank (right axis)"
        )
        label = f"Neural Collapse: {predicted}"
        right.axhline(predicted, color="black", linestyle="--", linewidth=1, label=label)
        axes.set_xlabel("training steps")
        figure_style.set_log_scale(axes, "y")
        figure_style.set_clock_scale(axes, "step")
        figure_style.set_log_scale(right, "y")
        right.tick_params(which="both", labelright=temperatures[-1] == T)
        axes.set_title(f"T = {T:g}", fontsize=9)
    panels[0].set_ylabel("singular values,\nlast hidden layer")
    rank_axes[-1].set_ylabel("numerical rank")
    return figure_style.with_legend_below(figure, columns=4)


def draw_gradient_ranks(runs: Sequence[Row]) -> Figure:
    """Rank of each layer's input and of its gradient at the end (the paper's Figure 4, equation 3)."""
    temperatures = sorted({run["temperature"] for run in runs})
    figure = Figure(figsize=(1.0 + 3.0 * len(temperatures), 3.4))
    panels = figure.subplots(1, len(temperatures), sharey=True, squeeze=False)[0]
    for axes, T in zip(panels, temperatures, strict=True):
        own = [run for run in runs if run["temperature"] == T and run["layer_ranks"]]
        if own:
            inputs = np.array([run["layer_ranks"][:-1] for run in own])
            gradients = np.array([run["gradient_ranks"] for run in own])
            layer = np.arange(1, inputs.shape[1] + 1)
            for values, style, colour, label in (
                (inputs, "--", "black", "rank of the layer's input (bounds the exact rank)"),
                (gradients, "o-", "C0", "rank of the gradient"),
            ):
                axes.plot(layer, np.median(values, axis=0), style, color=colour, label=label)
                axes.fill_between(
                    layer, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2
                )
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure_style.set_log_scale(axes, "y")
        axes.set_title(f"T = {T:g}", fontsize=9)
    panels[0].set_ylabel("numerical rank")
    return figure_style.with_legend_below(figure, columns=2)
