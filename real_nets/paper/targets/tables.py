"""The paper's tables."""

from collections.abc import Sequence
from typing import Any

from rankdeficit.diagnostics import effective_depth
from rankdeficit.spectrum import GAMMA
from real_nets.jobs.folder import JobFolder
from real_nets.page import Column, Picture, Section, Table, TableCell
from real_nets.page.figures import rank_over_gamma
from real_nets.page.numbers import percentage_points, rank, ranks, share
from real_nets.paper import numbers as paper
from real_nets.paper.chance import (
    Side,
    no_verdict_on_depth,
    no_verdict_on_drop,
    probed_anywhere,
)
from real_nets.paper.compare import Moves, move, pair_sentences, sign
from real_nets.paper.grid import BASELINE, LOW_NORM, Setup
from real_nets.paper.grid import Cell as Place
from real_nets.paper.store import Results
from real_nets.paper.targets.detection import all_variants, detection_sentences, detections
from real_nets.paper.targets.parts import (
    PLACE,
    Measure,
    accuracies,
    at,
    at_equal_accuracy,
    claim,
    difference,
    measured,
    of_probes,
    place,
    rank_curves,
)
from real_nets.paper.targets.target import Target, first_ood, register, runs

CAPTION = "κ: effective depth; ρ: OOD generalisation drop; SR: numerical rank of the logits"


class Representations(Target):
    """kappa, rho and SR of baseline and low logit norm, for some rows of the paper."""

    exhibit: str
    rows: tuple[paper.Comparison, ...]
    compared = True

    def cells(self, setup: Setup) -> list[Place]:
        """Both conditions of every row."""
        return [cell for row in self.rows for cell in setup.pair(row.data, row.architecture)]

    def section(
        self, cells: Sequence[Place], results: Results, computed: dict[str, Any]
    ) -> Section:
        """Paper, measured and difference; over gamma; at equal train accuracy."""
        equal, equally = at_equal_accuracy(cells, results, representations, sentences)
        tables = [
            representations(CAPTION, cells, results),
            rank_curves(cells, results),
            depths_by_bar(cells, results),
            *equal,
        ]
        said = [claim(self.exhibit), *sentences(cells, results), *equally]
        figure = rank_over_gamma(runs(cells, results))
        pictures = []
        if figure is not None:
            caption = "Rank of the logits over the threshold γ, diagnosed train images."
            alt = "Rank of the logits against gamma, a line per temperature and network."
            pictures = [Picture(figure, caption, alt)]
        return Section(self.name, self.title, said, tables, pictures, of_probes(cells, results))


@register
class Table1(Representations):
    """MLP and ResNets."""

    name, exhibit = "table1", "Table 1"
    title = "Table 1: effective depth, OOD drop and rank of the logits"
    about = "κ, ρ and rank of nine networks, baseline and low logit norm, beside the paper's"
    rows = paper.TABLE_1


@register
class Table2(Target):
    """NECO between CIFAR-100 and CIFAR-10."""

    name = "table2"
    title = "Table 2: OOD detection by NECO"
    about = "AUROC and false positives of NECO between CIFAR-100 and CIFAR-10, beside the paper's"
    compared = True

    def cells(self, setup: Setup) -> list[Place]:
        """Both conditions of every network on every data set."""
        names = dict.fromkeys((row.data, row.architecture) for row in paper.TABLE_2)
        return [cell for data, network in names for cell in setup.pair(data, network)]

    def section(
        self, cells: Sequence[Place], results: Results, computed: dict[str, Any]
    ) -> Section:
        """AUROC and FPR, the paper's and measured; all detectors; at equal train accuracy."""
        equal, equally = at_equal_accuracy(cells, results, detections, detection_sentences)
        caption = "NECO: AUROC, and false positives at 95 % true positives"
        tables = [detections(caption, cells, results), all_variants(cells, results), *equal]
        said = [claim("Table 2"), *detection_sentences(cells, results), *equally]
        return Section(self.name, self.title, said, tables, [], accuracies(cells, results))


@register
class Table3(Representations):
    """VGG-19."""

    name, exhibit = "table3", "Table 3"
    title = "Table 3: VGG-19"
    about = "the measures of Table 1 for VGG-19"
    rows = paper.TABLE_3


def representations(
    caption: str, cells: Sequence[Place], results: Results, snapshot: str | None = None
) -> Table:
    """kappa, rho and SR: the paper's, measured, and the difference."""
    columns = [
        *PLACE,
        *(
            Column(name, group)
            for group in ("paper", "measured", "difference")
            for name in ("κ", "ρ", "SR")
        ),
        Column("train", "accuracy"),
        Column("test", "accuracy"),
    ]
    rows = []
    for cell in cells:
        outcomes = at(results.outcomes(cell), snapshot)
        if outcomes or snapshot is None:
            rows.append([*place(cell), *_representation(cell, outcomes)])
    return Table(caption, columns, rows)


def _representation(cell: Place, outcomes: Sequence[JobFolder]) -> list[TableCell]:
    theirs = _printed(cell)
    printed = [TableCell("", "missing")] * 3
    if theirs is not None:
        dagger = "bounded by the width of the classifier" if theirs.bounded_by_classifier else None
        printed = [
            TableCell(share(theirs.effective_depth, 0), "paper"),
            TableCell(share(theirs.ood_drop, 0), "paper"),
            TableCell(str(theirs.rank), "paper", dagger),
        ]
    ood = first_ood(outcomes)
    drop = _drop(ood)
    return [
        *printed,
        measured(outcomes, _depth, share),
        measured(outcomes, drop, share, note=f"out of distribution: {ood}"),
        measured(outcomes, _rank, rank, note=_threshold(outcomes)),
        difference(outcomes, _depth, theirs.effective_depth if theirs else None, percentage_points),
        difference(outcomes, drop, theirs.ood_drop if theirs else None, percentage_points),
        difference(outcomes, _rank, float(theirs.rank) if theirs else None, ranks),
        measured(outcomes, lambda one: one.train_accuracy, share),
        measured(outcomes, lambda one: one.test_accuracy, share),
    ]


def _threshold(outcomes: Sequence[JobFolder]) -> str | None:
    """Of the rank, where it is not the usual one."""
    found = sorted({one.job.gamma for one in outcomes} - {GAMMA})
    return f"at γ = {', '.join(f'{gamma:g}' for gamma in found)}" if found else None


def depths_by_bar(cells: Sequence[Place], results: Results) -> Table:
    """kappa against the last layer's probe, as the paper has it, and against the best one's."""
    measures: dict[str, Measure] = {
        "κ: 99 % of the last layer's": _depth,
        "κ: 99 % of the best layer's": _depth_of_best,
        "the last layer's over the best one's": _last_over_best,
    }
    columns = [*PLACE, *map(Column, measures)]
    rows = [
        [
            *place(cell),
            *(measured(results.outcomes(cell), measure, share) for measure in measures.values()),
        ]
        for cell in cells
    ]
    caption = (
        "Effective depth by its bar, the accuracy of a layer's probe on test images. Where late layers "
        "lose accuracy, κ falls because its bar does"
    )
    return Table(caption, columns, rows)


def _printed(cell: Place) -> paper.Representation | None:
    known = paper.comparison(cell.network, cell.dataset)
    if known is None or cell.condition not in (BASELINE, LOW_NORM):
        return None
    return known.baseline if cell.condition == BASELINE else known.low_norm


def _depth(one: JobFolder) -> float | None:
    return one.effective_depth


def _depth_of_best(one: JobFolder) -> float | None:
    accuracies = one.probe_accuracies
    return None if accuracies is None else float(effective_depth(accuracies, bar="best"))


def _last_over_best(one: JobFolder) -> float | None:
    accuracies = one.probe_accuracies
    if accuracies is None or not accuracies.max():
        return None
    return float(accuracies[-1] / accuracies.max())


def _drop(ood: str | None) -> Measure:
    return lambda one: one.ood_drop(ood) if ood else None


def _rank(one: JobFolder) -> float | None:
    return one.rank


def sentences(cells: Sequence[Place], results: Results, snapshot: str | None = None) -> list[str]:
    """How kappa, rho and the rank move, and how they do in the paper, pair by pair."""
    return pair_sentences(cells, results, _moves, snapshot)


def _moves(baseline: Side, low: Side) -> Moves:
    cell, cold = baseline
    expected = _directions(cell, cold)[2]
    return [
        *depth_moves(baseline, low),
        drop_move(baseline, low, first_ood(cold)),
        move(baseline, low, "the rank", _rank, expected, rank),
    ]


def depth_moves(baseline: Side, low: Side) -> Moves:
    """How kappa moves against the last layer's probe, and against the best one's where that differs.

    The paper has the first alone: of the second it says nothing.
    """
    (cell, cold), (_, hot) = baseline, low
    expected = _directions(cell, cold)[0]
    by_last = move(baseline, low, "κ", _depth, expected, share)
    found = [no_verdict_on_depth(baseline, low) or by_last]
    both = (*cold, *hot)
    if any(_depth(one) != _depth_of_best(one) for one in both) and all(map(probed_anywhere, both)):
        what = "κ against the best layer's probe"
        found.append(move(baseline, low, what, _depth_of_best, None, share))
    return found


def drop_move(baseline: Side, low: Side, ood: str | None) -> str | None:
    """How rho of an OOD set moves."""
    expected = _directions(*baseline)[1]
    found = move(baseline, low, f"ρ ({ood})", _drop(ood), expected, share)
    return found and (no_verdict_on_drop(ood or "", baseline, low) or found)


def _directions(cell: Place, outcomes: Sequence[JobFolder]) -> tuple[int, int, int | None]:
    """Where kappa, rho and the rank go in the paper, from its numbers of this network on these data.

    Of the rank nothing is known where there are other numbers of classes than in the paper's data.
    """
    known = paper.comparison(cell.network, cell.dataset)
    if known is None:
        return -1, 1, None
    cold, hot = known.baseline, known.low_norm
    alike = all(one.summary["classes"] == paper.CLASSES[cell.dataset] for one in outcomes)
    return (
        sign(hot.effective_depth - cold.effective_depth),
        sign(hot.ood_drop - cold.ood_drop),
        sign(float(hot.rank - cold.rank)) if alike else None,
    )
