"""The statements with their verdicts, and the page of figures."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from rankdeficit.experiments import figure_style, tables
from rankdeficit.experiments.settings import Row
from rankdeficit.toys.optima import decayed_margins, two_factor_optimum
from simulations.gibbs.fits import FACTORS

THEORY: dict[str, Any] = {"color": figure_style.THEORY_COLOUR, "linestyle": "--", "linewidth": 0.9}
STATES = {
    "entropy": ("Entropy", "H (nats)"),
    "free_energy": ("Free energy", "F + T ln c"),
    "energy": ("Mean energy", r"$-E_p z$"),
    "variance": ("Fluctuation of the energy", r"$\mathrm{Var}_p(z)$"),
}
"""Title and axis of each panel of the states, by field."""


def report(summary: Row) -> tuple[Table, list[str]]:
    """Each statement with its errors and whether it holds."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Median and range of the errors over n; {tables.counted(summary['seeds'], 'seed')}, "
        f"{summary['samples']} samples each. Allowed: for sampled values the number of standard errors "
        "that any of all n exceeds by chance with probability 0.001; for others the error of rounding "
        "and training.",
        caption_justify="left",
    )
    for name in ("statement", "measured", "n", "errors", "allowed", "verdict"):
        table.add_column(name, justify="right" if name in ("n", "allowed") else "left")
    for verdict in summary["verdicts"]:
        low, middle, high = (f"{verdict[k]:.2g}" for k in ("least", "median", "largest"))
        table.add_row(
            verdict["statement"],
            verdict["measured"],
            str(verdict["n"]),
            middle + (f" ({low} to {high})" if low != high else ""),
            f"{verdict['allowed']:.2g}",
            "holds" if verdict["holds"] else "fails",
        )
    return table, [*_fit_sentences(summary["fits"]), *_heating_sentences(summary["heating"])]


def _fit_sentences(fits: Sequence[Row]) -> list[str]:
    sentences = []
    ratios = [T / fit["temperature"] for fit in fits for T in fit["fitted"] if T is not None]
    missing = sum(T is None for fit in fits for T in fit["fitted"])
    if ratios:
        sentences.append(
            f"Gaussian clusters: the fitted temperature is {median(ratios):.3f} times 2 sigma^2 "
            f"({min(ratios):.3f} to {max(ratios):.3f}, n = {len(ratios)})."
        )
    if missing:
        sentences.append(
            f"{tables.counted(missing, 'fit')} of clusters had no finite optimum; use larger --sigma or "
            "more --samples."
        )
    for arrangement in dict.fromkeys(fit["arrangement"] for fit in fits):
        own = [fit for fit in fits if fit["arrangement"] == arrangement]
        ranks = [rank for fit in own for rank in fit["ranks"]]
        sentences.append(
            f"Gaussian clusters, {arrangement} means: they span {own[0]['span']} dimensions, and the "
            f"class-centred logits have rank {tables.spread(ranks)} (predicted "
            f"{own[0]['predicted_rank']}, n = {len(ranks)})."
        )
    return sentences


def _heating_sentences(models: Sequence[Row]) -> list[str]:
    names = {"two factors": "Two factors", "linear": "Two inputs of different length"}
    acts = {True: "acts", False: "does not act"}
    return [
        f"{names[model['model']]}: decay {acts[model['heats']]} as heating. The logits at the "
        f"least decay, at the best temperature, differ from those at higher decays by at most "
        f"{model['residual']:.2g} of their norm (n = {model['n']})."
        for model in models
    ]


def draw(rows: Sequence[Row], summary: Row) -> Figure:
    """One page: states against T, clusters, label noise, and both models of decay."""
    figure = Figure(figsize=(10.5, 9.0))
    grid = figure.subplots(3, 3)
    parts = {
        name: [r for r in rows if r["part"] == name] for name in ("states", "clusters", "noise")
    }
    for axes, (field, (title, label)) in zip(grid.flat, STATES.items(), strict=False):
        _draw_states(axes, parts["states"], field, summary["classes"])
        axes.set_title(title)
        axes.set_ylabel(label)
    _draw_losses(grid[1, 1], parts["clusters"])
    _draw_fits(grid[1, 2], summary["fits"])
    _draw_gaps(grid[2, 0], parts["noise"])
    decays = [row for row in rows if row["part"] == "decay"]
    _draw_minima(grid[2, 1], [r for r in decays if r["model"] == "two factors"], summary["classes"])
    _draw_margins(grid[2, 2], [r for r in decays if r["model"] == "linear"], summary["lengths"])
    for axes in grid.flat:
        axes.title.set_fontsize(9)
        axes.xaxis.label.set_fontsize(9)
        axes.yaxis.label.set_fontsize(9)
        axes.tick_params(which="both", labelsize=8)
    figure.set_layout_engine("constrained")
    return figure


def _draw_states(axes: Axes, rows: Sequence[Row], field: str, classes: int) -> None:
    """Exact values as lines and draws as dots."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(kinds)))
    for kind, colour in zip(kinds, colours, strict=True):
        own = [row for row in rows if row["kind"] == kind]
        temperatures = sorted({row["temperature"] for row in own})
        shift = np.log(classes) * np.array(temperatures) * (field == "free_energy")
        groups = [[r for r in own if r["temperature"] == T] for T in temperatures]
        exact = np.array([same[0][field] for same in groups])
        drawn = np.array([[row[f"sampled_{field}"] for row in same] for same in groups])
        axes.plot(temperatures, exact + shift, color=colour, linewidth=1, label=kind)
        _dots(axes, temperatures, drawn + shift[:, None], colour)
    axes.set_xlabel("temperature T")
    figure_style.set_log_scale(axes, "x")
    if field == "entropy":
        _draw_limits(axes, rows)
        axes.legend(fontsize=7, loc="lower right")


def _draw_limits(axes: Axes, rows: Sequence[Row]) -> None:
    """Entropy of the largest logits alone, and to second order in 1/T, the same for all kinds."""
    temperatures = sorted({row["temperature"] for row in rows})
    cold = temperatures[: 1 + len(temperatures) // 4]
    for value in sorted({row["cold_entropy"] for row in rows}):
        axes.plot(cold, [value] * len(cold), **THEORY)
    hot = sorted(
        {(r["temperature"], r["hot_entropy"]) for r in rows if r["kind"] == rows[0]["kind"]}
    )
    values = np.array([value if value > 0 else np.nan for _, value in hot])
    axes.plot([T for T, _ in hot], values, **THEORY, label="limits of low and high T")


def _draw_losses(axes: Axes, rows: Sequence[Row]) -> None:
    """Loss of the first arrangement and seed against beta in units of 1 / (2 sigma^2)."""
    first = (rows[0]["arrangement"], rows[0]["seed"])
    own = [row for row in rows if (row["arrangement"], row["seed"]) == first]
    colours = colormaps["plasma"](np.linspace(0, 0.85, len(own)))
    for row, colour in zip(own, colours, strict=True):
        axes.plot(FACTORS, row["losses"], color=colour, linewidth=1, label=f"σ = {row['sigma']:g}")
        if row["fitted"] is not None:
            at = row["temperature"] / row["fitted"]
            axes.plot(at, row["least_loss"], "o", color=colour, markersize=4)
    axes.axvline(1, **THEORY)
    highest = max(row["losses"][0] for row in own) or 1.0
    axes.set(xlabel="β in units of 1 / (2σ²)", ylabel="NLL (nats)", ylim=(0, 1.5 * highest))
    axes.set_title("Gaussian clusters: dots are minima")
    figure_style.set_log_scale(axes, "x")
    axes.legend(fontsize=7, loc="upper left", ncols=2)


def _draw_fits(axes: Axes, fits: Sequence[Row]) -> None:
    """Fitted temperature against sigma beside 2 sigma^2, and the ratio of both in an inset."""
    inset = axes.inset_axes((0.56, 0.14, 0.42, 0.3))
    for number, arrangement in enumerate(dict.fromkeys(fit["arrangement"] for fit in fits)):
        own = [f for f in fits if f["arrangement"] == arrangement and None not in f["fitted"]]
        sigmas = [fit["sigma"] * 1.04 ** (2 * number - 1) for fit in own]  # beside each other
        found = [fit["fitted"] for fit in own]
        ratios = [[T / fit["temperature"] for T in fit["fitted"]] for fit in own]
        if own:
            _dots(
                axes,
                [fit["sigma"] for fit in own],
                found,
                f"C{number}",
                arrangement,
                5 - 2 * number,
            )
            _dots(inset, sigmas, ratios, f"C{number}")
    sigmas = sorted({fit["sigma"] for fit in fits})
    axes.plot(sigmas, [2 * sigma**2 for sigma in sigmas], **THEORY, label="2σ²")
    inset.axhline(1, **THEORY)
    inset.set_title("fitted T / 2σ²", fontsize=7, pad=2)
    axes.set(xlabel="σ", ylabel="fitted temperature")
    axes.set_title("Gaussian clusters: best temperature")
    figure_style.set_log_scale(axes, "xy")
    figure_style.set_log_scale(inset, "x")
    inset.tick_params(which="both", labelsize=6)
    axes.legend(fontsize=7, title="means", title_fontsize=7)


def _draw_gaps(axes: Axes, rows: Sequence[Row]) -> None:
    """Gap of the fitted logits against the share of flipped labels."""
    shares = np.geomspace(min(r["rate"] for r in rows), max(r["rate"] for r in rows), 60)
    for T, _, same in _by_temperature(rows):
        _dots_of(axes, [r for r in same if r["gap"] is not None], "rate", "gap", T)
        axes.plot(shares, T * np.log(1 / shares - 1), **THEORY)
    axes.plot([], [], **THEORY, label="T ln(q / (1 - q))")
    axes.set(xlabel="share 1 - q of flipped labels", ylabel="logit gap")
    axes.set_title("Two classes with label noise")
    figure_style.set_log_scale(axes, "xy")
    axes.legend(fontsize=7, loc="lower left")


def _draw_minima(axes: Axes, rows: Sequence[Row], classes: int) -> None:
    """Minimum of the two-factor model against tau, for all temperatures and decays."""
    for T, size, same in _by_temperature(rows):
        _dots_of(axes, same, "tau", "objective", T, size)
    taus = np.geomspace(min(r["tau"] for r in rows), max(r["tau"] for r in rows), 100)
    values = [two_factor_optimum(classes, 1, 1.0, tau, tau).value for tau in taus.tolist()]
    axes.plot(taus, values, **THEORY, label="closed form")
    axes.axvline(1 / classes, color="0.5", linestyle=":", linewidth=1, label="τ = 1/c")
    axes.set(xlabel=r"$\tau = T \lambda \sqrt{N}$", ylabel="minimum of the objective")
    axes.set_title("Two factors: decay is heating")
    figure_style.set_log_scale(axes, "x")
    axes.legend(fontsize=7)


def _draw_margins(axes: Axes, rows: Sequence[Row], lengths: Sequence[float]) -> None:
    """Ratio of the margins of two inputs, which one effective temperature would keep constant."""
    ratios = [{**row, "ratio": row["margins"][1] / row["margins"][0]} for row in rows]
    for T, size, same in _by_temperature(ratios):
        _dots_of(axes, same, "effective_decay", "ratio", T, size)
    ends = [row["effective_decay"] for row in rows]
    decays = np.geomspace(min(ends), max(ends), 100)
    sizes = torch.tensor(lengths, dtype=torch.float64)
    margins = [decayed_margins(sizes, 1.0, decay).tolist() for decay in decays.tolist()]
    axes.plot(decays, [second / first for first, second in margins], **THEORY, label="exact")
    limits = {1.0: "λ → 0", (lengths[1] / lengths[0]) ** 2: "λ → ∞"}
    for limit, label in limits.items():
        axes.axhline(limit, color="0.5", linestyle=":", linewidth=1)
        at = (0.02, limit)
        axes.annotate(label, at, xycoords=("axes fraction", "data"), fontsize=7, va="bottom")
    axes.set(xlabel="λT²", ylabel="ratio of their margins")
    axes.set_title("Two inputs: heating would keep the ratio")
    figure_style.set_log_scale(axes, "xy")
    axes.legend(fontsize=7, loc="center right")


def _dots_of(
    axes: Axes, rows: Sequence[Row], x: str, y: str, temperature: float, size: float | int = 3
) -> None:
    """Dots of one field against another at a temperature, medians and ranges over seeds."""
    at = sorted({row[x] for row in rows})
    values = [[row[y] for row in rows if row[x] == place] for place in at]
    colour = figure_style.temperature_colour(temperature)
    _dots(axes, at, values, colour, f"T = {temperature:g}", size)


def _dots(
    axes: Axes,
    at: Sequence[float],
    values: Sequence[Sequence[float]] | np.ndarray,
    colour: Any,
    label: str | None = None,
    size: float | int = 3,
) -> None:
    """Medians of each row of values as dots, with the range as bars."""
    middle = np.array([np.median(row) for row in values])
    low, high = (np.array([end(row) for row in values]) for end in (np.min, np.max))
    bars = [middle - low, high - middle]
    axes.errorbar(
        at, middle, yerr=bars, fmt="o", markersize=size, linewidth=0.8, color=colour, label=label
    )


def _by_temperature(rows: Sequence[Row]) -> Iterator[tuple[float, float, list[Row]]]:
    """Temperatures in ascending order, each with its rows and a size of dots that shows equal ones."""
    temperatures = sorted({row["temperature"] for row in rows})
    for T, size in zip(temperatures, np.linspace(7, 3, len(temperatures)), strict=True):
        yield T, size, [row for row in rows if row["temperature"] == T]
