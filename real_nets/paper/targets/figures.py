"""The paper's figures of networks at T = 1 and at low logit norm, compared by the numbers in them."""

import math
from collections.abc import Sequence
from statistics import mean

from rankdeficit.experiments.network_figures import during_training, when_trained
from rankdeficit.experiments.network_figures.runs import number, over_layers, over_training
from rankdeficit.experiments.panels import Points
from rankdeficit.page.numbers import (
    decimals,
    format_factor,
    format_norm,
    format_rank,
    format_rank_difference,
)
from rankdeficit.spectrum import GAMMA
from real_nets.jobs.folder import JobFolder
from real_nets.paper.compare import Direction, Measure, Pair, Printed
from real_nets.paper.measures import Value, depths, drop, of_first
from real_nets.paper.targets.pairs import Drawn, PairTarget
from real_nets.paper.targets.target import Draw, figure_run, register

FIRST_EPOCHS = 5.0
"""Number of epochs in which the alignment rises in the paper."""
MANY_CLASSES = 100
"""Number of classes from which the paper's rank before the softmax is below that after it."""
SATURATED = 0.95
"""Fraction of its maximum at which a rank counts as saturated."""


class PaperFigure(PairTarget):
    """A figure of pairs of trained networks, drawn for each pair."""

    family = "figure"
    by_pair = True
    every = True


def described(draw: Draw, alt: str) -> tuple[Drawn, ...]:
    """The figure of a target, with the target's description as caption."""
    return (Drawn(draw, alt=alt),)


@register
class Figure1(PaperFigure, exhibit="Figure 1"):
    """Probes by layer."""

    name = "fig1"
    probes = True
    figures = described(
        when_trained.probe_accuracies,
        "Accuracy of linear probes against the layer, a panel per temperature.",
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """Effective depth and OOD drop of every set."""
        return [*depths(pair), *of_first([drop(pair, ood) for ood in pair.ood])]


@register
class Figure2(PaperFigure, exhibit="Figure 2"):
    """Logits norm."""

    name = "fig2"
    diagnosed = False
    figures = described(
        during_training.logits_norm,
        "Norm of the logits against training epochs, a line per temperature.",
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """Growth of the logits norm in the first epoch and in all epochs."""
        return [
            Measure(f"growth of the logits norm {when}", growth(epochs), format_factor, 1)
            for when, epochs in (("in the first epoch", 1.0), ("in all epochs", math.inf))
        ]


@register
class Figure3(PaperFigure, exhibit="Figure 3"):
    """Alignment and collapse."""

    name = "fig3"
    diagnosed = False
    figures = described(
        during_training.alignment_and_collapse,
        "Alignment above, rank and five singular values below, a column per temperature.",
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """Alignment early in training, rank and largest singular value at its end."""
        early = f"highest alignment of the first {FIRST_EPOCHS:g} epochs"
        top = "largest singular value of the last hidden layer"
        of_layer = f"rank of the last hidden layer, γ = {GAMMA:g}"
        return [
            Measure(early, highest("alignment", FIRST_EPOCHS), decimals(2), 1),
            Measure(of_layer, last("layer_ranks", str(GAMMA), -2), format_rank, -1),
            Measure(top, last("layer_singular_values", -2, 0), format_norm, 1),
        ]


@register
class Figure4(PaperFigure, exhibit="Figure 4"):
    """Gradient ranks."""

    name = "fig4"
    figures = described(
        when_trained.layer_and_gradient_ranks,
        "Rank of input and gradient against the layer, a panel per temperature.",
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """Mean ranks in the deeper half of the layers, and number of gradients above the bound."""
        none = Printed(0.0, 0.0, format_rank, format_rank_difference)
        name = "mean rank of the {} in the deeper half of the layers"
        above = "layers whose gradient has a higher rank than their input"
        return [
            Measure(name.format("inputs"), deeper("input"), format_rank, -1),
            Measure(name.format("gradients"), deeper("gradient"), format_rank, -1),
            Measure(above, unbounded, format_rank, printed=none),
        ]


@register
class Figure5(PaperFigure, exhibit="Figure 5"):
    """Ranks around the softmax."""

    name = "fig5"
    diagnosed = False
    figures = described(
        during_training.ranks_around_softmax,
        "Rank before and after the softmax and norm against epochs, a panel per temperature.",
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """Rank after the softmax relative to that before, and the epoch at which it saturates."""
        many = any(one.summary["classes"] >= MANY_CLASSES for one in pair.baseline.networks)
        expected: Direction | None = 1 if many else None
        name = "rank after the softmax minus that of the {}"
        return [
            Measure(name.format("logits"), gap("rank"), format_rank, expected),
            Measure(name.format("class-centred logits"), gap("centred_rank"), format_rank),
            Measure(
                "epoch at which the rank after the softmax saturates", saturated, "{:.2g}".format
            ),
        ]


@register
class Figure7(PaperFigure, exhibit="Figure 7"):
    """OrthoDev."""

    name = "fig7"
    diagnosed = False
    figures = described(
        during_training.ortho_dev,
        "OrthoDev against epochs, a line per temperature, a panel per OOD set.",
    )

    def measures(self, pair: Pair) -> Sequence[Measure]:
        """OrthoDev at the last measurement, on each OOD set."""
        form = decimals(3)
        own = [Measure(f"OrthoDev ({o})", last("ortho_dev", o), form, -1) for o in pair.ood]
        return of_first(own)


def last(*keys: str | int) -> Value:
    """A number of the last measurement during training."""

    def value(one: JobFolder) -> float | None:
        found = number(one.rows[-1], *keys) if one.rows else math.nan
        return found if math.isfinite(found) else None

    return value


def trace(one: JobFolder, *keys: str | int) -> Points:
    """Points (epoch, number) of the measurements during training."""
    return over_training([figure_run(one)], *keys)


def growth(epochs: float) -> Value:
    """Logits norm after a number of epochs divided by that of the untrained network."""

    def value(one: JobFolder) -> float | None:
        found = [norm for epoch, norm in trace(one, "logits_norm") if epoch <= epochs]
        return found[-1] / found[0] if len(found) > 1 and found[0] > 0 else None

    return value


def highest(name: str, epochs: float) -> Value:
    """Highest value in the first `epochs` epochs."""
    return lambda one: max((value for at, value in trace(one, name) if at <= epochs), default=None)


def deeper(name: str) -> Value:
    """Mean rank over the deeper half of the layers."""

    def value(one: JobFolder) -> float | None:
        run = figure_run(one)
        half = [own for layer, own in over_layers([run], name, "rank") if layer > run.layers / 2]
        return mean(half) if half else None

    return value


def unbounded(one: JobFolder) -> float | None:
    """Number of layers whose gradient has a higher rank than their input; equation 3 implies 0."""
    run = figure_run(one)
    inputs = dict(over_layers([run], "input", "rank"))
    found = [own > inputs[layer] for layer, own in over_layers([run], "gradient", "rank")]
    return float(sum(found)) if found else None


def gap(before: str) -> Value:
    """Rank after the softmax minus a rank before it, at the last measurement."""

    def value(one: JobFolder) -> float | None:
        high, low = (last(name)(one) for name in ("post_softmax_rank", before))
        return None if high is None or low is None else high - low

    return value


def saturated(one: JobFolder) -> float | None:
    """First epoch at which the rank after the softmax reaches SATURATED times its maximum."""
    found = trace(one, "post_softmax_rank")
    top = max((value for _, value in found), default=0.0)
    return next((epoch for epoch, value in found if value >= SATURATED * top), None)
