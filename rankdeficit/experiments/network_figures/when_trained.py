"""Figures of trained networks, drawn from their reports."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rankdeficit.diagnostics.report import records
from rankdeficit.experiments.figure_style import with_legend_below
from rankdeficit.experiments.network_figures.runs import (
    Case,
    FigureRun,
    case_panels,
    cases,
    neural_collapse,
    number,
    over_layers,
    temperature_grid,
)
from rankdeficit.experiments.panels import (
    MARKERS,
    PANEL_HEIGHT,
    Curve,
    Frame,
    Look,
    Panel,
    Points,
    Rule,
    draw,
    figure_width,
    finite,
    from_zero,
    from_zero_to_one,
    in_percent,
    layer_axis,
    looks,
    rank_axis,
    wrapped,
)
from rankdeficit.page.numbers import format_share

Generalisation = Literal["ood_drop", "last_probe"]

GENERALISATION: dict[Generalisation, str] = {
    "ood_drop": "OOD drop ρ",
    "last_probe": "accuracy of the last layer's OOD probe",
}


def probe_accuracies(runs: Sequence[FigureRun]) -> Figure | None:
    """Accuracy of linear probes by layer, ID and OOD, with effective depth (the paper's Figure 1)."""
    scales = [from_zero_to_one, lambda axes: in_percent(axes.yaxis), layer_axis]
    frame = Frame("layer", "accuracy of linear probes", scales)
    names = sorted({name for report in _reports(runs) for name in records.ood_sets(report)})

    def panel(own: list[FigureRun], title: str, look: Look) -> Panel:
        curves = [Curve(over_layers(own, "probe", "accuracy"), "ID", Look("C0", "o"), every=None)]
        for i, name in enumerate(names, start=1):
            look = Look(f"C{i}", MARKERS[i % len(MARKERS)])
            points = over_layers(own, "ood_probes", name, "accuracy")
            curves.append(Curve(points, f"OOD: {name}", look, "--", every=None))
        depth = _median(own, "effective_depth", "value")
        drops = {name: _median(own, "ood_drop", name, "value") for name in names}
        titles = [title if depth is None else f"{title}, κ = {format_share(depth)}"]
        titles += [
            f"{name}: ρ = {format_share(drop)}" for name, drop in drops.items() if drop is not None
        ]
        rules = [
            Rule(depth * len(report["layers"]), "effective depth κ", vertical=True, line=":")
            for report in _reports(own)[:1]
            if depth is not None
        ]
        return Panel("\n".join(titles), frame, curves, rules=rules)

    return draw(temperature_grid(runs, panel))


def layer_and_gradient_ranks(runs: Sequence[FigureRun]) -> Figure | None:
    """Rank of each layer's gradient beside that of its input, its bound (the paper's Figure 4)."""
    gammas = sorted({report["conditions"]["gamma"] for report in _reports(runs)})
    thresholds = ", ".join(f"{gamma:g}" for gamma in gammas)
    frame = Frame("layer", f"numerical rank, γ = {thresholds}", [rank_axis, layer_axis])

    def panel(own: list[FigureRun], title: str, look: Look) -> Panel:
        inputs, gradients = (over_layers(own, name, "rank") for name in ("input", "gradient"))
        curves = [
            Curve(inputs, "layer's input", Look("C1", "s"), "--", every=None),
            Curve(gradients, "gradient of the loss", Look("C0", "o"), every=None),
        ]
        return Panel(title, frame, curves if gradients else [])

    return draw(temperature_grid(runs, panel))


def layer_alignments(runs: Sequence[FigureRun]) -> Figure | None:
    """Alignment of each layer's weight with its input after training (the paper's Appendix B).

    Read from the report, or from the last measurement in training if there is none in the report.
    """

    def curves(own: list[FigureRun], label: str, look: Look) -> list[Curve]:
        points = [
            point
            for run in own
            for point in over_layers([run], "alignment") or _last_alignments(run)
        ]
        return [Curve(points, label, look, every=None)]

    frame = Frame("layer", "alignment of weight and input", [from_zero_to_one, layer_axis])
    return draw(wrapped(case_panels(runs, frame, curves)))


def rank_over_gamma(runs: Sequence[FigureRun]) -> Figure | None:
    """Rank of the train logits against gamma; dashed: the class-centred rank of Neural Collapse."""

    def gamma_axis(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))

    def curves(own: list[FigureRun], label: str, look: Look) -> list[Curve]:
        def points(kind: str) -> Points:
            return [
                (gamma, float(rank))
                for report in _reports(own)
                for gamma, rank in records.rank_over_gamma(
                    report, report["train"]["logits"], kind
                ).items()
            ]

        return [
            Curve(points("centred_rank"), f"{label}, class-centred", look, every=None),
            Curve(points("rank"), f"{label}, raw", look, ":", every=None),
        ]

    frame = Frame("threshold γ", "rank of the logits", [gamma_axis, from_zero])
    return draw(wrapped(case_panels(runs, frame, curves, neural_collapse)), shared=False)


class TradeOffPoint(NamedTuple):
    """Generalisation of a network to an OOD data set, and its detection by NECO."""

    network: str
    """Title of its case."""
    temperature: float
    seed: int
    ood: str
    ood_drop: float
    """OOD drop rho."""
    last_probe: float
    """Accuracy of the last layer's OOD probe."""
    auroc: float
    """AUROC of NECO in the variant for this kind of network."""


def trade_off_points(runs: Sequence[FigureRun]) -> list[TradeOffPoint]:
    """A point per run and OOD data set with all three measures."""
    points, titles = [], cases(runs)
    for run in runs:
        if run.report is None:
            continue
        neco = records.default_neco(run.report)
        for name in records.ood_sets(run.report):
            drop = number(run.report, "ood_drop", name, "value")
            last = number(run.report, "layers", -1, "ood_probes", name, "accuracy")
            auroc = number(run.report, "detection", name, neco, "auroc")
            if all(map(math.isfinite, (drop, last, auroc))):
                network = titles[Case.of(run)]
                point = TradeOffPoint(network, run.temperature, run.seed, name, drop, last, auroc)
                points.append(point)
    return points


def trade_off(
    runs: Sequence[FigureRun],
    measure: Generalisation = "ood_drop",
    correlations: Mapping[str, str] | None = None,
) -> Figure | None:
    """Detection of OOD data by NECO against generalisation to them (the paper's Appendix M).

    A panel per OOD data set, a marker per network, a colour per temperature. correlations: text on the
    correlation for the title of a panel, by OOD data set.
    """
    points, colours = trade_off_points(runs), looks(run.temperature for run in runs)
    names = sorted({point.ood for point in points})
    networks = list(dict.fromkeys(point.network for point in points))
    if not points:
        return None
    figure = Figure(figsize=(figure_width(len(names)), 1.1 + 1.1 * PANEL_HEIGHT))
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for point in (point for point in points if point.ood == name):
            marker = MARKERS[networks.index(point.network) % len(MARKERS)]
            colour = colours[point.temperature].colour
            x = getattr(point, measure)
            axes.plot(x, point.auroc, marker, color=colour, markersize=6, alpha=0.8)
        titles = filter(None, (f"OOD: {name}", (correlations or {}).get(name)))
        axes.set_title("\n".join(titles))
        axes.set_xlabel(GENERALISATION[measure])
        axes.set_ylabel("AUROC of NECO")
        axes.margins(0.1)
        in_percent(axes.xaxis)
        in_percent(axes.yaxis)
    for i, network in enumerate(networks):
        axes.plot([], [], MARKERS[i % len(MARKERS)], color="0.4", label=network)
    for temperature, look in colours.items():
        axes.plot([], [], color=look.colour, linewidth=5, label=f"T = {temperature:g}")
    return with_legend_below(figure, columns=4)


def _reports(runs: Iterable[FigureRun]) -> list[records.Row]:
    return [run.report for run in runs if run.report]


def _median(runs: Iterable[FigureRun], *keys: str) -> float | None:
    values = finite((number(run.report, *keys), 0.0) for run in runs)
    return median(value for value, _ in values) if values else None


def _last_alignments(run: FigureRun) -> Points:
    measured = [row["layer_alignments"] for row in run.rows if row.get("layer_alignments")]
    layers = measured[-1] if measured else []
    return finite((float(i), number(value)) for i, value in enumerate(layers, start=1))
