"""Figures from the records of runs alone; each is None where the records have nothing to draw.

A run is a dict: label, temperature, seed, network, data, layers; options, all others of its job, or
none; rows, its measurements during training in the order of steps; report, the record of
`rankdeficit.diagnose`, or None. Runs that differ in nothing but their seed are seeds of one network:
lines are their medians, bands their ranges.
"""

from real_nets.page.figures.during_training import (
    alignment_and_collapse,
    initial_norms,
    logits_norm,
    ortho_dev,
    ranks_around_softmax,
)
from real_nets.page.figures.of_matrices import softmax_of_random
from real_nets.page.figures.when_trained import (
    layer_alignments,
    layer_and_gradient_ranks,
    probe_accuracies,
    rank_over_gamma,
    trade_off,
    trade_off_points,
)

__all__ = [
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
