"""Escapes from small logits beside their closed form."""

import math
from collections.abc import Sequence
from itertools import product
from statistics import median

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from rich import box
from rich.table import Table

from rankdeficit.experiments import figure_style, tables
from rankdeficit.experiments.settings import Row


def report(summary: Row) -> tuple[Table, list[str]]:
    """Escape times and ratios against the closed form, participation ratios and ranks."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians over seeds, c = {summary['classes']}. L: factors, free features included. "
        f"Escape: largest mode at {summary['escape']:g} T sqrt(N); - where a random start lies beyond. "
        "Errors: largest over seeds and modes, relative to the closed form. Participation ratio "
        f"(sum s^2)^2 / sum s^4 and rank at loss {summary['escaped_loss']:g} ln c.",
        caption_justify="left",
    )
    names = (
        "start",
        "depth",
        "T",
        "seeds",
        "escape time",
        "time error",
        "ratio error",
        "part. ratio",
        "rank",
    )
    for name in names:
        table.add_column(name, justify="left" if name == "start" else "right")
    for key, same in _cells(summary["runs"]):
        start, depth, temperature = key
        compared = [run for run in same if "ratio_error" in run]
        times = [run["escape_time"] for run in same if run["escape_time"] is not None]
        table.add_row(
            start,
            tables.depth_and_factors(depth),
            f"{temperature:g}",
            str(len(same)),
            f"{median(times):.3g}" if times else "-",
            f"{max(run['escape_time_error'] for run in compared):.1e}" if compared else "-",
            f"{max(run['ratio_error'] for run in compared):.1e}" if compared else "-",
            f"{median(run['participation_ratio'] for run in same):.2f}",
            f"{median(run['rank'] for run in same):g}",
        )
    return table, _sentences(summary["runs"])


def _sentences(runs: Sequence[Row]) -> list[str]:
    stuck = sum(not run["escaped"] for run in runs)
    sentences = (
        [f"{tables.counted(stuck, 'run')} did not escape; use more --steps."] if stuck else []
    )
    for depth in sorted({run["depth"] for run in runs}):
        for start in dict.fromkeys(run["start"] for run in runs):
            own = [run for run in runs if (run["depth"], run["start"]) == (depth, start)]
            coldest, hottest = (
                [r["participation_ratio"] for r in own if r["temperature"] == T]
                for T in (min(r["temperature"] for r in own), max(r["temperature"] for r in own))
            )
            sentences.append(
                f"L = {depth + 1}, {start} start: participation ratio {_range(coldest)} at the lowest "
                f"temperature, {_range(hottest)} at the highest."
            )
    return sentences


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low}-{high}"


def figures(rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
    """The figures by name; those of the closed form if any balanced run escaped."""
    found = {"participation": draw_participation(summary)}
    if any("ratio_error" in run for run in summary["runs"]):
        found |= {"modes": draw_modes(rows, summary), "escape_times": draw_escapes(summary)}
    return found


def draw_modes(rows: Sequence[Row], summary: Row) -> Figure:
    """Modes against time for the first seed of each depth at the lowest and highest temperature."""
    own = [row for row in rows if row["start"] == "balanced"]
    seed = min(row["seed"] for row in own)
    depths = sorted({row["depth"] for row in own})
    temperatures = sorted({row["temperature"] for row in own})
    shown = list(dict.fromkeys((temperatures[0], temperatures[-1])))
    figure = Figure(figsize=(0.8 + 1.5 * len(depths), 0.9 + 1.9 * len(shown)))
    grid = figure.subplots(len(shown), len(depths), squeeze=False)
    for (i, T), (j, depth) in product(enumerate(shown), enumerate(depths)):
        axes = grid[i, j]
        same = [
            row
            for row in own
            if (row["seed"], row["temperature"], row["depth"]) == (seed, T, depth)
        ]
        (end,) = [
            run["predicted_escape_time"]
            for run in summary["runs"]
            if (run["seed"], run["temperature"], run["depth"], run["start"])
            == (seed, T, depth, "balanced")
        ]
        time = np.array([row["time"] for row in same]) / end
        values = np.array([row["singular_values"] for row in same])
        theory = np.array(
            [
                [math.nan if v is None else v for v in row["predicted_singular_values"]]
                for row in same
            ]
        )
        keep = time <= 1.5
        escape_at = summary["escape"] * T * math.sqrt(summary["samples_per_class"])
        colours = colormaps["viridis"](np.linspace(0, 0.9, values.shape[1]))
        for mode, colour in enumerate(colours):
            label = "modes, simulated" if mode == 0 else None
            axes.plot(time[keep], values[keep, mode], color=colour, linewidth=1.2, label=label)
            label = "closed form" if mode == 0 else None
            early = theory[:, mode] < 2 * escape_at
            axes.plot(
                time[early], theory[early, mode], "--", color="black", linewidth=0.8, label=label
            )
        axes.axvline(1, color="red", linestyle=":", linewidth=1, label="predicted escape")
        axes.set_xlim(0, 1.5)
        axes.set_xticks((0, 0.5, 1))
        figure_style.set_log_scale(axes, "y")
        axes.set_title(f"L = {depth + 1}, T = {T:g}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
    for axes in grid[-1]:
        axes.set_xlabel("time / escape time")
    for axes in grid[:, 0]:
        axes.set_ylabel("singular values\nof the logits")
    return figure_style.with_legend_below(figure, columns=3)


def draw_escapes(summary: Row) -> Figure:
    """Escape time, and the second mode's share of the first at escape, against temperature."""
    balanced = [run for run in summary["runs"] if "ratio_error" in run]
    depths = sorted({run["depth"] for run in balanced})
    colours = dict(zip(depths, colormaps["viridis"](np.linspace(0, 0.9, len(depths))), strict=True))
    figure = Figure(figsize=(7.2, 3.8))
    left, right = figure.subplots(1, 2)
    for depth in depths:
        own = [run for run in balanced if run["depth"] == depth]
        own.sort(key=lambda run: (run["seed"], run["temperature"]))
        label = f"L = {depth + 1}"
        for number, seed in enumerate(dict.fromkeys(run["seed"] for run in own)):
            same = [run for run in own if run["seed"] == seed]
            T = [run["temperature"] for run in same]
            named = label if number == 0 else None
            left.plot(
                T, [r["escape_time"] for r in same], "o", color=colours[depth], ms=4, label=named
            )
            left.plot(T, [r["predicted_escape_time"] for r in same], "k--", linewidth=0.8)
            right.plot(T, [r["ratios"][1] for r in same], "o", color=colours[depth], ms=4)
            right.plot(T, [r["predicted_ratios"][1] for r in same], "k--", linewidth=0.8)
            drop = same[0].get("dropout_temperatures", [math.inf])[0]
            if min(T) <= drop <= max(T):
                right.plot(drop, summary["gamma"], "rx", ms=5)
    left.plot([], [], "k--", linewidth=0.8, label="closed form")
    left.plot([], [], "rx", ms=5, label="second mode leaves the rank")
    left.set(xlabel="temperature T", ylabel="escape time (flow time)")
    right.set_xlabel("temperature T")
    for axes in (left, right):
        figure_style.set_log_scale(axes, "xy")
    right.set_ylabel("second mode / first at escape")
    return figure_style.with_legend_below(figure, columns=3)


def draw_participation(summary: Row) -> Figure:
    """Participation ratio of the modes once the loss has fallen, against temperature."""
    runs, classes = summary["runs"], summary["classes"]
    starts = list(dict.fromkeys(run["start"] for run in runs))
    depths = sorted({run["depth"] for run in runs})
    colours = dict(zip(depths, colormaps["viridis"](np.linspace(0, 0.9, len(depths))), strict=True))
    figure = Figure(figsize=(0.8 + 3.2 * len(starts), 3.8))
    panels = figure.subplots(1, len(starts), sharey=True, squeeze=False)[0]
    for axes, start in zip(panels, starts, strict=True):
        for depth in depths:
            groups = [
                (T, [r["participation_ratio"] for r in same])
                for (s, d, T), same in _cells(runs)
                if (s, d) == (start, depth)
            ]
            T, values = zip(*groups, strict=True)
            colour = colours[depth]
            axes.plot(
                T, [median(v) for v in values], "o-", color=colour, ms=3, label=f"L = {depth + 1}"
            )
            axes.fill_between(
                T, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.2
            )
        label = f"all c - 1 = {classes - 1} modes alike"
        axes.axhline(classes - 1, color="black", linestyle="--", linewidth=1, label=label)
        axes.set(xlabel="temperature T", ylim=(0, classes))
        figure_style.set_log_scale(axes, "x")
        axes.set_title(f"{start} start", fontsize=9)
    panels[0].set_ylabel(f"participation ratio\nat loss {summary['escaped_loss']:g} ln c")
    return figure_style.with_legend_below(figure, columns=3)


def _cells(runs: Sequence[Row]) -> list[tuple[tuple[str, int, float], list[Row]]]:
    """Runs of equal start, depth and temperature."""
    keys = sorted({(run["start"], run["depth"], run["temperature"]) for run in runs})
    return [
        (key, [r for r in runs if (r["start"], r["depth"], r["temperature"]) == key])
        for key in keys
    ]
