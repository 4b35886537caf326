"""Appendices B, F, I and L, which are not public: what the paper's main text says is in them."""

from collections.abc import Sequence

from rankdeficit.page import Picture, Table
from real_nets.page import figures as drawn
from real_nets.paper import numbers as paper
from real_nets.paper.compare import Measure, Pair, pairs
from real_nets.paper.grid import Cell
from real_nets.paper.measures import alignment, hidden_rank, neural_collapse, ortho_dev
from real_nets.paper.store import Results
from real_nets.paper.targets.pairs import PairTarget
from real_nets.paper.targets.parts import rank_curves
from real_nets.paper.targets.target import picture, register, runs

ON_CIFAR = tuple(
    (row.architecture, row.data) for row in paper.TABLE_1 if row.data.startswith("CIFAR")
)
"""(network, data) of Table 1 on CIFAR-10 and CIFAR-100."""


@register
class Alignment(PairTarget):
    """Appendix B."""

    name = "alignment"
    title = "Appendix B: alignment in convolutions"
    about = "alignment of every layer with its input, convolutions included"
    family = "appendix"
    networks = (("ResNet-18", "CIFAR-10"), ("VGG-19", "CIFAR-10"))
    claim = (
        "its analysis carries over to convolutions, whose weights are read as matrices "
        "(c_out, c_in k k); at high temperature layers align."
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """The mean over layers."""
        return [alignment()]

    def pictures(self, cells: Sequence[Cell], results: Results) -> list[Picture]:
        """By layer when trained, and during training."""
        found = []
        for pair in pairs(cells):
            own, where = runs(pair, results), pair[0].where
            by_layer = drawn.layer_alignments(own)
            found += picture(by_layer, f"{where}. Alignment by layer when trained.")
            during = drawn.alignment_and_collapse(own)
            found += picture(during, f"{where}. Alignment and collapse during training.")
        return found


@register
class SoftmaxMse(PairTarget):
    """Appendix F."""

    name = "mse"
    title = "Appendix F: squared error after the softmax"
    about = "the bias with softmax and squared error instead of cross-entropy"
    family = "appendix"
    networks = (("MLP", "CIFAR-10"),)
    options = {"loss": "mse"}  # noqa: RUF012
    claim = "squared error shows rank-deficit bias as well when paired with the softmax."

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """Rank of the last hidden layer."""
        return [hidden_rank()]

    def tables(self, cells: Sequence[Cell], results: Results) -> list[Table]:
        """Ranks of the logits over gamma."""
        return [rank_curves(cells, results)]

    def pictures(self, cells: Sequence[Cell], results: Results) -> list[Picture]:
        """Those of Figures 3 and 5."""
        found = runs(cells, results)
        captions = {
            "Alignment and collapse during training, squared error.": drawn.alignment_and_collapse,
            "Ranks before and after the softmax during training, squared error.": (
                drawn.ranks_around_softmax
            ),
        }
        return [one for text, draw in captions.items() for one in picture(draw(found), text)]


@register
class NeuralCollapse(PairTarget):
    """Appendix I."""

    name = "neural-collapse"
    title = "Appendix I: measures of Neural Collapse"
    about = "NC1 to NC4 of all networks of Tables 1 and 3 on CIFAR, with the retained rank"
    family = "appendix"
    networks = (*ON_CIFAR, *((row.architecture, row.data) for row in paper.TABLE_3))
    caption = "Neural Collapse on train images (0 is collapse; NC4: 100 %)"
    claim = (
        "where the rank is deficient the class means cannot form a simplex equiangular tight frame "
        "(NC2). NC1 in its usual form, tr(S_W S_B^+)/c, falls with the rank itself and is not shown."
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """NC1 to NC4 and the rank of the class means."""
        return neural_collapse(pair)


@register
class OrthoDev(PairTarget):
    """Appendix L."""

    name = "ortho-dev"
    title = "Appendix L: OrthoDev"
    about = "OrthoDev of all networks of Table 1 on CIFAR, at the end and during training"
    family = "appendix"
    networks = ON_CIFAR
    caption = "OrthoDev on diagnosed images"
    claim = paper.exhibit("Figure 7").claim

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """On every out-of-distribution set."""
        return list(map(ortho_dev, pair.ood))

    def pictures(self, cells: Sequence[Cell], results: Results) -> list[Picture]:
        """One per network."""
        return [
            one
            for pair in pairs(cells)
            for one in picture(
                drawn.ortho_dev(runs(pair, results)), f"{pair[0].where}: OrthoDev during training."
            )
        ]
