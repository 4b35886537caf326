"""Checks that a network or its probes beat chance; without them a measure bears no verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.sentences import near_chance
from real_nets.jobs.folder import FINAL, JobFolder


class Cause(Enum):
    """Why there is no verdict."""

    NOT_MEASURED = "not measured on both sides"
    UNTRAINED = "networks stalled or near chance on their train images"
    LAST_PROBE = "last layer's probe near chance"
    ALL_PROBES = "probes of all layers near chance"
    OOD_PROBES = "OOD probes of all layers near chance"
    FULL_RANK = "class means of full rank, of which the claim does not speak"


@dataclass(frozen=True)
class Check:
    """A condition that a network must meet for a verdict."""

    cause: Cause
    """Cause of having no verdict if a network fails."""
    passed: Callable[[JobFolder], bool]
    chance: Callable[[JobFolder], float] | None = None
    """Accuracy of chance, where the condition refers to it."""


def learned(one: JobFolder) -> bool:
    """Whether a network has not stalled and beats chance on its train images."""
    at_end = one.snapshot == FINAL
    if at_end and one.summary["outcome"] == "stalled":
        return False
    images = one.summary["train_images"] if at_end else one.measure("train.samples")
    return one.train_accuracy is None or _beats(one, one.train_accuracy, "train", images)


def deficient(one: JobFolder) -> bool:
    """Whether the class means of a network with low logit norm are of less than full rank."""
    found, full = (
        one.measure(f"neural_collapse.{name}_rank") for name in ("retained", "predicted")
    )
    return one.job.temperature <= 1 or found is None or full is None or found < full


def probed_outside(one: JobFolder, ood: str) -> bool:
    """Whether the best layer's probe of an OOD set beats chance; true if there is none."""
    found, odds = one.best_ood_accuracy(ood), ood_chance(one, ood)
    if found is None or odds is None:
        return True
    return not near_chance(found, odds, int(one.measure("test.samples") or 1))


def chance(one: JobFolder, split: str) -> float:
    """Accuracy of chance on a split."""
    return records.chance(one.report, split) if one.report else 1 / one.summary["classes"]


def ood_chance(one: JobFolder, ood: str) -> float | None:
    """Accuracy of chance on the test images of an OOD set; None if not recorded."""
    found = records.ood_chance(one.report, ood) if one.report else None
    card = one.cards.get("ood", {}).get(ood)
    return found or (1 / card["classes"] if card else None)


def _beats(one: JobFolder, accuracy: float, split: str, images: float | int | None) -> bool:
    return not near_chance(accuracy, chance(one, split), int(images or 1))


DEFICIENT = Check(Cause.FULL_RANK, deficient)
LEARNED = Check(Cause.UNTRAINED, learned, lambda one: chance(one, "train"))


def _probe(cause: Cause, chosen: Callable[[Tensor], Tensor]) -> Check:
    """Check that the chosen probe accuracy beats chance; networks without probes pass."""

    def passed(one: JobFolder) -> bool:
        found, images = one.probe_accuracies, one.measure("test.samples")
        return found is None or _beats(one, float(chosen(found)), "test", images)

    return Check(cause, passed, lambda one: chance(one, "test"))


LAST_PROBE = _probe(Cause.LAST_PROBE, lambda found: found[-1])
ANY_PROBE = _probe(Cause.ALL_PROBES, lambda found: found.max())


def ood_probe(ood: str) -> Check:
    """Check that the best layer's probe of an OOD set beats chance."""
    return Check(
        Cause.OOD_PROBES,
        lambda one: probed_outside(one, ood),
        lambda one: ood_chance(one, ood) or 0.0,
    )
