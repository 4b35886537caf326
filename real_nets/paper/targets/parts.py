"""Tables and sentences that several targets show."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from rankdeficit import GAMMAS
from rankdeficit.diagnostics.report import records
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.run import INTERPOLATION
from real_nets.page import Column, Table, TableCell
from real_nets.page.numbers import rank, share, spread
from real_nets.paper import numbers as paper
from real_nets.paper.grid import BASELINE, DATASETS, LOW_NORM
from real_nets.paper.grid import Cell as Place
from real_nets.paper.store import Results, groups

Measure = Callable[[JobFolder], float | None]

COARSE = "0.01"
"""Threshold at which ranks of hidden layers tell networks apart on ten classes."""


def claim(exhibit: str) -> str:
    """What the paper says of one of its tables and figures."""
    return f"The paper's claim: {paper.exhibit(exhibit).claim}"


def values(outcomes: Sequence[JobFolder], measure: Measure) -> list[float]:
    """The measure of all networks that have it."""
    found = [measure(one) for one in outcomes]
    return [float(value) for value in found if value is not None]


def ortho_dev(ood: str) -> Measure:
    """OrthoDev on an out-of-distribution set, of the diagnosis."""

    def measure(one: JobFolder) -> float | None:
        found = (one.report or {}).get("ortho_dev", {}).get(ood)
        return None if found is None else float(found)

    return measure


def hidden_rank(one: JobFolder) -> float | None:
    """Rank of the layer before the classifier on all train images, at a coarse threshold."""
    ranks = (one.summary.get("train_layer_ranks") or {}).get(COARSE)
    return float(ranks[-2]) if ranks and len(ranks) > 1 else None


def initial_norm(one: JobFolder) -> float | None:
    """Norm of the logits of the untrained network over T."""
    found: float | None = one.rows[0]["effective_logits_norm"] if one.rows else None
    return found


def measured(
    outcomes: Sequence[JobFolder],
    measure: Measure,
    form: Callable[[float], str],
    note: str | None = None,
) -> TableCell:
    """Median, range and number of networks."""
    found = values(outcomes, measure)
    return TableCell(spread(found, form), "measured", note) if found else TableCell("", "missing")


def difference(
    outcomes: Sequence[JobFolder],
    measure: Measure,
    paper: float | None,
    form: Callable[[float], str],
) -> TableCell:
    """Median less the paper's number."""
    found = values(outcomes, measure)
    if not found or paper is None:
        return TableCell("", "missing")
    return TableCell(form(median(found) - paper), "difference")


def place(cell: Place) -> list[TableCell]:
    """Data set, network, condition."""
    return [TableCell(data_name(cell)), TableCell(cell.network), TableCell(condition(cell))]


def condition(cell: Place) -> str:
    """With the temperature, which no line is to break."""
    return f"{cell.condition}, T\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{cell.temperature:g}"


def data_name(cell: Place) -> str:
    """The paper's data set, or what stands for it: "glyphs:50 for CIFAR-10"."""
    return cell.dataset if same_data(cell) else f"{cell.data} for {cell.dataset}"


def where(cell: Place) -> str:
    """Network and data."""
    return f"{cell.network} on {data_name(cell)}"


def same_data(cell: Place) -> bool:
    """Whether a cell was filled with the paper's data set."""
    return cell.data == DATASETS.get(cell.dataset, cell.dataset)


PLACE = [Column("data"), Column("network"), Column("condition")]


def rank_curves(cells: Sequence[Place], results: Results) -> Table:
    """Rank of the logits at every threshold, as they are and centred over classes."""
    columns = [
        *PLACE,
        *(Column(f"{gamma:g}", "rank of the logits at γ =") for gamma in GAMMAS),
        *(Column(f"{gamma:g}", "centred over classes, at γ =") for gamma in GAMMAS),
        Column("Neural Collapse"),
    ]
    rows = []
    for cell in cells:
        outcomes = results.outcomes(cell)
        if outcomes:
            curves = [
                measured(outcomes, lambda one, k=kind, g=gamma: one.ranks(k).get(g), rank)  # type: ignore[misc]
                for kind in ("rank_curve", "centred_rank_curve")
                for gamma in GAMMAS
            ]
            predicted = TableCell(str(outcomes[0].summary["neural_collapse_rank"]))
            rows.append([*place(cell), *curves, predicted])
    return Table(
        "Rank of the logits of the train images over the threshold γ, and the rank that Neural Collapse "
        "predicts: c − 1, or the width of the layer before where that is less",
        columns,
        rows,
    )


def at(outcomes: Sequence[JobFolder], snapshot: str | None) -> list[JobFolder]:
    """The same networks at another time, as far as they were diagnosed then."""
    if snapshot is None:
        return list(outcomes)
    moved = [one.at(snapshot) for one in outcomes]
    return [one for one in moved if one.report is not None]


def accuracies(cells: Sequence[Place], results: Results) -> list[str]:
    """Which networks do not interpolate, stalled, diverged, or are missing; a sentence for each kind."""
    lacking: dict[str, list[str]] = {}
    stalled: dict[str, list[str]] = {}
    for cell in cells:
        outcomes = results.outcomes(cell)
        found = values(outcomes, lambda one: one.train_accuracy)
        if found and min(found) < INTERPOLATION:
            told = f"{share(min(found))} ({condition(cell)})"
            lacking.setdefault(where(cell), []).append(told)
        count = sum(one.summary["outcome"] == "stalled" for one in outcomes)
        if count:
            told = f"{count} of {len(outcomes)} ({condition(cell)})"
            stalled.setdefault(where(cell), []).append(told)
    sentences = {
        "Neural Collapse, and the ranks it predicts, suppose networks that interpolate. These do not "
        f"(train accuracy below {INTERPOLATION:.1%}; the lowest over seeds)": lacking,
        "The loss of these networks ends within 1 % of that of uniform predictions. They need more steps "
        "or a higher learning rate, unless what bounds their logits over T keeps it there": stalled,
    }
    said = [f"{what}: {_listed(which)}." for what, which in sentences.items() if which]
    return said + unfinished(cells, results)


def of_probes(cells: Sequence[Place], results: Results) -> list[str]:
    """The same, and which linear probes did not converge, where numbers come from these."""
    stopped: dict[str, list[str]] = {}
    for cell in cells:
        reports = [one.report for one in results.outcomes(cell) if one.report]
        fitted = [probe for report in reports for probe in records.probes(report)]
        count = sum(not probe["converged"] for probe in fitted)
        if count:
            told = f"{count} of {len(fitted)} ({condition(cell)})"
            stopped.setdefault(where(cell), []).append(told)
    said = accuracies(cells, results)
    if stopped:
        said.append(
            "Linear probes that stopped before they converged, so that their accuracies may be off: "
            f"{_listed(stopped)}."
        )
    return said


def unfinished(cells: Sequence[Place], results: Results) -> list[str]:
    """Which networks diverged or are not trained yet."""
    said = []
    missing: dict[str, list[str]] = {}
    for cell in cells:
        diverged = results.diverged(cell)
        said += [f"Diverged: {where(cell)}, {condition(cell)}. {message}." for message in diverged]
        count = len(cell.keys) - len(results.outcomes(cell)) - len(diverged)
        if count:
            told = f"{count} of {len(cell.keys)} ({condition(cell)})"
            missing.setdefault(where(cell), []).append(told)
    return said + ([f"Not trained yet: {_listed(missing)}."] if missing else [])


def _listed(found: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{name}: {', '.join(told)}" for name, told in found.items())


def pairs(cells: Sequence[Place]) -> list[tuple[Place, Place]]:
    """(baseline, low logit norm) of every data set and network that has both."""
    found = []
    for same in groups(cells).values():
        by_condition = {cell.condition: cell for cell in same}
        if BASELINE in by_condition and LOW_NORM in by_condition:
            found.append((by_condition[BASELINE], by_condition[LOW_NORM]))
    return found


def equal_accuracy(cells: Sequence[Place], results: Results) -> dict[str, list[Place]]:
    """Pairs by the weights at which to compare them, those of the highest milestone that all reached."""
    found: dict[str, list[Place]] = {}
    for pair in pairs(cells):
        snapshot = results.common_milestone(pair) if all(map(results.outcomes, pair)) else None
        if snapshot is not None:
            found.setdefault(snapshot, []).extend(pair)
    return dict(sorted(found.items()))


def at_equal_accuracy(
    cells: Sequence[Place],
    results: Results,
    table: Callable[[str, Sequence[Place], Results, str], Table],
    sentences: Callable[[Sequence[Place], Results, str], list[str]],
) -> tuple[list[Table], list[str]]:
    """Tables and sentences on the pairs at equal train accuracy, as far as they were diagnosed then."""
    tables, said = [], []
    for snapshot, same in equal_accuracy(cells, results).items():
        reached = f"{100 * float(snapshot.removeprefix('accuracy-')):g}%"
        caption = f"At equal train accuracy: after the epoch that first reached {reached}"
        shown = table(caption, same, results, snapshot)
        tables += [shown] if shown.rows else []
        said += [
            f"At equal train accuracy ({reached}), {sentence}"
            for sentence in sentences(same, results, snapshot)
        ]
    return tables, said
