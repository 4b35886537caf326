"""Figure 8: logits norm of untrained networks."""

from collections.abc import Mapping, Sequence
from statistics import median

from rankdeficit.experiments.network_figures.during_training import initial_norms
from rankdeficit.page import Section
from rankdeficit.page.numbers import format_norm
from real_nets.paper.compare import Measure, values
from real_nets.paper.grid import Cell, Grid, Setup
from real_nets.paper.measures import initial_norm, initial_norm_in_evaluation
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import cell_table, unfinished
from real_nets.paper.targets.target import Computed, Target, picture, register, runs

LOWEST = "VGG-19"
"""The network that starts below all ResNets in the paper."""

MODES = {"training": initial_norm, "evaluation": initial_norm_in_evaluation}
"""BatchNorm has the statistics of the images, or its initial running averages."""


@register
class Figure8(Target, exhibit="Figure 8"):
    """Initial logits norm of VGG-19, ResNets and MLP."""

    name = "fig8"
    family = "figure"
    diagnosed = False
    networks = (LOWEST, "ResNet-18", "ResNet-20", "ResNet-34", "MLP")
    seeds = 10

    def cells(self, setup: Setup) -> Grid:
        """Untrained networks, by default of ten seeds."""
        options = {"seeds": self.seeds, "epochs": 0, "diagnosed_images": 1000}
        return Grid.merged(
            setup.cell(data, network, "untrained", **options)
            for data in ("CIFAR-10", "CIFAR-100")
            for network in self.networks
        )

    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """A figure per data set, and a sentence on the order of the networks."""
        alt = "Initial norm of the logits per network and mode, a dot per seed."
        pictures, paragraphs = [], []
        for data in dict.fromkeys(cell.data for cell in cells):
            own = {cell.network: cell for cell in cells if cell.data == data}
            figure = initial_norms(runs(list(own.values()), results))
            pictures += picture(figure, f"Inputs of {data}, T = 1.", alt)
            for mode, norm in MODES.items():
                starts = {name: values(results.outcomes(cell), norm) for name, cell in own.items()}
                below = starts_lowest(
                    {name: median(found) for name, found in starts.items() if found}
                )
                if below is not None:
                    how, beside = ("starts", "as") if below else ("does not start", "unlike")
                    paragraphs.append(
                        f"On {data}, {LOWEST} {how} below all ResNets in {mode} mode, {beside} in the "
                        "paper."
                    )
        measures = [
            Measure(f"initial norm, {mode} mode", norm, format_norm) for mode, norm in MODES.items()
        ]
        table = cell_table("Norm of the logits", cells, results, measures)
        result = " ".join(paragraphs)
        paragraphs.append(f"The paper's claim: {self.claim}")
        notes = unfinished(cells, results)
        return Section(self.name, self.title, paragraphs, [table], pictures, notes, result)


def starts_lowest(norms: Mapping[str, float]) -> bool | None:
    """Whether VGG-19 starts below all ResNets; None if either is missing."""
    residual = [value for network, value in norms.items() if network.startswith("ResNet")]
    return norms[LOWEST] < min(residual) if LOWEST in norms and residual else None
