"""The quickest look: one network, baseline against low logit norm."""

from collections.abc import Sequence
from typing import Any

from real_nets.jobs.folder import JobFolder
from real_nets.page import Column, Section, Table, TableCell
from real_nets.page.figures import probe_accuracies, ranks_around_softmax
from real_nets.page.numbers import rank, rate, share
from real_nets.paper.grid import Cell as Place
from real_nets.paper.grid import Setup
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import (
    PLACE,
    at,
    at_equal_accuracy,
    measured,
    of_probes,
    ortho_dev,
    place,
    rank_curves,
    same_data,
)
from real_nets.paper.targets.tables import sentences
from real_nets.paper.targets.target import Draw, Target, drawn, first_ood, register, runs


@register
class Quick(Target):
    """Everything at once, small."""

    name = "quick"
    title = "A quick look: one network at T = 1 and at low logit norm"
    about = "all measures of one ResNet-18; minutes on a CPU with the smoke budget, no download"
    compared = True

    def cells(self, setup: Setup) -> list[Place]:
        """One network."""
        return setup.pair("CIFAR-100", "ResNet-18")

    def section(
        self, cells: Sequence[Place], results: Results, computed: dict[str, Any]
    ) -> Section:
        """kappa, rho, SR, NECO, OrthoDev and Figure 1; at equal train accuracy, too."""
        captions: dict[Draw, str] = {
            probe_accuracies: "Figure 1: accuracy of linear probes by layer.",
            ranks_around_softmax: "Figure 5: rank before and after the softmax during training.",
        }
        equal, equally = at_equal_accuracy(cells, results, all_measures, sentences)
        table = all_measures("Medians (ranges) over seeds", cells, results)
        return Section(
            self.name,
            self.title,
            [*_on_other_data(cells), *sentences(cells, results), *equally],
            [table, rank_curves(cells, results), *equal],
            drawn(runs(cells, results), captions),
            of_probes(cells, results),
        )


def all_measures(
    caption: str, cells: Sequence[Place], results: Results, snapshot: str | None = None
) -> Table:
    """kappa, rho, SR, NECO and OrthoDev, with the accuracies that they are of."""
    names = ("κ", "ρ", "SR", "NECO (AUROC)", "OrthoDev")
    shares = (Column(name, "accuracy") for name in ("train", "test"))
    rows = [[*place(cell), *_measures(at(results.outcomes(cell), snapshot))] for cell in cells]
    return Table(caption, [*PLACE, *map(Column, names), *shares], rows)


def _on_other_data(cells: Sequence[Place]) -> list[str]:
    return [
        f"Trained on {cell.data} in place of {cell.dataset}: this shows whether the paper's effect is "
        "there, not whether its numbers come out."
        for cell in cells[:1]
        if not same_data(cell)
    ]


def _measures(outcomes: Sequence[JobFolder]) -> list[TableCell]:
    ood = first_ood(outcomes) or ""
    against = f"out of distribution: {ood}"
    return [
        measured(outcomes, lambda one: one.effective_depth, share),
        measured(outcomes, lambda one: one.ood_drop(ood), share, against),
        measured(outcomes, lambda one: one.rank, rank),
        measured(outcomes, lambda one: one.neco(ood), rate, against),
        measured(outcomes, ortho_dev(ood), "{:.3f}".format, against),
        measured(outcomes, lambda one: one.train_accuracy, share),
        measured(outcomes, lambda one: one.test_accuracy, share),
    ]
