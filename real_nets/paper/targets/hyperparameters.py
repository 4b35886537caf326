"""Appendix E: other hyper-parameters that change the initial norm of the logits."""

from collections.abc import Mapping, Sequence
from statistics import median

from rankdeficit.page import Section
from rankdeficit.page.numbers import format_norm, format_rank
from real_nets.models import JobChanges
from real_nets.paper.chance import Cause, learned
from real_nets.paper.compare import Measure, correlation, values
from real_nets.paper.grid import Cell, Grid, Setup
from real_nets.paper.measures import (
    CLASS_CENTRED,
    TEST_ACCURACY,
    TRAIN_ACCURACY,
    centred_rank,
    hidden_rank,
    initial_norm,
)
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import accuracies, cell_table, correlation_table
from real_nets.paper.targets.target import Computed, Target, register

WIDTH = 512
"""Width of the MLP if the budget sets none."""

INTERVENTIONS: dict[str, JobChanges] = {
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
"""Job options of each intervention on the MLP; a width is a factor on the budget's."""


@register
class Hyperparameters(Target):
    """Initial norm of the MLP's logits against ranks."""

    name = "hyperparameters"
    title = "Appendix E: what else changes the initial norm of the logits"
    about = "Initialisation, width, depth and normalisation of the MLP against rank."
    family = "appendix"

    def cells(self, setup: Setup) -> Grid:
        """The MLP at both temperatures and under every intervention."""
        width = setup.budget.job("cifar10", "mlp").width or WIDTH
        found = [setup.pair("CIFAR-10", "MLP")]
        for label, options in INTERVENTIONS.items():
            own = dict(options)
            if "width" in own:
                own["width"] = round(own["width"] * width)
            found.append(setup.cell("CIFAR-10", "MLP", label, **own))
        return Grid.merged(found)

    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """Initial norm and ranks of each intervention, and their correlation."""
        gammas = sorted({one.job.gamma for cell in cells for one in results.outcomes(cell)})
        at = f", γ = {', '.join(f'{gamma:g}' for gamma in gammas)}" if gammas else ""
        measures = [
            Measure("initial ||M|| / T", initial_norm, format_norm),
            Measure(f"rank of the logits{at}", lambda one: one.rank, format_rank),
            Measure(f"{CLASS_CENTRED}{at}", centred_rank, format_rank),
            hidden_rank(),
            TRAIN_ACCURACY,
            TEST_ACCURACY,
        ]
        tables = [
            cell_table("Interventions on the MLP", cells, results, measures),
            correlation_table(
                "Initial effective norm and rank of the last hidden layer, medians of each setting",
                {(): correlation(list(points(cells, results).values()))},
                (),
            ),
        ]
        claim = (
            "The paper's claim: initialisation, dimensions and normalisation set the initial norm of the "
            "logits, and with it the rank, as temperature does. Widths bound the rank, too."
        )
        notes = accuracies(cells, results)
        if out := at_chance(cells, results):
            labels = "; ".join(cell.label for cell in out)
            notes.append(f"Left out of the correlation, {Cause.UNTRAINED.value}: {labels}.")
        return Section(self.name, self.title, [claim], tables, [], notes)


def at_chance(cells: Sequence[Cell], results: Results) -> list[Cell]:
    """Cells with a network that stalled or does not beat chance."""
    return [cell for cell in cells if not all(map(learned, results.outcomes(cell)))]


def points(
    cells: Sequence[Cell], results: Results
) -> Mapping[tuple[str, ...], tuple[float, float]]:
    """Medians of initial norm and hidden rank by the keys of a cell's networks."""
    found = {}
    out = at_chance(cells, results)
    for cell in (cell for cell in cells if cell not in out):
        networks = results.outcomes(cell)
        norms, ranks = values(networks, initial_norm), values(networks, hidden_rank().value)
        if norms and ranks:
            found[cell.keys] = median(norms), median(ranks)
    return found
