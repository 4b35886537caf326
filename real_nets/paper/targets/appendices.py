"""Appendices B, F, I and L, which are not available here, as the paper's main text describes them."""

from collections.abc import Sequence

from rankdeficit.experiments.network_figures import during_training
from rankdeficit.experiments.network_figures.during_training import (
    alignment_and_collapse,
    ranks_around_softmax,
)
from rankdeficit.experiments.network_figures.when_trained import layer_alignments
from real_nets.paper import numbers as paper
from real_nets.paper.compare import Measure, Pair
from real_nets.paper.measures import alignment, hidden_rank, neural_collapse, of_first, ortho_dev
from real_nets.paper.targets.pairs import Drawn, PairTarget
from real_nets.paper.targets.parts import rank_curves
from real_nets.paper.targets.target import register

ON_CIFAR = tuple(
    (row.architecture, row.data) for row in paper.TABLE_1 if row.data.startswith("CIFAR")
)
"""(network, data) of Table 1 on CIFAR."""


@register
class Alignment(PairTarget):
    """Appendix B."""

    name = "alignment"
    title = "Appendix B: alignment in convolutions"
    about = "Alignment of every layer with its input, convolutions included."
    family = "appendix"
    networks = (("ResNet-18", "CIFAR-10"), ("VGG-19", "CIFAR-10"))
    claim = (
        "its analysis carries over to convolutions, whose weights are read as matrices "
        "(c_out, c_in k k); at high temperature layers align."
    )
    by_pair = True
    figures = (
        Drawn(layer_alignments, "Alignment by layer when trained."),
        Drawn(alignment_and_collapse, "Alignment and collapse during training."),
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """Alignment, mean over layers."""
        return [alignment()]


@register
class SoftmaxMse(PairTarget):
    """Appendix F."""

    name = "mse"
    title = "Appendix F: squared error after the softmax"
    about = "The bias with softmax and squared error instead of cross-entropy."
    family = "appendix"
    networks = (("MLP", "CIFAR-10"),)
    options = {"loss": "mse"}  # noqa: RUF012
    claim = "squared error shows rank-deficit bias as well when paired with the softmax."
    further = (rank_curves,)
    figures = (
        Drawn(alignment_and_collapse, "Alignment and collapse during training, squared error."),
        Drawn(ranks_around_softmax, "Ranks around the softmax during training, squared error."),
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """Rank of the last hidden layer."""
        return [hidden_rank()]


@register
class NeuralCollapse(PairTarget):
    """Appendix I."""

    name = "neural-collapse"
    title = "Appendix I: measures of Neural Collapse"
    about = "NC1 to NC4 of all networks of Tables 1 and 3 on CIFAR, with the retained rank."
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
    about = "OrthoDev of all networks of Table 1 on CIFAR, at the end and during training."
    family = "appendix"
    networks = ON_CIFAR
    caption = "OrthoDev on the diagnosed images"
    claim = paper.exhibit("Figure 7").claim
    by_pair = True
    figures = (Drawn(during_training.ortho_dev, "OrthoDev during training."),)

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """OrthoDev on every out-of-distribution set."""
        return of_first(list(map(ortho_dev, pair.ood)))
