"""Phase diagrams: what was found beside the best known structures, over temperature and depth."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from rich import box
from rich.table import Table

from rankdeficit.experiments import figure_style, tables
from rankdeficit.experiments.settings import Row


def report(summary: Row) -> tuple[Table, list[str]]:
    """What was found and predicted in each cell."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Best of {tables.counted(summary['seeds'], 'start')} per init scale, "
        f"c = {summary['classes']}. L: factors, free features included. "
        f"Ranks at gamma = {summary['gamma']:g}. Found: structure of the same objective, or "
        "else the geometry of the logits with their distance from it. Excess: best "
        "objective found minus that of the best known structure. Ranks and shares per init scale: rank "
        "of its best start, and share of its starts that reach the best objective of all.",
        caption_justify="left",
    )
    left = ("found", "best known", "ranks per init")
    for name in (
        "depth",
        "T",
        "decay",
        "rank",
        *left[:2],
        "objective",
        "excess",
        left[2],
        "shares",
    ):
        table.add_column(name, justify="left" if name in left else "right")
    for cell in summary["cells"]:
        lost = cell["objective"] is None
        inits = [] if lost else cell["by_init_scale"]
        table.add_row(
            tables.depth_and_factors(cell["depth"]),
            f"{cell['temperature']:g}",
            f"{cell['weight_decay']:g}",
            "-" if lost else str(cell["rank"]),
            found_structure(cell),
            cell["predicted_structure"],
            "-" if lost else f"{cell['objective']:.7f}",
            "-" if lost else f"{cell['excess']:+.1e}",
            " ".join("-" if init["rank"] is None else str(init["rank"]) for init in inits),
            " ".join(f"{init['share_of_starts']:.0%}" for init in inits),
        )
    return table, verdict(summary["cells"])


def found_structure(cell: Row) -> str:
    """Structure of the same objective, or else the geometry that was recognised."""
    geometry = cell.get("geometry")  # summaries of earlier versions have none
    if cell["structure"] != "other" or geometry in (None, "none"):
        return str(cell["structure"])
    return f"{geometry} ({cell['geometry_distance']:.2g})"


def verdict(cells: Sequence[Row]) -> list[str]:
    """In how many cells training meets, beats or misses the best structure."""
    settled = [cell for cell in cells if cell["objective"] is not None]
    beats = [cell for cell in settled if cell["excess"] < -cell["room"]]
    misses = [cell for cell in settled if cell["excess"] > cell["room"]]
    sentences = [
        f"The best start meets the best known structure in {len(settled) - len(beats) - len(misses)} of "
        f"{len(cells)} cells, beats it in {len(beats)} and misses it in {len(misses)}."
    ]
    for verb, some in (("Beaten", beats), ("Missed", misses)):
        places = "; ".join(
            f"L = {c['depth'] + 1}, T = {c['temperature']:g}: rank {c['rank']}, "
            f"{abs(c['excess']):.1e} {'below' if verb == 'Beaten' else 'above'} the "
            f"{c['predicted_structure']}"
            for c in some
        )
        if places:
            sentences.append(f"{verb} at {places}.")
    if diverged := sum(cell["diverged"] for cell in cells):
        sentences.append(f"{diverged} runs diverged; try a lower --lr or --init-scale.")
    return sentences


def figures(summary: Row) -> dict[str, Figure]:
    """The figures by name."""
    return {"phase_diagram": draw_diagram(summary), "objectives": draw_objectives(summary)}


def draw_diagram(summary: Row) -> Figure:
    """Rank of the best minimum over T and L; dashed: where the best known structure changes."""
    decays = sorted({cell["weight_decay"] for cell in summary["cells"]})
    depths = sorted({cell["depth"] for cell in summary["cells"]})
    temperatures = sorted({cell["temperature"] for cell in summary["cells"]})
    size = (1.6 + 0.62 * len(temperatures) * len(decays), 1.7 + 0.62 * len(depths))
    figure = Figure(figsize=(max(size[0], 4.5), size[1]))
    panels = figure.subplots(1, len(decays), sharey=True, squeeze=False)[0]
    largest = summary["classes"] - 1
    palette = colormaps["viridis"]
    for axes, decay in zip(panels, decays, strict=True):
        own = [cell for cell in summary["cells"] if cell["weight_decay"] == decay]
        for (i, depth), (j, T) in product(enumerate(depths), enumerate(temperatures)):
            (cell,) = [c for c in own if (c["depth"], c["temperature"]) == (depth, T)]
            if cell["objective"] is not None:
                share = cell["rank"] / largest
                axes.fill_between([j - 0.5, j + 0.5], i - 0.5, i + 0.5, color=palette(share), lw=0)
                ink = "black" if share > 0.5 else "white"
                axes.text(j, i, str(cell["rank"]), ha="center", va="center", color=ink)
        _draw_boundaries(axes, summary, decay, depths, temperatures)
        axes.set_xticks(range(len(temperatures)), [f"{T:g}" for T in temperatures])
        axes.set_yticks(range(len(depths)), [str(depth + 1) for depth in depths])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlim=(-0.5, len(temperatures) - 0.5), ylim=(-0.5, len(depths) - 0.5))
        axes.set_xlabel("temperature T")
        axes.set_title(rf"$\lambda$ = {decay:g}", fontsize=9)
    panels[0].set_ylabel("factors L")
    panels[0].plot([], [], "--", color="red", label="theory: change of the best known structure")
    panels[0].plot([], [], "s", color=palette(0.5), label="number: rank of the best minimum")
    return figure_style.with_legend_below(figure, columns=1)


def _draw_boundaries(
    axes: Axes, summary: Row, decay: float, depths: list[int], temperatures: list[float]
) -> None:
    """Vertical dashes, at their place between the (evenly drawn) temperatures."""
    position = np.arange(len(temperatures))
    for curve in (c for c in summary["curves"] if c["weight_decay"] == decay):
        winners = [min(o, key=lambda name: o[name]) for o in curve["objectives"]]
        middle = np.sqrt(np.multiply(curve["temperatures"][1:], curve["temperatures"][:-1]))
        row = depths.index(curve["depth"])
        for place, before, after in zip(middle, winners, winners[1:], strict=False):
            if before != after and temperatures[0] <= place <= temperatures[-1]:
                at = np.interp(np.log(place), np.log(temperatures), position)
                axes.plot([at, at], [row - 0.5, row + 0.5], "--", color="red", linewidth=2)


def draw_objectives(summary: Row) -> Figure:
    """Least objective against T, a panel per L: dots found, dashes predicted."""
    depths = sorted({cell["depth"] for cell in summary["cells"]})
    decays = sorted({cell["weight_decay"] for cell in summary["cells"]})
    figure = Figure(figsize=(0.8 + 2.7 * len(depths), 0.9 + 2.6 * len(decays)))
    grid = figure.subplots(len(decays), len(depths), sharex=True, sharey=True, squeeze=False)
    names = list(summary["structure_ranks"])
    colours = dict(zip(names, colormaps["turbo"](np.linspace(0.05, 0.95, len(names))), strict=True))
    for curve in summary["curves"]:
        axes = grid[decays.index(curve["weight_decay"]), depths.index(curve["depth"])]
        for name in names:
            label = f"{name} (rank {summary['structure_ranks'][name]})"
            values = [objectives.get(name) for objectives in curve["objectives"]]
            axes.plot(curve["temperatures"], values, "--", color=colours[name], label=label)
        here = [
            cell
            for cell in summary["cells"]
            if (cell["depth"], cell["weight_decay"]) == (curve["depth"], curve["weight_decay"])
            and cell["objective"] is not None
        ]
        axes.plot(
            [cell["temperature"] for cell in here], [cell["objective"] for cell in here],
            "o", color="black", markersize=4, label="best found",
        )  # fmt: skip
        figure_style.set_log_scale(axes, "xy")
        axes.set_title(
            rf"L = {curve['depth'] + 1}, $\lambda$ = {curve['weight_decay']:g}", fontsize=9
        )
    for axes in grid[-1]:
        axes.set_xlabel("temperature T")
    for axes in grid[:, 0]:
        axes.set_ylabel("objective")
    return figure_style.with_legend_below(figure, columns=3)
