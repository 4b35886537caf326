"""What to try: from signs of trouble in a report to a remedy, each a small rule that cites its evidence.

A rule is a function from a record to what it found, or None, decorated with `@rule`. How often each is
right is in ADVICE.md.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.drawing import get
from rankdeficit.diagnostics.report.records import Row
from rankdeficit.experiments.tables import INTERPOLATION

STALLED = 0.02
"""Distance of the train loss from ln c, as a share of it, up to which a training has stalled."""

SMALL_NORM, SMALL_LOSS = 1.0, 0.5
"""An effective logits norm below the first is small, and a loss above the second times ln c large."""

COLLAPSED = 0.9
"""A class-centred rank below this share of min(c - 1, width) is collapsed."""

WIDE = 0.25
"""Spread of the class-centred rank over gamma, as a share of min(c - 1, width), from which it is wide."""

OVER_CONFIDENT = 1.1
"""Ratio of the temperature fitted on held-out samples to that of training, from which it is too large."""


class Advice(NamedTuple):
    """A sign of trouble, and what to try."""

    name: str
    found: str
    remedy: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.name}: {self.found}. Try {self.remedy}. Evidence: {self.evidence}."


Rule = Callable[[Row], str | None]


class _Entry(NamedTuple):
    holds: Rule
    remedy: str
    evidence: str


_RULES: dict[str, _Entry] = {}


def rule(name: str, remedy: str, evidence: str) -> Callable[[Rule], Rule]:
    """Make a function a rule: it returns what it found in a record, or None."""

    def decorate(function: Rule) -> Rule:
        _RULES[name] = _Entry(function, remedy, evidence)
        return function

    return decorate


def advice(record: Row) -> list[Advice]:
    """Advice of all rules on a record; rules whose measures are missing give none."""
    found = {name: own.holds(record) for name, own in _RULES.items()}
    return [
        Advice(name, text, _RULES[name].remedy, _RULES[name].evidence)
        for name, text in found.items()
        if text is not None
    ]


def rules() -> list[str]:
    """Names of the rules, in the order in which they are told."""
    return list(_RULES)


@rule(
    "stalled",
    "a lower temperature, larger initial logits, a higher learning rate or longer training",
    "the logits must grow to about T before the loss falls (paper, section 4)",
)
def stalled(record: Row) -> str | None:
    """The train loss is near ln c and the effective logits norm is small."""
    norm, share = _norm(record), _loss_share(record)
    if norm is None or share is None or norm >= SMALL_NORM or abs(share - 1) > STALLED:
        return None
    return f"the train loss is {share:.3f} ln c and the logits norm over T {norm:.2g}"


@rule(
    "small logits",
    "longer training or a lower temperature",
    "the loss is at least what the logits norm allows (proofs/loss_needs_norm.md)",
)
def small_logits(record: Row) -> str | None:
    """The logits have left zero, but their effective norm is small and the train loss large."""
    norm, share = _norm(record), _loss_share(record)
    if norm is None or share is None or norm >= SMALL_NORM:
        return None
    if share <= SMALL_LOSS or abs(share - 1) <= STALLED:
        return None
    return f"the logits norm over T is {norm:.2g}, and the train loss still {share:.2f} ln c"


@rule(
    "collapsed",
    "a lower temperature, or larger initial logits",
    "the class-centred rank of ResNet-18 on 100 classes is lower at T = 10 and 30 than at T = 1 "
    "(real_nets/results/FINDINGS.md)",
)
def collapsed(record: Row) -> str | None:
    """The class-centred rank is low at a temperature above 1."""
    return _rank_deficit(record) if record["conditions"]["temperature"] > 1 else None


@rule(
    "collapsed at baseline",
    "fewer layers or less weight decay",
    "in toy models the rank falls with depth and weight decay at T = 1 (simulations.phase_diagram)",
)
def collapsed_at_baseline(record: Row) -> str | None:
    """The class-centred rank is low at T = 1 or below."""
    return _rank_deficit(record) if record["conditions"]["temperature"] <= 1 else None


@rule(
    "not interpolating",
    "longer training or another learning rate before ranks are compared",
    "ranks still move before networks fit their data (real_nets/results/FINDINGS.md, at equal accuracy)",
)
def not_interpolating(record: Row) -> str | None:
    """The network does not fit its train samples, so that its ranks are not final."""
    accuracy = record["train"]["accuracy"]
    if accuracy is None or accuracy >= INTERPOLATION or not record["train"].get("logits"):
        return None
    return f"train accuracy is {accuracy:.2%}"


@rule(
    "rank depends on gamma",
    "comparing the curves over gamma, or stable ranks, instead of one number",
    "at equal accuracy T = 100 lowers the class-centred rank of ResNet-20 on a tenth of CIFAR-10 at "
    "gamma = 1e-2 alone (real_nets/results/FINDINGS.md)",
)
def depends_on_gamma(record: Row) -> str | None:
    """The class-centred rank at thresholds up to 1e-2 differs much."""
    found = record["train"].get("logits") or {}
    if "centred_rank_curve" not in found or not found["centred_rank_curve"]:
        return None
    curve = records.rank_over_gamma(record, found, "centred_rank")
    ranks = [rank for gamma, rank in curve.items() if gamma <= 1e-2 and rank is not None]
    if not ranks or max(ranks) - min(ranks) <= WIDE * records.predicted_rank(record):
        return None
    return f"the class-centred rank goes from {max(ranks)} to {min(ranks)} over gamma up to 1e-2"


@rule(
    "over-confident",
    "temperature scaling with the fitted temperature when probabilities are used",
    "Guo et al., 2017; `calibration.after` has the held-out result",
)
def over_confident(record: Row) -> str | None:
    """Temperatures fitted on held-out samples exceed that of training."""
    fitted = (record.get("calibration") or {}).get("temperatures")
    T = record["conditions"]["temperature"]
    if not fitted or None in fitted or min(fitted) < OVER_CONFIDENT * T:
        return None
    return f"held-out samples want a temperature of {min(fitted):.3g}, training had {T:g}"


@rule(
    "transfer lost",
    "the features of that layer for transfer to other data; detection may still prefer the last layer",
    "hot ResNets lose OOD generalisation, while detection moves either way "
    "(real_nets/results/FINDINGS.md; Harun et al., 2025)",
)
def transfer_lost(record: Row) -> str | None:
    """The last layer has a lower OOD probe accuracy than the best one, beyond the spread over samples."""
    told = []
    for name, own in sorted((record.get("ood_drop") or {}).items()):
        if own and own["interval"][0] > 0:
            best = max(
                record["layers"], key=lambda layer: get(layer, "ood_probes", name, "accuracy")
            )
            told.append(f"{own['value']:.0%} of that of layer {best['name']} on {name}")
    return f"the last layer loses OOD probe accuracy: {', '.join(told)}" if told else None


def _norm(record: Row) -> float | None:
    found: float | None = (record["train"].get("logits") or {}).get("effective_logits_norm")
    return found


def _loss_share(record: Row) -> float | None:
    """Train loss over that of uniform predictions, ln c."""
    loss: float | None = record["train"]["loss"]
    return None if loss is None else loss / math.log(record["network"]["classes"])


def _rank_deficit(record: Row) -> str | None:
    found, predicted = record["train"].get("logits") or {}, records.predicted_rank(record)
    rank = found.get("centred_rank")
    if rank is None or record["train"]["samples"] <= predicted or rank >= COLLAPSED * predicted:
        return None
    return f"the class-centred logits have rank {rank}, where Neural Collapse predicts {predicted}"
