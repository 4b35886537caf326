"""A quick look: one network at T = 1 and at low logit norm."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rankdeficit.experiments.network_figures.during_training import ranks_around_softmax
from rankdeficit.experiments.network_figures.when_trained import probe_accuracies
from real_nets.models import BudgetName, JobChanges
from real_nets.paper.compare import Measure, Pair
from real_nets.paper.grid import Grid, Setup
from real_nets.paper.measures import neco, ortho_dev, representation
from real_nets.paper.targets.pairs import Drawn, PairTarget
from real_nets.paper.targets.parts import rank_curves
from real_nets.paper.targets.target import register

SIZES: Mapping[BudgetName, JobChanges] = {"smoke": {"diagnosed_images": 600}}
"""Options over a budget's, under those of the command line."""


@register
class Quick(PairTarget):
    """The main measures of one network."""

    name = "quick"
    title = "A quick look: one network at T = 1 and at low logit norm"
    about = "All measures of one ResNet-18; minutes on a CPU with the smoke budget, no download."
    family = "quick"
    compared = True
    probes = True
    networks = (("ResNet-18", "CIFAR-100"),)
    further = (rank_curves,)
    figures = (
        Drawn(probe_accuracies, "Accuracy of linear probes by layer."),
        Drawn(ranks_around_softmax, "Rank before and after the softmax during training."),
    )
    claim = (
        "at low logit norm κ and the rank of the logits are lower, ρ and the AUROC of NECO higher. "
        "On other data than the paper's its directions can be expected, its numbers cannot."
    )

    def cells(self, setup: Setup) -> Grid:
        """As of any pair, but diagnosed on as many images as the directions of the measures need."""
        budget = setup.budget
        changes = {**SIZES.get(budget.name, {}), **budget.changes}
        return super().cells(replace(setup, budget=replace(budget, changes=changes)))

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """The measures of Tables 1 and 2, and OrthoDev."""
        ood = next(iter(pair.ood), None)
        detection = [*neco(pair, ood)[:1], ortho_dev(ood)] if ood else []
        return [*representation(pair), *detection]
