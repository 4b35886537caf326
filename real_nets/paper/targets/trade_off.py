"""Appendix M: OOD generalisation against OOD detection."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rankdeficit.correlation import Correlation
from rankdeficit.experiments.network_figures.runs import FigureRun
from rankdeficit.experiments.network_figures.when_trained import (
    TradeOffPoint,
    trade_off,
    trade_off_points,
)
from rankdeficit.page import Section
from real_nets.jobs.folder import JobFolder
from real_nets.paper import numbers as paper
from real_nets.paper.chance import Cause, learned, probed_outside
from real_nets.paper.compare import correlation
from real_nets.paper.grid import Cell, Grid, Setup
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import correlation_table, of_probes
from real_nets.paper.targets.target import Computed, Target, figure_run, networks, picture, register

ALL = "all, each within its kind"
"""Name of the correlation over all networks."""


@register
class TradeOff(Target):
    """rho against the AUROC of NECO."""

    name = "trade-off"
    title = "Appendix M: OOD generalisation against OOD detection"
    about = "Rho against the AUROC of NECO over all networks, with their correlation."
    family = "appendix"

    def cells(self, setup: Setup) -> Grid:
        """Networks of Tables 1 and 3."""
        rows = (*paper.TABLE_1, *paper.TABLE_3)
        return Grid.merged(setup.pair(row.data, row.architecture) for row in rows)

    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """A point per network, and the rank correlation over all networks and over each kind."""
        found = networks(cells, results)
        able = [one for one in found if learned(one)]
        points = trade_off_points(list(map(figure_run, able)))
        kept = trade_off_points(list(map(without_chance_drops, able)))
        paragraphs = [
            "The paper's claim: the better a network generalises out of distribution (low ρ), the worse "
            "it detects what is out of distribution (low AUROC), so the two should rise together.",
            "Over all networks, each is ranked among those of its kind, so that differences between "
            "architectures and data sets do not count, and p is of 9,999 permutations within kinds.",
        ]
        notes = of_probes(cells, results)
        if guessing := len(found) - len(able):
            of_all = f"{guessing} of {len(found)} networks"
            notes.append(f"Left out of correlations, {Cause.UNTRAINED.value}: {of_all}.")
        if left_out := len(points) - len(kept):
            notes.append(f"Left out of correlations, {Cause.OOD_PROBES.value}: {left_out} points.")
        correlations = by_kind(kept)
        caption = "Correlation of ρ with the AUROC of NECO, of all networks and of each kind"
        table = correlation_table(caption, correlations, ("OOD", "network"))
        titles = {
            ood: f"Spearman's correlation within networks {one.rho:.2f}, p = {one.p:.2g}, n = {one.n}"
            for (ood, kind), one in correlations.items()
            if kind == ALL and one is not None
        }
        figure = trade_off(list(map(figure_run, found)), correlations=titles)
        alt = "AUROC of NECO against OOD drop, a mark per network."
        pictures = picture(figure, "A mark per trained network.", alt)
        return Section(self.name, self.title, paragraphs, [table], pictures, notes)


def without_chance_drops(one: JobFolder) -> FigureRun:
    """A network as figures take it, without rho of OOD sets on which its probes are at chance."""
    run = figure_run(one)
    if run.report is None:
        return run
    drops = run.report["ood_drop"]
    kept = {ood: drop for ood, drop in drops.items() if probed_outside(one, ood)}
    return replace(run, report=run.report | {"ood_drop": kept})


def by_kind(points: Sequence[TradeOffPoint]) -> Mapping[tuple[str, ...], Correlation | None]:
    """Correlation of rho and AUROC by OOD set and kind of network, over all first."""
    found: dict[tuple[str, ...], Correlation | None] = {}
    for ood in dict.fromkeys(point.ood for point in points):
        own = [point for point in points if point.ood == ood]
        kinds, pairs = [p.network for p in own], [(p.ood_drop, p.auroc) for p in own]
        found[ood, ALL] = correlation(pairs, kinds)
        for kind in dict.fromkeys(kinds):
            alike = [pair for pair, name in zip(pairs, kinds, strict=True) if name == kind]
            found[ood, kind] = correlation(alike)
    return found
