"""One ruler for interventions on the logits, of which some act as a temperature."""

from collections.abc import Mapping, Sequence

from rankdeficit.control.ruler import CURVE, Ruler, Trained, distance_from, draw_ruler
from rankdeficit.page import Section
from rankdeficit.page.numbers import decimals, format_norm, format_rank, format_rate, format_share
from real_nets.jobs.folder import JobFolder
from real_nets.models import JobChanges
from real_nets.paper.chance import learned
from real_nets.paper.compare import Measure
from real_nets.paper.grid import Cell, Grid, Setup
from real_nets.paper.measures import (
    CLASS_CENTRED,
    DEPTH,
    DROP,
    TEST_ACCURACY,
    TRAIN_ACCURACY,
    centred_rank,
    initial_norm,
)
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import cell_table, of_probes
from real_nets.paper.targets.target import Computed, Target, picture, register

NETWORKS = (("CIFAR-10", "MLP"), ("CIFAR-100", "MLP"), ("CIFAR-100", "ResNet-18"))
WIDER: Mapping[tuple[str, str], JobChanges] = {("smoke", "ResNet-18"): {"width": 16}}
"""Networks of budgets that would have fewer features than a simplex of 100 classes needs."""
TEMPERATURES = (0.1, 0.3, 1.0, 3.0, 10.0, 50.0, 200.0)

HOT = 50.0
"""Temperature of schedules, from which or to which they lead."""

SPELLED = (
    "logit-norm=0.04", "logit-norm=1", "elogit-norm", "cosine-head=16", "soft-cap=5", "z-loss=0.01",
    "learnable-temperature=1", "simplex-head=1", "encoder-entropy=0.05",
)  # fmt: skip

OTHERS: Mapping[str, JobChanges] = {
    "classifier x 0.1": {"head_scale": 0.1},
    "initial weights x 0.8": {"init_scale": 0.8},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "layer norm of the logits": {"head_norm": "layer"},
    "batch norm of the logits": {"head_norm": "batch"},
    **{spelled: {"intervention": (spelled,)} for spelled in SPELLED},
    " and ".join(SPELLED[-2:]): {"intervention": SPELLED[-2:]},
    "encoder-entropy=0.05, hot": {"intervention": ("encoder-entropy=0.05",), "temperature": HOT},
    **{
        f"schedule {name}": {"temperature": HOT, "temperature_schedule": name}
        for name in ("hot", "up", "down", "cyclic", "cosine")
    },
}
"""Job options of each intervention besides temperature."""


@register
class RulerTarget(Target):
    """Interventions beside the curve of temperature."""

    name = "ruler"
    title = "Interventions on the logits"
    about = (
        "Final rank, κ, ρ, AUROC and ECE against the initial norm, for temperature and its rivals."
    )

    def cells(self, setup: Setup) -> Grid:
        """Every network at every temperature and with every other intervention."""
        changes = [(CURVE, {"temperature": T}) for T in TEMPERATURES] + list(OTHERS.items())
        name, own = setup.budget.name, setup.budget.changes
        if own.get("lr_rule", "matched") != "matched":  # changes of the loss are equivalent to no T
            return Grid(
                left_out={self.title: "they are compared at equal rates; take --lr-rule matched"}
            )
        return Grid.merged(
            setup.cell(
                data, network, condition, **{**WIDER.get((name, network), {}), **own, **options}
            )
            for data, network in NETWORKS
            for condition, options in changes
        )

    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """A table, a figure and verdicts for each network."""
        paragraphs = [
            "An intervention follows the curve if its class-centred rank is that of a temperature with "
            "the same initial effective norm (of the logits that the loss gets), seed by seed."
        ]
        tables, pictures = [], []
        for where in dict.fromkeys(cell.where for cell in cells):
            own = [cell for cell in cells if cell.where == where]
            ruler = Ruler.of([trained(cell, one) for cell in own for one in results.outcomes(cell)])
            if not ruler.placed:
                continue
            paragraphs += [f"{where}. {sentence}" for sentence in ruler.sentences()]
            tables.append(cell_table(where, own, results, measures(own[0], ruler)))
            figure = draw_ruler(ruler, "final class-centred rank")
            pictures += picture(figure, f"{where}. Dashed: temperature alone, a curve per seed.")
        notes = of_probes(cells, results)
        return Section(self.name, self.title, paragraphs, tables, pictures, notes)


def trained(cell: Cell, one: JobFolder) -> Trained:
    """A network as the ruler takes it. Networks that do not beat chance do not count."""
    norm = one.job.norm_seen(initial_norm(one), one.job.temperature)
    name = cell.label if cell.condition == CURVE else cell.condition
    return Trained(cell.condition, name, one.job.seed, norm, centred_rank(one), learned(one))


def measures(cell: Cell, ruler: Ruler) -> list[Measure]:
    """Columns of the table; those on OOD are of the first set."""

    def distance(one: JobFolder) -> float | None:
        return distance_from(ruler.curves.get(one.job.seed, []), trained(cell, one))

    def ood(one: JobFolder) -> str:
        return next(iter(one.job.ood), "")

    return [
        Measure("initial ||M|| / T", initial_norm, format_norm),
        Measure(CLASS_CENTRED, centred_rank, format_rank),
        Measure("ranks above the curve", distance, decimals(1)),
        Measure(DEPTH, lambda one: one.effective_depth, format_share),
        Measure(DROP, lambda one: one.ood_drop(ood(one)), format_share),
        Measure("AUROC of NECO", lambda one: one.neco(ood(one)), format_rate),
        Measure("ECE", lambda one: one.measure("calibration.before.ece"), decimals(3)),
        TRAIN_ACCURACY,
        TEST_ACCURACY,
    ]
