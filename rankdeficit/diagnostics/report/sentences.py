"""What a report's measures mean, in plain sentences."""

import math

from rankdeficit.diagnostics.registry import Row, all_measures

GUESSING = 1.5
"""Probes below this many times the odds of chance are uninformative."""


def heading(record: Row) -> str:
    """The network in a line."""
    network, conditions = record["network"], record["conditions"]
    return (
        f"{network['name']}: {len(record['layers'])} layers, {network['classes']} classes, penultimate "
        f"width {network['penultimate_width']}, T = {conditions['temperature']:g}"
    )


def sentences(record: Row) -> list[str]:
    """Each measure's sentences, the number of seeds, and the notes."""
    return [
        *(sentence for measure in all_measures() for sentence in measure.sentences(record)),
        "One network, hence one seed: intervals are over test samples, not over training runs.",
        *(f"Note: {note}." for note in record.get("notes") or ()),
    ]


def near_chance(accuracy: float, chance: float, samples: int) -> bool:
    """Whether a probe is within three standard errors of guessing, or of about its odds.

    chance: the share of the largest class, the accuracy of always naming that class.
    """
    error = math.sqrt(chance * (1 - chance) / samples)
    odds = GUESSING * chance / (1 - chance) if chance < 1 else math.inf
    return accuracy <= chance + 3 * error or accuracy < (1 - accuracy) * odds
