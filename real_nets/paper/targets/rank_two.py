"""Appendix K: networks whose logits are factored through two dimensions."""

from collections.abc import Sequence
from functools import partial

from rankdeficit.page import Section
from rankdeficit.page.numbers import format_rank, format_share
from real_nets.jobs.folder import JobFolder
from real_nets.models import JobChanges, model_of_paper
from real_nets.paper.compare import Measure
from real_nets.paper.grid import Cell, Grid, Setup
from real_nets.paper.measures import CLASS_CENTRED, TEST_ACCURACY, centred_rank
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import accuracies, cell_table
from real_nets.paper.targets.target import Computed, Target, register

RANK_TWO = "rank 2"
SLOWER = 3
"""Factor on the number of epochs, since networks with rank 2 are slower to fit."""


@register
class RankTwo(Target):
    """Networks with their own classifier and with one of rank 2."""

    name = "rank-two"
    title = "Appendix K: rank-2 backbones"
    about = "Networks whose logits are factored through two dimensions."
    family = "appendix"

    def cells(self, setup: Setup) -> Grid:
        """Both networks in both conditions; training with rank 2 stops once all images are fitted."""
        found = []
        for network in ("MLP", "ResNet-18"):
            epochs = int(setup.budget.job("cifar10", model_of_paper(network)).epochs)
            found.append(setup.cell("CIFAR-10", network))
            narrow: JobChanges = {"head_rank": 2, "stop_accuracy": 1.0, "epochs": SLOWER * epochs}
            found.append(setup.cell("CIFAR-10", network, RANK_TWO, **narrow))
        return Grid.merged(found)

    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """Ranks, accuracies and epochs."""
        measures = [
            Measure("rank of the logits", lambda one: one.rank, format_rank),
            Measure(CLASS_CENTRED, centred_rank, format_rank),
            Measure(
                "rank after the softmax",
                lambda one: one.summary.get("post_softmax_rank"),
                format_rank,
            ),
            Measure(
                "train accuracy", lambda one: one.train_accuracy, partial(format_share, digits=3)
            ),
            Measure("train images wrong", wrong_images, "{:,.0f}".format),
            TEST_ACCURACY,
            Measure("epochs", lambda one: one.summary.get("epoch"), "{:.3g}".format),
        ]
        paragraphs = []
        for cell in cells:
            if cell.condition == RANK_TWO and (found := results.outcomes(cell)):
                whole = f"{list(map(wrong_images, found)).count(0)} of {len(found)} networks"
                paragraphs.append(f"{cell.where}: {whole} with rank 2 fit all train images.")
        result = " ".join(paragraphs)
        paragraphs.append(
            "The paper's claim: typical backbones with an output of rank 2 reach 100 % train accuracy "
            "(Proposition 3.2 says that they can)."
        )
        caption = "Classifiers of rank 2 beside the networks' own"
        table = cell_table(caption, cells, results, measures)
        notes = accuracies(cells, results)
        return Section(self.name, self.title, paragraphs, [table], [], notes, result)


def wrong_images(one: JobFolder) -> float | None:
    """Number of misclassified train images."""
    if one.train_accuracy is None:
        return None
    return float(round((1 - one.train_accuracy) * one.summary["train_images"]))
