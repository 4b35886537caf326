"""Figures from the records of runs alone; each is None where the records have nothing to draw.

Runs that differ in nothing but their seed are seeds of one network: lines are their medians, bands
their ranges.
"""

from real_nets.page.figures.during_training import (
    alignment_and_collapse,
    initial_norms,
    logits_norm,
    ortho_dev,
    ranks_around_softmax,
)
from real_nets.page.figures.of_matrices import softmax_of_random
from real_nets.page.figures.points import FigureRun
from real_nets.page.figures.when_trained import (
    TradeOffPoint,
    layer_alignments,
    layer_and_gradient_ranks,
    probe_accuracies,
    rank_over_gamma,
    trade_off,
    trade_off_points,
)

__all__ = [
    "FigureRun",
    "TradeOffPoint",
    "alignment_and_collapse",
    "initial_norms",
    "layer_alignments",
    "layer_and_gradient_ranks",
    "logits_norm",
    "ortho_dev",
    "probe_accuracies",
    "rank_over_gamma",
    "ranks_around_softmax",
    "softmax_of_random",
    "trade_off",
    "trade_off_points",
]
