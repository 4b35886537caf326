"""Tables, headlines and notes that targets share."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from rankdeficit import GAMMAS
from rankdeficit.correlation import Correlation
from rankdeficit.diagnostics.report import records
from rankdeficit.experiments.tables import INTERPOLATION, counted
from rankdeficit.page import Column, Table, TableCell
from rankdeficit.page.numbers import format_rank, format_share, format_spread
from real_nets.jobs.folder import RANKS, JobFolder
from real_nets.paper.chance import Cause
from real_nets.paper.compare import (
    Comparison,
    Measure,
    Pair,
    Verdict,
    agreement,
    compare,
    tally,
    values,
)
from real_nets.paper.grid import Cell
from real_nets.paper.store import Results

PLACE = [Column("data"), Column("network"), Column("condition")]
MOVES = {1: "rises", -1: "falls", 0: "unchanged"}
SIDES = ("T = 1", "low logit norm")
MISSING = TableCell("", "missing")


def place(cell: Cell) -> list[TableCell]:
    """Data set, network, condition."""
    return [TableCell(cell.data_name), TableCell(cell.network), TableCell(cell.label)]


def seeds(cells: Iterable[Cell]) -> int:
    """Number of seeds per cell, for the caption of a table."""
    return max((len(cell.keys) for cell in cells), default=0)


def measured(networks: Sequence[JobFolder], measure: Measure, usual: int) -> TableCell:
    """Median and range over networks, with their number unless it is the usual one."""
    found = values(networks, measure.value)
    return TableCell(format_spread(found, measure.form, usual), "measured") if found else MISSING


def cell_table(
    caption: str, cells: Sequence[Cell], results: Results, measures: Sequence[Measure]
) -> Table:
    """A row per cell, a column per measure."""
    n = seeds(cells)
    rows = [[*place(c), *(measured(results.outcomes(c), m, n) for m in measures)] for c in cells]
    return Table(
        f"{caption} (n = {n})", [*PLACE, *(Column(measure.name) for measure in measures)], rows
    )


def pair_table(caption: str, compared: Sequence[tuple[Pair, Sequence[Comparison]]]) -> Table:
    """A row per pair and measure: the paper's numbers, those measured, how they move, the verdict."""
    printed = any(one.measure.printed for _, own in compared for one in own)
    groups = ("paper", "measured", "difference") if printed else ("measured",)
    columns = [
        *map(Column, ("data", "network", "measure", "low logit norm at T =")),
        *(Column(side, group) for group in groups for side in SIDES),
        Column("verdict"),
    ]
    rows = []
    n = seeds(side.cell for pair, _ in compared for side in pair)
    for pair, own in compared:
        for one in own:
            cell = pair.low.cell
            numbers = {
                "paper": [_printed(one, 0), _printed(one, 1)],
                "measured": [measured(side.networks, one.measure, n) for side in pair],
                "difference": [_difference(one, 0), _difference(one, 1)],
            }
            row = [TableCell(t) for t in (cell.data_name, cell.network, one.measure.name)]
            row.append(TableCell(f"{cell.temperature:g}"))
            row += [number for group in groups for number in numbers[group]]
            rows.append([*row, verdict_cell(one)])
    return Table(f"{caption} (n = {n})", columns, rows)


def _printed(one: Comparison, side: int) -> TableCell:
    printed = one.measure.printed
    if printed is None:
        return MISSING
    number = (printed.baseline, printed.low_norm)[side]
    return TableCell(printed.form(number), "paper", printed.notes[side])


def _difference(one: Comparison, side: int) -> TableCell:
    printed, found = one.measure.printed, (one.before, one.after)[side]
    if printed is None or found is None:
        return MISSING
    number = (printed.baseline, printed.low_norm)[side]
    return TableCell(printed.difference(found.median - number), "difference")


def verdict_cell(one: Comparison) -> TableCell:
    """The direction of the change compared with the paper's; a note gives the reason for no verdict."""
    if one.no_verdict:
        cause, (cold, hot), chance = one.no_verdict
        of_chance = "" if chance is None else f" (chance: {format_share(chance)})"
        note = f"{cause.value}{of_chance}: {cold} at T = 1, {hot} at low logit norm"
        return MISSING if cause is Cause.NOT_MEASURED else TableCell("no verdict", note=note)
    expected = one.measure.expected
    moved = "open" if one.verdict is Verdict.OPEN else MOVES[one.moved]
    if one.moved and one.evidence == "single seed":
        moved += " (1 seed)"
    if one.verdict is Verdict.AGREES:
        moved += ", as in the paper"
    elif expected is not None:
        moved += f"; paper: {MOVES[expected]}"
    if not one.unequal or one.train_accuracies is None:
        return TableCell(moved)
    reached = "train accuracy {} at T = 1, {} at low logit norm"
    return TableCell(moved, note=reached.format(*map(format_share, one.train_accuracies)))


def headline(compared: Sequence[tuple[Pair, Sequence[Comparison]]]) -> list[str]:
    """Counts of the verdicts on measures for which the paper reports a direction, in one sentence."""
    counts = tally(one for _, own in compared for one in own)
    if not counts:
        return []
    pairs = counted(sum(bool(tally(own)) for _, own in compared), "network")
    words = {
        Verdict.DIFFERS: "disagree",
        Verdict.OPEN: "open (within the spread of seeds)",
        Verdict.NONE: "without a verdict",
    }
    agreeing = f"{counts.get(Verdict.AGREES, 0)} of {sum(counts.values())} directions agree"
    others = [f"{word}: {counts[verdict]}" for verdict, word in words.items() if verdict in counts]
    return ["; ".join([f"{agreeing} with the paper, in {pairs}", *others]) + "."]


def compare_all(
    pairs: Sequence[Pair], measures: Callable[[Pair], Sequence[Measure]]
) -> list[tuple[Pair, list[Comparison]]]:
    """Every pair with its comparisons."""
    return [(pair, [compare(pair, measure) for measure in measures(pair)]) for pair in pairs]


def rank_curves(cells: Sequence[Cell], results: Results) -> Table:
    """Rank of the raw and of the class-centred logits at every threshold."""
    kinds = {
        "raw logits, at γ =": "rank_curve",
        "class-centred logits, at γ =": "centred_rank_curve",
    }
    columns = [*PLACE, *(Column(f"{gamma:g}", kind) for kind in kinds for gamma in GAMMAS)]
    n, rows = seeds(cells), []
    for cell in cells:
        if found := results.outcomes(cell):
            curves = [
                measured(
                    found,
                    Measure("", lambda one, k=kind, g=gamma: one.ranks(k).get(g), format_rank),  # type: ignore[misc]
                    n,
                )
                for kind in kinds.values()
                for gamma in GAMMAS
            ]
            predicted = TableCell(str(found[0].summary["neural_collapse_rank"]))
            rows.append([*place(cell), *curves, predicted])
    return Table(
        "Rank of the logits of the train images against the threshold γ, and the class-centred rank that "
        f"Neural Collapse predicts: c − 1, or the width of the last hidden layer if smaller (n = {n})",
        [*columns, Column("Neural Collapse")],
        rows,
    )


def rank_sampling(cells: Sequence[Cell], results: Results) -> Table:
    """How far ranks of the diagnosed train logits depend on the samples; a row per cell and convention.

    Ranks of single classes and with classes weighted equally are class-centred. What no record has is
    left out.
    """
    n, rows = seeds(cells), []
    for cell in cells:
        networks = results.outcomes(cell)
        for convention, kind in RANKS.items():
            every = [one.found(f"train.rank_sampling.{kind}") for one in networks]
            known = [own for own in every if own]
            if not known:
                continue
            ends = [end for own in known for end in own["interval"]]
            settled = [own["settled_at"] for own in known]
            names = [f"{kind}.value", "samples"]
            if convention == "class-centred":
                names += ["balanced_rank", *(f"class_rank.{end}" for end in ("least", "most"))]
            numbers = [measured(networks, of_report(f"train.rank_sampling.{m}"), n) for m in names]
            told = "not yet" if None in settled else f"{max(settled):,}"
            interval = TableCell(f"{min(ends)} to {max(ends)}", "measured")
            row = [numbers[0], interval, numbers[1], TableCell(told, "measured"), *numbers[2:]]
            rows.append([*place(cell), TableCell(convention), *row, *[MISSING] * (7 - len(row))])
    titles = (
        "convention", "rank", "95 % over samples", "samples", "settled at", "classes weighted equally",
        "least of a class", "most of a class",
    )  # fmt: skip
    caption = (
        "Ranks of the diagnosed train logits over samples: bootstrap intervals (lowest to highest end "
        "over seeds), and the samples from which on the rank is that of all (of the seed that needs "
        f"most; n = {n})"
    )
    return Table(caption, [*PLACE, *map(Column, titles)], rows)


def of_report(name: str) -> Measure:
    """A rank or count in the report by its dotted name."""
    return Measure(name, lambda one: one.measure(name), format_rank)


def correlation_table(
    caption: str, found: Mapping[tuple[str, ...], Correlation | None], of: Sequence[str]
) -> Table:
    """A row per group of points with a correlation. of: headings of the groups' names."""
    rows = []
    for names, one in found.items():
        if one is not None:
            numbers = (f"{one.rho:.2f}", f"{one.p:.2g}", str(one.n))
            rows.append([TableCell(t) for t in (*names, *numbers, agreement(one).value)])
    titles = (*of, "Spearman's correlation", "p", "n", "verdict (paper: positive)")
    return Table(caption, list(map(Column, titles)), rows)


def accuracies(cells: Sequence[Cell], results: Results) -> list[str]:
    """Notes on networks that do not interpolate, stalled, diverged or are unfinished."""
    lowest: dict[str, list[str]] = {}
    for cell in cells:
        found = values(results.outcomes(cell), lambda one: one.train_accuracy)
        if found and min(found) < INTERPOLATION:
            lowest.setdefault(cell.where, []).append(f"{min(found):.2%} ({cell.label})")
    stalled = _counted(cells, results, lambda one: (one.summary["outcome"] == "stalled", 1))
    notes = {
        "Not interpolating, which Neural Collapse and its ranks suppose (lowest train accuracy over "
        f"seeds, below {INTERPOLATION:.1%})": lowest,
        "Stalled: the loss ends within 1 % of that of uniform predictions": stalled,
    }
    return [f"{what}: {_listed(own)}." for what, own in notes.items() if own] + unfinished(
        cells, results
    )


def of_probes(cells: Sequence[Cell], results: Results) -> list[str]:
    """The notes of `accuracies`, and one on linear probes that did not converge."""

    def stopped(one: JobFolder) -> tuple[int, int]:
        fitted = records.probes(one.report) if one.report else []
        return sum(not probe["converged"] for probe in fitted), len(fitted)

    found = _counted(cells, results, stopped)
    notes = [f"Linear probes that stopped before convergence: {_listed(found)}."] if found else []
    return accuracies(cells, results) + notes


def unfinished(cells: Sequence[Cell], results: Results) -> list[str]:
    """Notes on networks that diverged or are not trained yet."""
    notes: list[str] = []
    missing: dict[str, list[str]] = {}
    for cell in cells:
        diverged = results.diverged(cell)
        notes += [f"Diverged: {cell.where}, {cell.label}. {message}." for message in diverged]
        count = len(cell.keys) - len(results.outcomes(cell)) - len(diverged)
        if count:
            missing.setdefault(cell.where, []).append(f"{count} of {len(cell.keys)} ({cell.label})")
    return notes + ([f"Not trained yet: {_listed(missing)}."] if missing else [])


def _counted(
    cells: Sequence[Cell], results: Results, count: Callable[[JobFolder], tuple[int, int]]
) -> dict[str, list[str]]:
    """Texts "some of all (cell)" by network and data, for cells with a non-zero count."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        counts = list(map(count, results.outcomes(cell)))
        if some := sum(own for own, _ in counts):
            text = f"{some} of {sum(whole for _, whole in counts)} ({cell.label})"
            found.setdefault(cell.where, []).append(text)
    return found


def _listed(found: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{name}: {', '.join(texts)}" for name, texts in found.items())
