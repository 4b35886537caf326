"""Targets that compare networks at T = 1 with the same networks at low logit norm."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rankdeficit.page import Picture, Section, Table
from real_nets.paper.compare import Measure, Pair, equal_accuracy, measured_pairs
from real_nets.paper.grid import Cell, Grid, Setup
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import (
    accuracies,
    compare_all,
    headline,
    of_probes,
    pair_table,
)
from real_nets.paper.targets.target import Computed, Target


class PairTarget(Target):
    """A table of comparisons, with further tables and pictures as subclasses have them."""

    claim: ClassVar[str]
    """The paper's."""
    networks: ClassVar[Sequence[tuple[str, str]]]
    """(network, data) of every pair."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Of all jobs, over the budget's."""
    caption: ClassVar[str] = "Medians (ranges) over n seeds, and how they move"
    probes: ClassVar[bool] = False
    """Whether probes that did not converge are told."""

    @abstractmethod
    def measures(self, pair: Pair) -> Sequence[Measure]:
        """What is compared."""

    def tables(self, cells: Sequence[Cell], results: Results) -> list[Table]:
        """Tables below that of the comparisons."""
        return []

    def pictures(self, cells: Sequence[Cell], results: Results) -> list[Picture]:
        """All figures."""
        return []

    def cells(self, setup: Setup) -> Grid:
        """Both conditions of every network, and of others that `--cells` names."""
        rows = dict.fromkeys((data, network) for network, data in self.networks)
        return setup.pairs(rows, **self.options)

    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """The comparisons, at equal train accuracy, too, where that is asked for."""
        compared = compare_all(measured_pairs(cells, results), self.measures)
        tables = [pair_table(self.caption, compared), *self.tables(cells, results)]
        said = headline(one for _, own in compared for one in own)
        short = " ".join(said)
        for accuracy, same in equal_accuracy(cells, results).items() if self.compared else ():
            pairs = [
                pair
                for pair in measured_pairs(same, results, accuracy)
                if any(side.networks for side in pair)
            ]
            reached = f"{100 * accuracy:g}%"
            equal = compare_all(pairs, self.measures)
            caption = f"At equal train accuracy: weights of the epoch that first reached {reached}"
            tables.append(pair_table(caption, equal))
            told = headline(one for _, own in equal for one in own)
            said += [f"At equal train accuracy ({reached}): {sentence}" for sentence in told]
        notes = (of_probes if self.probes else accuracies)(cells, results)
        said = [*said, f"The paper's claim: {self.claim}"]
        pictures = self.pictures(cells, results)
        return Section(self.name, self.title, said, tables, pictures, notes, short)
