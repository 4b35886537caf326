"""Tables and sentences on the detection of out-of-distribution images."""

from collections.abc import Sequence

from real_nets.jobs.folder import JobFolder
from real_nets.page import Column, Table, TableCell
from real_nets.page.numbers import percentage_points, rate
from real_nets.paper import numbers as paper
from real_nets.paper.chance import Side
from real_nets.paper.compare import Moves, move, pair_sentences
from real_nets.paper.grid import BASELINE, DATASETS, LOW_NORM
from real_nets.paper.grid import Cell as Place
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import (
    PLACE,
    Measure,
    at,
    difference,
    measured,
    place,
)

OTHER = {"CIFAR-10": "CIFAR-100", "CIFAR-100": "CIFAR-10"}
"""Out-of-distribution data of the paper's Table 2."""


def detections(
    caption: str, cells: Sequence[Place], results: Results, snapshot: str | None = None
) -> Table:
    """AUROC and FPR of NECO as its authors have it for each network."""
    columns = [
        *PLACE,
        Column("OOD"),
        *(
            Column(name, group)
            for group in ("paper", "measured", "difference")
            for name in ("AUROC", "FPR")
        ),
    ]
    rows = []
    for cell in cells:
        outcomes = at(results.outcomes(cell), snapshot)
        sets = outcomes[0].job.ood if outcomes else []
        if not sets and snapshot is None:
            sets = [""]  # the paper's numbers are shown at any rate
        rows += [[*place(cell), TableCell(ood), *_detection(cell, outcomes, ood)] for ood in sets]
    return Table(caption, columns, rows)


def detection_sentences(
    cells: Sequence[Place], results: Results, snapshot: str | None = None
) -> list[str]:
    """How AUROC and FPR move, and how they do in the paper, for every pair and OOD set."""
    return pair_sentences(cells, results, _moves, snapshot)


def _moves(baseline: Side, low: Side) -> Moves:
    _, cold = baseline
    return [
        move(baseline, low, f"{what} ({ood})", _neco(ood, measure), expected, rate)
        for ood in (cold[0].job.ood if cold else [])
        for what, measure, expected in (
            ("the AUROC", "auroc", 1),
            ("the FPR", "fpr_id_positive", -1),
        )
    ]


def _neco(ood: str, measure: str) -> Measure:
    return lambda one: one.neco(ood, measure)


def _detection(cell: Place, outcomes: Sequence[JobFolder], ood: str) -> list[TableCell]:
    auroc, fpr = _neco(ood, "auroc"), _neco(ood, "fpr_id_positive")
    theirs, note = _printed(cell, ood)
    printed = [TableCell("", "missing")] * 2
    if theirs is not None:
        printed = [
            TableCell(rate(theirs.auroc), "paper", note),
            TableCell(rate(theirs.fpr), "paper", note),
        ]
    return [
        *printed,
        measured(outcomes, auroc, rate),
        measured(outcomes, fpr, rate),
        difference(outcomes, auroc, theirs.auroc if theirs else None, percentage_points),
        difference(outcomes, fpr, theirs.fpr if theirs else None, percentage_points),
    ]


def _printed(cell: Place, ood: str) -> tuple[paper.Detection | None, str | None]:
    """The paper's rates, and what is different about them; none for its other data sets."""
    other = OTHER.get(cell.dataset, "")
    known = paper.detection(cell.network, cell.dataset, other)
    foreign = ood in DATASETS.values() or ood == "svhn"
    if (
        known is None
        or cell.condition not in (BASELINE, LOW_NORM)
        or (foreign and ood != DATASETS[other])
    ):
        return None, None
    notes = []
    if ood != DATASETS[other]:
        notes.append(f"the paper's out-of-distribution set is {other}")
    if known.pretrained_on:
        notes.append(f"the paper's network was pretrained on {known.pretrained_on}")
    theirs = known.baseline if cell.condition == BASELINE else known.low_norm
    return theirs, "; ".join(notes) or None


def all_variants(cells: Sequence[Place], results: Results) -> Table:
    """AUROC of every detector that was tried, NECO's published variants among them."""
    found = [(cell, results.outcomes(cell)) for cell in cells]
    names = sorted(
        {
            name
            for _, outcomes in found
            for one in outcomes
            for row in (one.report or {}).get("detection", {}).values()
            for name in row
        }
    )
    rows = [
        [
            *place(cell),
            TableCell(ood),
            *(measured(outcomes, _auroc(ood, name), rate) for name in names),
        ]
        for cell, outcomes in found
        if outcomes
        for ood in outcomes[0].job.ood
    ]
    columns = [*PLACE, Column("OOD"), *(Column(name, "AUROC") for name in names)]
    return Table("AUROC of all detectors, NECO in each published variant", columns, rows)


def _auroc(ood: str, name: str) -> Measure:
    return lambda one: one.measure(f"detection.{ood}.{name}.auroc")
