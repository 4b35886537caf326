"""The paper's tables."""

from collections.abc import Sequence

from rankdeficit.diagnostics.report import records
from rankdeficit.experiments.network_figures.when_trained import rank_over_gamma
from rankdeficit.page import Column, Table, TableCell
from rankdeficit.page.numbers import format_rate
from real_nets.jobs.folder import JobFolder
from real_nets.paper.compare import Measure, Pair
from real_nets.paper.coverage import cells_table
from real_nets.paper.grid import Cell
from real_nets.paper.measures import COMPONENTS, components, detections, representation
from real_nets.paper.store import Results
from real_nets.paper.targets.pairs import Drawn, PairTarget
from real_nets.paper.targets.parts import PLACE, measured, place, rank_curves, rank_sampling, seeds
from real_nets.paper.targets.target import register


class Representations(PairTarget):
    """kappa, rho and rank of baseline and low logit norm."""

    family = "table"
    compared = True
    every = True
    probes = True
    figures = (
        Drawn(
            rank_over_gamma,
            "Rank of the logits over the threshold γ, diagnosed train images.",
            "Rank of the logits against gamma, a line per temperature and network.",
        ),
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """kappa, rho, ranks and accuracies."""
        return representation(pair)


@register
class Table1(Representations, exhibit="Table 1"):
    """MLP and ResNets."""

    name = "table1"
    further = (rank_curves, rank_sampling, cells_table("table1"))


@register
class Table3(Representations, exhibit="Table 3"):
    """VGG-19."""

    name = "table3"
    further = (rank_curves, rank_sampling, cells_table("table3"))


def all_detectors(cells: Sequence[Cell], results: Results) -> Table:
    """AUROC of every detector, including the published variants of NECO."""
    found = [(cell, own) for cell in cells if (own := results.outcomes(cell))]
    names = sorted({name for _, own in found for one in own for name in detectors(one)})
    n = seeds(cells)
    rows = []
    for cell, own in found:
        for ood in own[0].job.ood:
            measures = [components(ood), *(auroc(ood, name) for name in names)]
            rows.append([*place(cell), TableCell(ood), *(measured(own, m, n) for m in measures)])
    usual = {records.default_neco(one.report) for _, own in found for one in own if one.report}
    titles = [Column(name, "AUROC") for name in names]
    elsewhere = f"elsewhere it is {' or '.join(sorted(usual))}; " * bool(usual)
    caption = f"AUROC of all detectors, NECO in each published variant ({elsewhere}n = {n})"
    return Table(caption, [*PLACE, Column("OOD"), Column(COMPONENTS), *titles], rows)


def detectors(one: JobFolder) -> set[str]:
    """Names of the detectors in a diagnosis."""
    return {name for own in (one.report or {}).get("detection", {}).values() for name in own}


def auroc(ood: str, detector: str) -> Measure:
    """AUROC of a detector on an out-of-distribution set."""
    return Measure(
        detector, lambda one: one.measure(f"detection.{ood}.{detector}.auroc"), format_rate
    )


@register
class Table2(PairTarget, exhibit="Table 2"):
    """NECO between CIFAR-100 and CIFAR-10."""

    name = "table2"
    family = "table"
    compared = True
    every = True
    caption = "NECO: AUROC, and false positives at 95 % true positives (ID is positive)"
    further = (all_detectors, cells_table("table2"))

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """NECO on every out-of-distribution set."""
        return detections(pair)
