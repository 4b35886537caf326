"""What the paper claims of its figures, judged by the numbers that they are drawn from."""

import math
from collections.abc import Iterable
from statistics import mean

from rankdeficit.spectrum import GAMMA
from real_nets.jobs.folder import JobFolder
from real_nets.page.figures.points import Points, during_training, number, over_layers
from real_nets.page.numbers import norm, rank
from real_nets.paper.chance import Side
from real_nets.paper.compare import Moves, move
from real_nets.paper.targets.parts import Measure
from real_nets.paper.targets.tables import depth_moves, drop_move
from real_nets.paper.targets.target import figure_run

FIRST_EPOCHS = 5.0
"""Those in which the alignment rises, in the paper."""
MANY_CLASSES = 100
"""From so many on, the paper's ranks before the softmax are below those after it."""
SATURATED = 0.95
"""Share of its highest value at which a rank counts as saturated."""


def probes(baseline: Side, low: Side) -> Moves:
    """Figure 1: effective depth and OOD drop."""
    (_, cold), _ = baseline, low
    sets = cold[0].job.ood if cold else []
    return [*depth_moves(baseline, low), *(drop_move(baseline, low, ood) for ood in sets)]


def norms(baseline: Side, low: Side) -> Moves:
    """Figure 2: growth of the logits, in the first epoch and in all."""
    return [
        move(baseline, low, f"the growth of the norm {when}", _growth(epochs), 1, _times)
        for when, epochs in (("in the first epoch", 1.0), ("in all", math.inf))
    ]


def collapse(baseline: Side, low: Side) -> Moves:
    """Figure 3: alignment at first, rank and largest singular value at the end."""
    early = f"the highest alignment of the first {FIRST_EPOCHS:g} epochs"
    ranks, top = _last("layer_ranks", str(GAMMA), -2), _last("layer_singular_values", -2, 0)
    return [
        move(baseline, low, early, _highest("alignment", FIRST_EPOCHS), 1, "{:.2f}".format),
        move(baseline, low, f"the rank of the last hidden layer (γ = {GAMMA:g})", ranks, -1, rank),
        move(baseline, low, "its largest singular value", top, 1, norm),
    ]


def gradients(baseline: Side, low: Side) -> Moves:
    """Figure 4: ranks in the deeper half of the layers, and whether inputs bound those of gradients."""
    return [
        move(baseline, low, f"the mean rank of the {what} in the deeper half", measure, -1, rank)
        for what, measure in (
            ("inputs", _deeper("input")),
            ("gradients", _deeper("gradient")),
        )
    ] + [_bounded([*baseline[1], *low[1]])]


def around_softmax(baseline: Side, low: Side) -> Moves:
    """Figure 5: how far the rank after the softmax is above that before, and how soon it saturates."""
    many = any(one.summary["classes"] >= MANY_CLASSES for one in baseline[1])
    gap, soon = (
        "the rank after the softmax less that before",
        "the epoch at which the former saturates",
    )
    return [
        move(baseline, low, gap, _gap, 1 if many else None, rank),
        move(baseline, low, soon, _saturated, None, "{:.2g}".format),
    ]


def ortho_dev(baseline: Side, low: Side) -> Moves:
    """Figure 7: OrthoDev at the end, on each OOD set."""
    (_, cold), _ = baseline, low
    return [
        move(baseline, low, f"OrthoDev ({ood})", _last("ortho_dev", ood), -1, "{:.3f}".format)
        for ood in (cold[0].job.ood if cold else [])
    ]


def _times(value: float) -> str:
    return f"x {norm(value)}"


def _last(*keys: str | int) -> Measure:
    """A number of the last measurement in training."""

    def measure(one: JobFolder) -> float | None:
        found = number(one.rows[-1], *keys) if one.rows else math.nan
        return found if math.isfinite(found) else None

    return measure


def _trace(one: JobFolder, *keys: str | int) -> Points:
    """(epoch, number) of all measurements that have it."""
    return during_training([figure_run(one)], *keys)


def _growth(epochs: float) -> Measure:
    """Norm of the logits after so many epochs over that of the untrained network."""

    def measure(one: JobFolder) -> float | None:
        found = [value for epoch, value in _trace(one, "logits_norm") if epoch <= epochs]
        return found[-1] / found[0] if len(found) > 1 and found[0] > 0 else None

    return measure


def _highest(name: str, epochs: float) -> Measure:
    return lambda one: max((value for at, value in _trace(one, name) if at <= epochs), default=None)


def _deeper(name: str) -> Measure:
    """Mean rank over the deeper half of the layers."""

    def measure(one: JobFolder) -> float | None:
        found = over_layers([figure_run(one)], name, "rank")
        half = [value for layer, value in found if layer > figure_run(one).layers / 2]
        return mean(half) if half else None

    return measure


def _bounded(outcomes: Iterable[JobFolder]) -> str | None:
    pairs = [
        (inputs[layer], value)
        for one in outcomes
        if (inputs := dict(over_layers([figure_run(one)], "input", "rank")))
        for layer, value in over_layers([figure_run(one)], "gradient", "rank")
    ]
    if not pairs:
        return None
    above = sum(gradient > own for own, gradient in pairs)
    if not above:
        return "no gradient's rank exceeds that of its layer's input, as in the paper"
    return f"{above} of {len(pairs)} gradients exceed the rank of their layer's input, in the paper none"


def _gap(one: JobFolder) -> float | None:
    after, before = (_last(name)(one) for name in ("post_softmax_rank", "rank"))
    return None if after is None or before is None else after - before


def _saturated(one: JobFolder) -> float | None:
    found = _trace(one, "post_softmax_rank")
    highest = max((value for _, value in found), default=0.0)
    return next((epoch for epoch, value in found if value >= SATURATED * highest), None)
