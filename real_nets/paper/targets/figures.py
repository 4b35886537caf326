"""The paper's figures."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from operator import itemgetter
from statistics import median
from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure

from rankdeficit.scaled_logits import random_logits
from rankdeficit.softmax import softmax
from rankdeficit.spectrum import GAMMA, numerical_rank
from real_nets.page import Picture, Section
from real_nets.page import figures as drawn
from real_nets.page.numbers import norm
from real_nets.paper import numbers as paper
from real_nets.paper.chance import Side
from real_nets.paper.compare import Moves, pair_sentences
from real_nets.paper.grid import Cell, Setup
from real_nets.paper.store import Results
from real_nets.paper.targets import figure_moves
from real_nets.paper.targets.parts import (
    accuracies,
    claim,
    initial_norm,
    of_probes,
    unfinished,
    values,
    where,
)
from real_nets.paper.targets.target import Target, register, runs

Runs = list[drawn.FigureRun]

SEEDS = 7
"""Random matrices per rank and scale."""


class PaperFigure(Target):
    """A figure of pairs of trained networks."""

    exhibit: ClassVar[str]
    alt: ClassVar[str]
    moves: ClassVar[Callable[[Side, Side], Moves]]
    """Verdicts on a pair."""

    def cells(self, setup: Setup) -> list[Cell]:
        """Both conditions of every network of the figure."""
        networks = paper.exhibit(self.exhibit).networks
        return [cell for network, data in networks for cell in setup.pair(data, network)]

    @abstractmethod
    def draw(self, found: Runs) -> Figure | None:
        """The figure of these runs; None where they have nothing to draw."""

    def section(self, cells: Sequence[Cell], results: Results, computed: dict[str, Any]) -> Section:
        """One figure per data set and network, and how it moves."""
        pictures = []
        for name in dict.fromkeys(cell.name for cell in cells):
            own = [cell for cell in cells if cell.name == name]
            figure = self.draw(runs(own, results))
            if figure is not None:
                caption = f"{where(own[0])}. {paper.exhibit(self.exhibit).shows}"
                pictures.append(Picture(figure, caption, self.alt))
        said = [claim(self.exhibit), *pair_sentences(cells, results, type(self).moves)]
        return Section(self.name, self.title, said, [], pictures, self.notes(cells, results))

    def notes(self, cells: Sequence[Cell], results: Results) -> list[str]:
        """What is to be known of the networks."""
        return accuracies(cells, results)


@register
class Figure1(PaperFigure):
    """Probes by layer."""

    name, exhibit = "fig1", "Figure 1"
    title = "Figure 1: accuracy of linear probes by layer"
    about = "linear probes on every layer, in and out of distribution"
    alt = "Accuracy of linear probes against the layer, a panel per temperature."
    moves = figure_moves.probes

    def notes(self, cells: Sequence[Cell], results: Results) -> list[str]:
        """Of the probes, too."""
        return of_probes(cells, results)

    def draw(self, found: Runs) -> Figure | None:
        """Drawn from records."""
        return drawn.probe_accuracies(found)


@register
class Figure2(PaperFigure):
    """Logits norm."""

    name, exhibit = "fig2", "Figure 2"
    diagnosed = False
    title = "Figure 2: norm of the logits during training"
    about = "raw and effective norm of the logits during training"
    alt = "Norm of the logits against training epochs, a line per temperature."
    moves = figure_moves.norms

    def draw(self, found: Runs) -> Figure | None:
        """Drawn from records."""
        return drawn.logits_norm(found)


@register
class Figure3(PaperFigure):
    """Alignment and collapse."""

    name, exhibit = "fig3", "Figure 3"
    diagnosed = False
    title = "Figure 3: alignment and collapse during training"
    about = "alignment of weights and inputs, rank and top singular values during training"
    alt = "Alignment above, rank and five singular values below, a column per temperature."
    moves = figure_moves.collapse

    def draw(self, found: Runs) -> Figure | None:
        """Drawn from records."""
        return drawn.alignment_and_collapse(found)


@register
class Figure4(PaperFigure):
    """Gradient ranks."""

    name, exhibit = "fig4", "Figure 4"
    title = "Figure 4: ranks of representations and gradients"
    about = "rank of each layer's input and of its gradient"
    alt = "Rank of input and gradient against the layer, a panel per temperature."
    moves = figure_moves.gradients

    def draw(self, found: Runs) -> Figure | None:
        """Drawn from records."""
        return drawn.layer_and_gradient_ranks(found)


@register
class Figure5(PaperFigure):
    """Ranks around the softmax."""

    name, exhibit = "fig5", "Figure 5"
    diagnosed = False
    title = "Figure 5: ranks before and after the softmax during training"
    about = "rank before and after the softmax, and norm, during training"
    alt = "Rank before and after the softmax and norm against epochs, a panel per temperature."
    moves = figure_moves.around_softmax

    def draw(self, found: Runs) -> Figure | None:
        """Drawn from records."""
        return drawn.ranks_around_softmax(found)


@register
class Figure6(Target):
    """Random low-rank matrices; no network."""

    name = "fig6"
    title = "Figure 6: rank after the softmax of random low-rank matrices"
    about = "rank of softmax(s A B^T) against s; trains nothing"

    def cells(self, setup: Setup) -> list[Cell]:
        """None."""
        return []

    def compute(self, gamma: float = GAMMA) -> dict[str, Any]:
        """Medians and ranges over seeds, n = 100, k = 1 to 5, scales from 1e-4 to 1e4."""
        scales = torch.logspace(-4, 4, 65, dtype=torch.float64)
        rows = []
        for k in range(1, 6):
            logits = random_logits(100, k, range(SEEDS))
            for scale in scales.tolist():
                found = sorted(numerical_rank(softmax(scale * logits).mT, gamma).tolist())
                rows.append(
                    {
                        "k": k,
                        "scale": scale,
                        "rank": found[SEEDS // 2],
                        "low": found[0],
                        "high": found[-1],
                    }
                )
        return {"gamma": gamma, "rows": rows}

    def section(self, cells: Sequence[Cell], results: Results, computed: dict[str, Any]) -> Section:
        """The figure, with where each curve peaks."""
        rows = computed["rows"]
        peaks, flat = [], []
        for k in sorted({row["k"] for row in rows}):
            own = [row for row in rows if row["k"] == k]
            first, best, last = own[0], max(own, key=itemgetter("rank")), own[-1]
            flat += [str(k)] if best["rank"] == first["rank"] else []
            peaks.append(
                f"{best['rank']} at s = {best['scale']:.3g} and {last['rank']} at {last['scale']:.3g} "
                f"(k = {k})"
            )
        figure = drawn.softmax_of_random(rows)
        assert figure is not None
        gamma = computed.get("gamma", GAMMA)  # of records from before it was kept
        caption = f"n = 100, γ = {gamma:g}, medians and ranges of {SEEDS} matrices per rank."
        alt = "Rank after the softmax against the scale, a curve per rank of the logits."
        said = [
            claim("Figure 6"),
            f"Highest rank, and rank at the largest factor: {'; '.join(peaks)}.",
            f"It does not grow with the factor for k = {', '.join(flat)}, unlike in the paper."
            if flat
            else "It grows with the factor for every k, as in the paper, up to where it is highest.",
        ]
        return Section(self.name, self.title, said, [], [Picture(figure, caption, alt)])


@register
class Figure7(PaperFigure):
    """OrthoDev."""

    name, exhibit = "fig7", "Figure 7"
    diagnosed = False
    title = "Figure 7: OrthoDev during training"
    about = "mean |cosine| of class means and out-of-distribution mean during training"
    alt = "OrthoDev against epochs, a line per temperature, a panel per OOD set."
    moves = figure_moves.ortho_dev

    def draw(self, found: Runs) -> Figure | None:
        """Drawn from records."""
        return drawn.ortho_dev(found)


@register
class Figure8(Target):
    """Initial norms of untrained networks."""

    name = "fig8"
    diagnosed = False
    title = "Figure 8: norm of the logits of untrained networks"
    about = "initial norm of the logits of VGG-19 and ResNets; trains nothing"
    networks = ("VGG-19", "ResNet-18", "ResNet-20", "ResNet-34", "MLP")
    seeds = 10

    def cells(self, setup: Setup) -> list[Cell]:
        """Untrained networks of ten seeds, unless another number was asked for."""
        return [
            cell
            for data in ("CIFAR-10", "CIFAR-100")
            for network in self.networks
            for cell in setup.cell(
                data, network, "untrained", seeds=self.seeds, epochs=0, diagnosed_images=1000
            )
        ]

    def section(self, cells: Sequence[Cell], results: Results, computed: dict[str, Any]) -> Section:
        """One panel for all networks of a data set."""
        alt = "Initial norm of the logits per network, a dot per seed."
        pictures, said = [], [claim("Figure 8")]
        for data in dict.fromkeys(cell.data for cell in cells):
            own = {cell.network: cell for cell in cells if cell.data == data}
            found = runs(list(own.values()), results)
            figure = drawn.initial_norms(found)
            if figure is not None:
                pictures.append(Picture(figure, f"Inputs of {data}, T = 1.", alt))
            norms = {
                network: median(starts)
                for network, cell in own.items()
                if (starts := values(results.outcomes(cell), initial_norm))
            }
            if norms:
                listed = ", ".join(f"{network} {norm(value)}" for network, value in norms.items())
                said.append(f"Median initial norm on {data}: {listed}{_lowest(norms)}.")
        return Section(self.name, self.title, said, [], pictures, unfinished(cells, results))


def _lowest(norms: dict[str, float]) -> str:
    """Whether VGG-19 starts below all ResNets that are there."""
    residual = [value for network, value in norms.items() if network.startswith("ResNet")]
    if "VGG-19" not in norms or not residual:
        return ""
    if norms["VGG-19"] < min(residual):
        return "; VGG-19 starts below all ResNets, as in the paper"
    return "; VGG-19 does not start below all ResNets, unlike in the paper"
