"""Appendices B to F, which are not public: what the paper's main text says is in them."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from rankdeficit.spectrum import GAMMA
from real_nets.page import Column, Section, Table
from real_nets.page.figures import (
    alignment_and_collapse,
    layer_alignments,
    ranks_around_softmax,
)
from real_nets.page.numbers import norm, rank, share
from real_nets.paper.chance import AT_CHANCE, Side, learned
from real_nets.paper.compare import Moves, move, pair_sentences
from real_nets.paper.correlation import correlation
from real_nets.paper.grid import Cell as Place
from real_nets.paper.grid import Setup
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import (
    COARSE,
    PLACE,
    Measure,
    accuracies,
    condition,
    hidden_rank,
    initial_norm,
    measured,
    pairs,
    place,
    rank_curves,
    values,
    where,
)
from real_nets.paper.targets.target import Draw, Target, drawn, register, runs

WIDTH = 512
"""Of the MLP, where the budget does not say."""

INTERVENTIONS: dict[str, dict[str, Any]] = {
    "initial weights x 0.5": {"init_scale": 0.5},
    "initial weights x 0.8": {"init_scale": 0.8},
    "initial weights x 1.2": {"init_scale": 1.2},
    "LeCun initialisation": {"init": "lecun"},
    "Xavier initialisation": {"init": "xavier"},
    "orthogonal initialisation": {"init": "orthogonal"},
    "classifier x 1e-12": {"head_scale": 1e-12},
    "half the width": {"width": 0.5},
    "twice the width": {"width": 2.0},
    "4 layers": {"depth": 4},
    "12 layers": {"depth": 12},
    "layer normalisation within": {"norm": "layer"},
    "batch normalisation within": {"norm": "batch"},
    "layer normalisation after the logits": {"head_norm": "layer"},
    "moderate temperature": {"temperature": 10.0},
}
"""What may change the initial norm of an MLP's logits, besides a high temperature; widths are factors."""


@register
class Alignment(Target):
    """Appendix B."""

    name = "alignment"
    title = "Appendix B: alignment in convolutions"
    about = "alignment of every layer with its input, convolutions included"

    def cells(self, setup: Setup) -> list[Place]:
        """A residual network and VGG."""
        return [
            cell for network in ("ResNet-18", "VGG-19") for cell in setup.pair("CIFAR-10", network)
        ]

    def section(
        self, cells: Sequence[Place], results: Results, computed: dict[str, Any]
    ) -> Section:
        """By layer at the end, and over training."""
        pictures = []
        for baseline, low in pairs(cells):
            captions: dict[Draw, str] = {
                layer_alignments: f"{where(baseline)}. Alignment by layer when trained.",
                alignment_and_collapse: f"{where(baseline)}. Alignment and collapse during training.",
            }
            pictures += drawn(runs([baseline, low], results), captions)
        claim = (
            "The paper's claim: its analysis carries over to convolutions, whose weights are read as "
            "matrices (c_out, c_in k k); at high temperature layers align."
        )
        return Section(
            self.name,
            self.title,
            [claim, *pair_sentences(cells, results, alignment_moves)],
            [],
            pictures,
            accuracies(cells, results),
        )


def alignment_moves(baseline: Side, low: Side) -> Moves:
    """How the mean over layers moves."""
    what = "the mean alignment"
    return [move(baseline, low, what, lambda one: one.measure("alignment"), 1, "{:.2f}".format)]


@register
class Hyperparameters(Target):
    """Appendix E."""

    name = "hyperparameters"
    title = "Appendix E: what else changes the initial norm of the logits"
    about = "initialisation, width, depth and normalisation of the MLP against rank"

    def cells(self, setup: Setup) -> list[Place]:
        """The MLP at both temperatures and under every intervention."""
        found = setup.pair("CIFAR-10", "MLP")
        width = setup.budget.job("cifar10", "mlp").width or WIDTH
        for label, options in INTERVENTIONS.items():
            own = dict(options)
            if "width" in own:
                own["width"] = round(own["width"] * width)
            found += setup.cell("CIFAR-10", "MLP", label, **own)
        return found

    def section(
        self, cells: Sequence[Place], results: Results, computed: dict[str, Any]
    ) -> Section:
        """Initial effective norm against ranks, with their correlation."""
        measures: dict[str, tuple[Measure, Any]] = {
            "initial ||M|| / T": (initial_norm, norm),
            f"logits, γ = {_gammas(cells, results)}": (lambda one: one.rank, rank),
            f"last hidden layer, γ = {COARSE}": (hidden_rank, rank),
            "train accuracy": (lambda one: one.train_accuracy, share),
            "test accuracy": (lambda one: one.test_accuracy, share),
        }
        columns = [*PLACE, *(Column(title) for title in measures)]
        rows, left_out = [], []
        points: dict[
            tuple[str, ...], tuple[float, float]
        ] = {}  # two settings may be the same networks
        for cell in cells:
            outcomes = results.outcomes(cell)
            shown = [measured(outcomes, *how) for how in measures.values()]
            rows.append([*place(cell), *shown])
            norms, ranks = values(outcomes, initial_norm), values(outcomes, hidden_rank)
            if not all(map(learned, outcomes)):
                left_out.append(condition(cell))
            elif norms and ranks:
                points[cell.keys] = median(norms), median(ranks)
        claim = (
            "The paper's claim: initialisation, dimensions and normalisation set the initial norm of the "
            "logits, and with it the rank, as temperature does."
        )
        said = [claim]
        found = correlation(list(points.values()))
        if found is not None:
            said.append(
                "Initial effective norm and rank of the last hidden layer at γ = 1e-2, medians over "
                f"seeds of each setting: {found}, {found.agreement}. Widths bound the rank, too."
            )
        if left_out:
            said.append(
                f"Left out of the correlation, as networks {AT_CHANCE}: {'; '.join(left_out)}."
            )
        table = Table("Interventions on the MLP", columns, rows)
        return Section(self.name, self.title, said, [table], [], accuracies(cells, results))


def _gammas(cells: Sequence[Place], results: Results) -> str:
    """Thresholds of the networks' ranks."""
    found = {one.job.gamma for cell in cells for one in results.outcomes(cell)}
    return ", ".join(f"{gamma:g}" for gamma in sorted(found or {GAMMA}))


@register
class SoftmaxMse(Target):
    """Appendix F."""

    name = "mse"
    title = "Appendix F: squared error after the softmax"
    about = "the bias with softmax and squared error instead of cross-entropy"

    def cells(self, setup: Setup) -> list[Place]:
        """The MLP with squared error."""
        return setup.pair("CIFAR-10", "MLP", loss="mse")

    def section(
        self, cells: Sequence[Place], results: Results, computed: dict[str, Any]
    ) -> Section:
        """Ranks of logits and of the last hidden layer."""
        captions: dict[Draw, str] = {
            alignment_and_collapse: "Alignment and collapse during training, squared error.",
            ranks_around_softmax: "Ranks before and after the softmax during training, squared error.",
        }
        pictures = drawn(runs(cells, results), captions)
        said = [
            "The paper's claim: squared error shows rank-deficit bias as well when paired with the "
            "softmax."
        ]
        said += pair_sentences(cells, results, hidden_rank_moves)
        tables = [rank_curves(cells, results)]
        return Section(self.name, self.title, said, tables, pictures, accuracies(cells, results))


def hidden_rank_moves(baseline: Side, low: Side) -> Moves:
    """How the rank of the last hidden layer moves."""
    what = "the rank of the last hidden layer at γ = 1e-2"
    return [move(baseline, low, what, hidden_rank, -1, rank)]
