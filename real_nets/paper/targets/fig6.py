"""Figure 6: rank after the softmax of random low-rank matrices."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from rankdeficit.experiments.panels import MARKERS, Curve, Frame, Look, Panel, draw, logarithmic
from rankdeficit.page import Column, Section, Table, TableCell
from rankdeficit.scaled_logits import random_logits
from rankdeficit.softmax import softmax
from rankdeficit.spectrum import GAMMA, numerical_rank
from real_nets.paper.grid import Cell, Grid, Setup
from real_nets.paper.store import Results
from real_nets.paper.targets.target import Computed, Target, picture, register

SEEDS = 7
"""Number of random matrices per rank and scale."""


class ScaledRank(NamedTuple):
    """Rank after the softmax of random matrices of rank k multiplied by a scale."""

    k: int
    """Rank of the matrices."""
    scale: float
    rank: int
    """Median over matrices; `low` and `high` are the range."""
    low: int
    high: int


class ScaledRanks(NamedTuple):
    """What the figure shows, and the threshold of its ranks."""

    rows: list[ScaledRank]
    gamma: float = GAMMA

    @classmethod
    def of(cls, computed: Computed) -> "ScaledRanks":
        """From what `compute` returns; early records lack gamma. Raises ValueError for other objects."""
        found: Any = computed
        try:
            return cls([ScaledRank(**row) for row in found["rows"]], found.get("gamma", GAMMA))
        except (KeyError, TypeError) as error:
            raise ValueError(f"the record of fig6 is damaged ({error}); run fig6 again") from error


@register
class Figure6(Target, exhibit="Figure 6"):
    """Rank after the softmax against the scale."""

    name = "fig6"
    family = "figure"

    def cells(self, setup: Setup) -> Grid:
        """No cells."""
        return Grid()

    def compute(self, gamma: float = GAMMA) -> Computed:
        """Medians and ranges over random 100 x 100 matrices, k = 1 to 5, scales from 1e-4 to 1e4."""
        scales = torch.logspace(-4, 4, 65, dtype=torch.float64)
        rows: list[ScaledRank] = []
        for k in range(1, 6):
            logits = random_logits(100, k, range(SEEDS))
            for scale in scales.tolist():
                found = sorted(numerical_rank(softmax(scale * logits).mT, gamma).tolist())
                middle = found[SEEDS // 2]
                rows.append(ScaledRank(k, scale, middle, found[0], found[-1]))
        return {"gamma": gamma, "rows": [row._asdict() for row in rows]}

    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """The figure, and a table of the maximum of each curve."""
        rows, gamma = ScaledRanks.of(computed)
        table = peaks(rows)
        flat = [row[0].text for row in table.rows if row[1].text == row[2].text]
        claim = f"The paper's claim: {self.claim}"
        headline = (
            f"The rank does not grow with the factor for k = {', '.join(flat)}, unlike in the paper."
            if flat
            else "The rank grows with the factor for every k, as in the paper, up to its peak."
        )
        caption = f"n = 100, γ = {gamma:g}, medians and ranges of {SEEDS} matrices per rank."
        alt = "Rank after the softmax against the scale, a curve per rank of the logits."
        pictures = picture(softmax_of_random(rows), caption, alt)
        return Section(
            self.name, self.title, [headline, claim], [table], pictures, headline=headline
        )


def softmax_of_random(rows: Sequence[ScaledRank]) -> Figure | None:
    """Rank after the softmax against the scale of random logits, a curve per rank of the logits."""
    ranks = sorted({row.k for row in rows})
    colours = colormaps["viridis"](np.linspace(0, 0.85, len(ranks)))
    curves = []
    for i, (k, colour) in enumerate(zip(ranks, colours, strict=True)):
        own = [row for row in rows if row.k == k]
        points = [
            (row.scale, float(value)) for row in own for value in (row.low, row.rank, row.high)
        ]
        curves.append(Curve(points, f"rank of M: {k}", Look(colour, MARKERS[i]), every=0.08))

    scales = [lambda axes: axes.set_xscale("log"), logarithmic]
    frame = Frame("factor s", "numerical rank of softmax(sM)", scales)
    return draw([[Panel("", frame, curves)]])


def peaks(rows: Sequence[ScaledRank]) -> Table:
    """Rank at the smallest scale, highest rank with its scale, and rank at the largest scale."""
    titles = ("k", "at the smallest s", "highest", "at s =", "at the largest s")
    found = []
    for k in sorted({row.k for row in rows}):
        own = [row for row in rows if row.k == k]
        best = max(own, key=attrgetter("rank"))
        numbers = (k, own[0].rank, best.rank, f"{best.scale:.3g}", own[-1].rank)
        found.append([TableCell(str(each)) for each in numbers])
    return Table("Rank after the softmax of s A B^T, of rank k", list(map(Column, titles)), found)
