"""Figures of measurements during training."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from rankdeficit.experiments.figure_style import with_legend_below
from rankdeficit.experiments.network_figures.runs import (
    FigureRun,
    case_panels,
    cases,
    neural_collapse,
    number,
    of_case,
    over_training,
    temperature_grid,
)
from rankdeficit.experiments.panels import (
    Curve,
    Frame,
    Look,
    Panel,
    draw,
    epoch_axis,
    from_zero,
    from_zero_to_one,
    logarithmic,
    positive,
    rank_axis,
    wrapped,
)
from rankdeficit.spectrum import GAMMA

NORM = r"logits norm $\|M\|_F/\sqrt{n}$"
TOP_VALUES = 5
RAW, CENTRED, AFTER = Look("C0", "o"), Look("C2", "^"), Look("C1", "s")
UNMARKED = Look("0.45", "")


def logits_norm(runs: Sequence[FigureRun]) -> Figure | None:
    """Logits norm against epochs, raw and divided by the temperature (the paper's Figure 2)."""

    def curves(own: list[FigureRun], label: str, look: Look) -> list[Curve]:
        raw = positive(over_training(own, "logits_norm"))
        effective = positive(over_training(own, "effective_logits_norm"))
        if all(run.temperature == 1 for run in own):
            return [Curve(raw, label, look)]
        return [
            Curve(raw, f"{label}, raw", look),
            Curve(effective, f"{label}, divided by T", look, "--"),
        ]

    panels = case_panels(runs, Frame("epoch", NORM, [logarithmic, epoch_axis]), curves)
    return draw(wrapped(panels), shared=False)


def alignment_and_collapse(runs: Sequence[FigureRun], gamma: float = GAMMA) -> Figure | None:
    """Alignment above; rank (dashed) and top singular values below (the paper's Figure 3).

    The rank, at threshold gamma, and the singular values are those of the last hidden layer, with
    feature maps averaged to 2 x 2 cells.
    """
    shades = [Look(colour, "") for colour in colormaps["viridis"](np.linspace(0, 0.85, TOP_VALUES))]

    above = Frame("epoch", "alignment,\nmean over layers", [from_zero_to_one, epoch_axis])
    below = Frame(
        "epoch",
        f"rank of the last\nhidden layer, γ = {gamma:g}",
        [rank_axis, epoch_axis],
        "its singular values",
    )

    def alignment(own: list[FigureRun], title: str, look: Look) -> Panel:
        points = over_training(own, "alignment")
        return Panel(title, above, [Curve(points, title.splitlines()[-1], look)])

    def collapse(own: list[FigureRun], title: str, look: Look) -> Panel:
        ranks = over_training(own, "layer_ranks", str(gamma), -2)
        values = [
            Curve(
                over_training(own, "layer_singular_values", -2, i),
                f"singular value {i + 1}",
                shade,
            )
            for i, shade in enumerate(shades)
        ]
        return Panel(
            title.splitlines()[-1], below, [Curve(ranks, "rank", Look("black", ""), "--")], values
        )

    pairs = zip(temperature_grid(runs, alignment), temperature_grid(runs, collapse), strict=True)
    return draw([row for pair in pairs for row in pair])


def ranks_around_softmax(runs: Sequence[FigureRun]) -> Figure | None:
    """Rank of the logits before and after the softmax, and their norm (the paper's Figure 5).

    The class-centred rank is added, to which the prediction of Neural Collapse applies.
    """
    thresholds = ", ".join(f"{gamma:g}" for gamma in sorted({run.gamma for run in runs}))
    frame = Frame("epoch", f"numerical rank, γ = {thresholds}", [from_zero, epoch_axis], NORM)

    def panel(own: list[FigureRun], title: str, look: Look) -> Panel:
        curves = [
            Curve(over_training(own, "rank"), "rank of the raw logits", RAW, ":"),
            Curve(over_training(own, "centred_rank"), "rank of the class-centred logits", CENTRED),
            Curve(over_training(own, "post_softmax_rank"), "rank after the softmax", AFTER, "-."),
        ]
        norms = over_training(own, "logits_norm")
        right = [Curve(norms, "logits norm (right)", UNMARKED, ":")]
        return Panel(title, frame, curves, right, neural_collapse(own))

    return draw(temperature_grid(runs, panel))


def ortho_dev(runs: Sequence[FigureRun]) -> Figure | None:
    """OrthoDev against epochs, a panel per OOD data set (the paper's Figure 7)."""
    names = {name for run in runs for row in run.rows for name in row.get("ortho_dev") or {}}

    frame = Frame("epoch", "OrthoDev", [from_zero, epoch_axis])
    panels = []
    for name in sorted(names):

        def curves(own: list[FigureRun], label: str, look: Look, name: str = name) -> list[Curve]:
            return [Curve(over_training(own, "ortho_dev", name), label, look)]

        panels += [
            replace(panel, title=f"{panel.title}\nOOD: {name}")
            for panel in case_panels(runs, frame, curves)
        ]
    return draw(wrapped(panels), shared=False)


MODES = {
    "logits_norm": ("training mode", "C0", "C0"),
    "evaluation_logits_norm": ("evaluation mode", "C1", "none"),
}
"""Norms in the rows of untrained networks: the mode, and the colours of a marker's edge and face."""


def initial_norms(runs: Sequence[FigureRun]) -> Figure | None:
    """Norm of the logits before training, a point per seed (the paper's Figure 8).

    In training mode BatchNorm has the statistics of the images, in evaluation mode its initial running
    averages. Runs of one seed that differ in temperature start with equal weights and are one point.
    """
    groups: list[tuple[str, dict[str, list[float]]]] = []
    for case, title in cases(runs).items():
        own = of_case(runs, case)
        by_mode = {}
        for name in MODES:
            starts = {(run.seed, _at_start(run, name)) for run in own}
            by_mode[name] = sorted(norm for _, norm in starts if norm > 0)
        seeds = max(map(len, by_mode.values()))
        if seeds:
            network = title.replace(" on ", "\non ")
            groups.append((f"{network}\nn = {seeds}", by_mode))
    if not groups:
        return None
    figure = Figure(figsize=(max(3.6, min(1.6 + 1.1 * len(groups), 9)), 3.4))
    axes = figure.subplots()
    for name, (mode, edge, face) in MODES.items():
        label: str | None = mode
        for at, (_, by_mode) in enumerate(groups):
            values = by_mode[name]
            if not values:
                continue
            aside = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)
            axes.plot(
                at + aside, values, "o", color=edge, markerfacecolor=face, markersize=4, alpha=0.7,
                label=label,
            )  # fmt: skip
            axes.hlines(
                float(np.median(values)), at - 0.25, at + 0.25, color="black", linewidth=1.5
            )
            label = None
    everything = [v for _, by_mode in groups for values in by_mode.values() for v in values]
    axes.set(yscale="log", ylim=(min(everything) / 2, 2 * max(everything)))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_xticks(range(len(groups)), [name for name, _ in groups])
    axes.set_ylabel(f"{NORM}, untrained")
    return with_legend_below(figure, columns=2)


def _at_start(run: FigureRun, name: str) -> float:
    """A norm of the untrained network; NaN if not measured."""
    return next((number(r, name) for r in run.rows if r.get("step") == 0), float("nan"))
