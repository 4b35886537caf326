"""The quickest look: one network, baseline against low logit norm."""

from collections.abc import Sequence

from rankdeficit.page import Picture, Table
from real_nets.page.figures import probe_accuracies, ranks_around_softmax
from real_nets.paper.compare import Measure, Pair
from real_nets.paper.grid import Cell
from real_nets.paper.measures import neco, ortho_dev, representation
from real_nets.paper.store import Results
from real_nets.paper.targets.pairs import PairTarget
from real_nets.paper.targets.parts import rank_curves
from real_nets.paper.targets.target import picture, register, runs


@register
class Quick(PairTarget):
    """All measures of one network."""

    name = "quick"
    title = "A quick look: one network at T = 1 and at low logit norm"
    about = "all measures of one ResNet-18; minutes on a CPU with the smoke budget, no download"
    family = "quick"
    compared = True
    probes = True
    networks = (("ResNet-18", "CIFAR-100"),)
    claim = (
        "at low logit norm κ and the rank of the logits are lower, ρ and the AUROC of NECO higher. "
        "On other data than the paper's its directions can be expected, its numbers cannot."
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """Those of Tables 1 and 2, and OrthoDev."""
        ood = next(iter(pair.ood), None)
        detection = [*neco(pair, ood)[:1], ortho_dev(ood)] if ood else []
        return [*representation(pair), *detection]

    def tables(self, cells: Sequence[Cell], results: Results) -> list[Table]:
        """Ranks over gamma."""
        return [rank_curves(cells, results)]

    def pictures(self, cells: Sequence[Cell], results: Results) -> list[Picture]:
        """Figures 1 and 5."""
        found = runs(cells, results)
        return [
            *picture(probe_accuracies(found), "Accuracy of linear probes by layer."),
            *picture(
                ranks_around_softmax(found), "Rank before and after the softmax during training."
            ),
        ]
