"""Networks at chance: how a measure of them moves says nothing, so no verdict is passed on it."""

from collections.abc import Callable, Sequence

from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.sentences import near_chance
from real_nets.jobs.folder import FINAL, JobFolder
from real_nets.page.numbers import share
from real_nets.paper.grid import Cell as Place
from real_nets.paper.targets.parts import condition

Side = tuple[Place, Sequence[JobFolder]]
"""A cell with its networks, at the end or when they reached an accuracy."""

AT_CHANCE = "did not leave their start or hardly beat guessing on their train images"


def learned(one: JobFolder) -> bool:
    """Whether a network left its start and beats guessing on its train images."""
    if one.snapshot == FINAL and one.summary["outcome"] == "stalled":
        return False
    images = one.summary["train_images"] if one.snapshot == FINAL else one.measure("train.samples")
    return one.train_accuracy is None or _knows(one, one.train_accuracy, "train", int(images or 1))


def probed(one: JobFolder) -> bool:
    """Whether the last layer's probe beats guessing, where there is one."""
    found, images = one.probe_accuracies, one.measure("test.samples")
    return found is None or _knows(one, float(found[-1]), "test", int(images or 1))


def probed_anywhere(one: JobFolder) -> bool:
    """Whether the best layer's probe beats guessing, where there is one."""
    found, images = one.probe_accuracies, one.measure("test.samples")
    return found is None or _knows(one, float(found.max()), "test", int(images or 1))


def probed_outside(one: JobFolder, ood: str) -> bool:
    """Whether the best layer's probe of an OOD set beats guessing, where there is one."""
    found, odds = one.best_ood_accuracy(ood), ood_chance(one, ood)
    if found is None or odds is None:
        return True
    return not near_chance(found, odds, int(one.measure("test.samples") or 1))


def chance(one: JobFolder, split: str) -> float:
    """The odds of guessing, of the images of a split."""
    return records.chance(one.report, split) if one.report else 1 / one.summary["classes"]


def ood_chance(one: JobFolder, ood: str) -> float | None:
    """The odds of guessing, of the test images of an OOD set; None where nothing tells."""
    found = records.ood_chance(one.report, ood) if one.report else None
    card = one.cards.get("ood", {}).get(ood)
    return found or (1 / card["classes"] if card else None)


def _knows(one: JobFolder, accuracy: float, split: str, images: int) -> bool:
    return not near_chance(accuracy, chance(one, split), images)


def no_verdict(*sides: Side) -> str | None:
    """Why networks are not to be compared in anything; None where they are."""
    return _without("no verdict, as networks " + AT_CHANCE, learned, _train_chance, sides)


def no_verdict_on_depth(*sides: Side) -> str | None:
    """Why networks are not to be compared in effective depth; None where they are."""
    why = "no verdict on κ, as the last layer's probe hardly beats guessing"
    return _without(why, probed, lambda one: chance(one, "test"), sides)


def no_verdict_on_drop(ood: str, *sides: Side) -> str | None:
    """Why networks are not to be compared in the OOD drop of a set; None where they are."""
    why = f"no verdict on ρ ({ood}), as the best layer's probe hardly beats guessing"
    return _without(
        why, lambda one: probed_outside(one, ood), lambda one: ood_chance(one, ood) or 0.0, sides
    )


def _train_chance(one: JobFolder) -> float:
    return chance(one, "train")


def _without(
    why: str,
    fit: Callable[[JobFolder], bool],
    odds: Callable[[JobFolder], float],
    sides: Sequence[Side],
) -> str | None:
    """The sentence with the odds of guessing, and how many networks of each side are not fit."""
    if not all(outcomes for _, outcomes in sides):
        return None
    counts = [sum(not fit(one) for one in outcomes) for _, outcomes in sides]
    told = ", ".join(
        f"{count} of {len(outcomes)} ({condition(cell)})"
        for count, (cell, outcomes) in zip(counts, sides, strict=True)
        if count
    )
    return f"{why} ({share(odds(sides[0][1][0]))}): {told}" if told else None
