"""Initial norms and final ranks, beside the curve that temperature alone gives."""

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from rankdeficit.experiments import figure_style, tables
from rankdeficit.experiments.settings import Row

FAR_BELOW = 1e-3
"""Initial norms below this are drawn at the left edge, with a note."""
OFF_CURVE = 0.15
"""Interventions whose rank differs from the curve by a larger share are named in the figure."""


def report(summary: Row) -> tuple[Table, list[str]]:
    """Initial norm and final rank of every intervention, by initial norm."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians over {tables.counted(summary['seeds'], 'seed')}, ranges in brackets; "
        f"c = {summary['classes']}, gamma = {summary['gamma']:g}. "
        "Ranks of the logits as they are (raw) and class-centred. By norm: the raw rank that "
        "temperature alone gives at the same initial effective norm. Hidden: rank of the last hidden "
        "layer. Interp.: runs at 100 % train accuracy.",
        caption_justify="left",
    )
    left = ("family", "change")
    for name in (
        *left,
        "norm at start",
        "norm at end",
        "raw rank",
        "centred",
        "by norm",
        "hidden",
        "interp.",
    ):
        table.add_column(name, justify="left" if name in left else "right")
    for cell in sorted(summary["cells"], key=lambda cell: cell["initial_effective_norm"]):
        lost, by_norm = cell["rank"] is None, cell["predicted_rank"]
        table.add_row(
            cell["family"],
            cell["name"],
            f"{cell['initial_effective_norm']:.3g}",
            "-" if lost else f"{cell['final_effective_norm']:.3g}",
            tables.spread(_ranks(summary, cell, "rank")),
            tables.spread(_ranks(summary, cell, "centred_rank")),
            "-" if by_norm is None else f"{by_norm:.0f}",
            "-" if lost else f"{cell['hidden_rank']:g}",
            f"{cell['interpolated']}/{cell['runs']}",
        )
    sentences = [
        f"Initial norm and final rank, {name}: Spearman's rho {c['rho']:.2f} (p = {c['p']:.1g}, "
        f"{c['n']} interventions that interpolate with every seed)."
        for name, c in summary["correlations"].items()
    ]
    left_out = [c["name"] for c in summary["cells"] if c["interpolated"] < c["runs"]]
    if left_out:
        sentences.append(f"Left out, as not all seeds interpolate: {', '.join(left_out)}.")
    return table, sentences


def _ranks(summary: Row, cell: Row, name: str) -> list[int]:
    """Ranks of the runs of an intervention that did not diverge."""
    own = [run for run in summary["runs"] if run["name"] == cell["name"]]
    return [run[name] for run in own if run["loss"] is not None]


def draw_ranks(summary: Row) -> Figure:
    """Final rank against initial effective norm; dashed: what temperature alone gives."""
    figure = Figure(figsize=(6.4, 5.0))
    axes = figure.subplots()
    families = list(dict.fromkeys(cell["family"] for cell in summary["cells"]))
    markers = "osv^D<>P"
    norms_shown = [max(c["initial_effective_norm"], FAR_BELOW) for c in summary["cells"]]
    least = min(norms_shown)
    for number, family in enumerate(families):
        own = [c for c in summary["cells"] if c["family"] == family and c["rank"] is not None]
        x = [max(cell["initial_effective_norm"], least) for cell in own]
        y = [cell["rank"] for cell in own]
        spread = [
            [cell["rank"] - cell["rank_range"][0] for cell in own],
            [cell["rank_range"][1] - cell["rank"] for cell in own],
        ]
        settled = [cell["interpolated"] == cell["runs"] for cell in own]
        colour = "black" if family == summary["curve_family"] else f"C{number}"
        axes.errorbar(x, y, spread, fmt="none", ecolor=colour, elinewidth=0.8)
        for full in (True, False):
            keep = [i for i, value in enumerate(settled) if value == full]
            axes.plot(
                [x[i] for i in keep], [y[i] for i in keep], markers[number % len(markers)],
                color=colour, ms=5, fillstyle="full" if full else "none",
                label=family if full else None,
            )  # fmt: skip
    if summary["curve"]:
        norms, ranks = zip(*summary["curve"], strict=True)
        axes.plot(norms, ranks, "--", color="black", linewidth=1, label="by temperature alone")
    predicted = summary["neural_collapse_rank"]
    label = f"Neural Collapse: {predicted}"
    axes.axhline(predicted, color="black", linestyle="--", linewidth=1, label=label)
    axes.plot([], [], "o", color="0.5", fillstyle="none", label="not all seeds interpolate")
    for number, cell in enumerate(c for c in summary["cells"] if _note(c)):
        at = (max(cell["initial_effective_norm"], least), cell["rank"])
        side, ha = (6, "left") if cell["initial_effective_norm"] < least else (-5, "right")
        offset = (side, -10 if number % 2 else 4)
        axes.annotate(_note(cell), at, xytext=offset, textcoords="offset points", fontsize=7, ha=ha)
    axes.set_xlabel(r"initial effective logits norm $\|M\|_F/(\sqrt{n}\,T)$")
    figure_style.set_log_scale(axes, "x")
    axes.set_ylabel(f"final rank of the logits, γ = {summary['gamma']:g}")
    axes.margins(x=0.12)
    return figure_style.with_legend_below(figure, columns=3)


def _note(cell: Row) -> str:
    """The name of an intervention whose rank is not the one its norm would give."""
    norm, rank, by_norm = cell["initial_effective_norm"], cell["rank"], cell["predicted_rank"]
    if rank is not None and norm < FAR_BELOW:
        return f"{cell['name']} (norm {norm:.0e})"
    if rank is not None and by_norm is not None and abs(rank - by_norm) > OFF_CURVE * by_norm:
        return str(cell["name"])
    return ""
