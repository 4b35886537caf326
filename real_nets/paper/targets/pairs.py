"""Targets that compare networks at T = 1 with the same networks at low logit norm."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from rankdeficit.page import Picture, Section, Table
from real_nets.models import JobChanges
from real_nets.paper import numbers as paper
from real_nets.paper.compare import Measure, Pair, equal_accuracy, measured_pairs, pairs
from real_nets.paper.grid import OTHER, Cell, Grid, Setup
from real_nets.paper.store import Results, groups
from real_nets.paper.targets.parts import (
    accuracies,
    cell_table,
    compare_all,
    headline,
    of_probes,
    pair_table,
)
from real_nets.paper.targets.target import Computed, Draw, Target, picture, runs


class Drawn(NamedTuple):
    """A figure of a target."""

    draw: Draw
    caption: str = ""
    """Empty for the description of the target."""
    alt: str = ""
    """Text for screen readers; empty for the caption."""


class PairTarget(Target):
    """A target with a table of comparisons, and optional further tables and figures."""

    networks: ClassVar[Sequence[tuple[str, str]]]
    """(network, data) of every pair."""
    options: ClassVar[JobChanges] = {}
    """Job options that override the budget's."""
    caption: ClassVar[str] = "Medians (ranges) over seeds, and the direction of the change"
    further: ClassVar[Sequence[Callable[[Sequence[Cell], Results], Table]]] = ()
    """Functions that make further tables."""
    figures: ClassVar[Sequence[Drawn]] = ()
    by_pair: ClassVar[bool] = False
    """Whether figures are drawn per pair."""
    probes: ClassVar[bool] = False
    """Whether notes report probes that did not converge."""
    every: ClassVar[bool] = False
    """Whether it has all temperatures of a network, not low logit norm alone."""

    def __init_subclass__(cls, exhibit: str = "") -> None:
        """exhibit: as for `Target`; its networks are the paper's."""
        super().__init_subclass__(exhibit)
        if exhibit:
            cls.networks = paper.exhibit(exhibit).networks

    @abstractmethod
    def measures(self, pair: Pair) -> Sequence[Measure]:
        """The measures to compare."""

    def pictures(self, cells: Sequence[Cell], results: Results) -> list[Picture]:
        """The non-empty figures."""
        groups: list[tuple[str, Sequence[Cell]]] = [("", cells)]
        if self.by_pair:
            groups = [(f"{own[0].where}. ", own) for own in rows_of(cells) if pairs(own)]
        return [
            one
            for where, own in groups
            for draw, caption, alt in self.figures
            for one in picture(draw(runs(own, results)), where + (caption or self.about), alt)
        ]

    def cells(self, setup: Setup) -> Grid:
        """Both conditions of every network, and of others that `--cells` names; any in figures."""
        rows = dict.fromkeys((data, network) for network, data in self.networks)
        return setup.pairs(rows, self.every, self.family == "figure", **self.options)

    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """The comparisons of trained networks and, if `compared`, at equal train accuracy."""
        compared = compare_all(measured_pairs(cells, results), self.measures)
        tables = [
            pair_table(self.caption, compared),
            *self.at_every_temperature(cells, results),
            *(f(cells, results) for f in self.further),
        ]
        paragraphs = headline(compared)
        result = " ".join(paragraphs)
        for accuracy, same in equal_accuracy(cells, results).items() if self.compared else ():
            reached_by = [
                pair
                for pair in measured_pairs(same, results, accuracy)
                if any(side.networks for side in pair)
            ]
            reached = f"{100 * accuracy:g}%"
            equal = compare_all(reached_by, self.measures)
            caption = f"At equal train accuracy: weights of the epoch that first reached {reached}"
            tables.append(pair_table(caption, equal))
            paragraphs += [f"At equal train accuracy ({reached}): {s}" for s in headline(equal)]
        notes = (of_probes if self.probes else accuracies)(cells, results)
        paragraphs = [*paragraphs, f"The paper's claim: {self.claim}"]
        pictures = self.pictures(cells, results)
        return Section(self.name, self.title, paragraphs, tables, pictures, notes, result)

    def at_every_temperature(self, cells: Sequence[Cell], results: Results) -> list[Table]:
        """A table of each network with more temperatures than T = 1 and low logit norm."""
        return [
            cell_table(f"{own[0].where} at every temperature", own, results, self.measures(pair))
            for own in rows_of(cells)
            if any(cell.condition == OTHER for cell in own)
            for pair in measured_pairs(own, results)
        ]


def rows_of(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells of each network on each data set, by temperature."""
    return [sorted(own, key=lambda cell: cell.temperature) for own in groups(cells).values()]
