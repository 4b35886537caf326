"""What a report's measures mean, in plain sentences."""

import math
import re
from collections.abc import Iterable

from rankdeficit.diagnostics.registry import Row, all_measures
from rankdeficit.experiments.tables import INTERPOLATION

GUESSING = 1.5
"""Probes below this many times the odds of chance are uninformative."""


def title(record: Row) -> str:
    """Network, data and temperature, for pages and figures."""
    data = record["conditions"].get("data")
    on = f" on {data}" if data else ""
    return f"{record['network']['name']}{on}, T = {record['conditions']['temperature']:g}"


def heading(record: Row) -> str:
    """The network in a line."""
    network, conditions = record["network"], record["conditions"]
    width = network["penultimate_width"]
    told = "" if width is None else f"penultimate width {width}, "
    on = f" on {conditions['data']}" if conditions.get("data") else ""
    return (
        f"{network['name']}{on}: {len(record['layers'])} layers, {network['classes']} classes, {told}"
        f"T = {conditions['temperature']:g}"
    )


def sentences(record: Row) -> list[str]:
    """What the layers are, each measure's sentences, what limits all of them, and the notes."""
    return [
        *layer_sentences(record),
        *(sentence for measure in all_measures() for sentence in measure.sentences(record)),
        *limits(record),
        *(f"Note: {note}." for note in record.get("notes") or ()),
    ]


def limits(record: Row) -> list[str]:
    """What several measures presuppose, told once and only where such a measure was taken."""
    lines, accuracy = [], record["train"]["accuracy"]
    if accuracy < INTERPOLATION and (
        record["train"].get("logits") or record.get("neural_collapse")
    ):
        lines.append(
            f"Train accuracy is {100 * accuracy:.4g}%. Ranks of the logits and Neural Collapse say "
            f"little about networks that do not interpolate (at least {INTERPOLATION:.1%})."
        )
    if record.get("effective_depth") or record.get("ood_drop"):
        lines.append(
            "Intervals are over test samples of this one network, without the spread over seeds."
        )
    return lines


def layer_sentences(record: Row) -> list[str]:
    """Which weight layers are one layer with another, and which are none."""
    network, lines = record["network"], []
    if together := network.get("counted_with"):
        listed = shortened(f"{quoted([name])} with {quoted(own)}" for name, own in together.items())
        lines.append(f"Counted as one layer: {'; '.join(listed)}.")
    for reason in dict.fromkeys((left_out := network.get("left_out") or {}).values()):
        names = shortened(quoted([name]) for name, own in left_out.items() if own == reason)
        lines.append(f"Weight layers left out ({reason}): {', '.join(names)}.")
    return lines


def quoted(names: Iterable[str]) -> str:
    """Names of modules in quotes, since many are numbers: "0", "fc"."""
    return ", ".join(f'"{name}"' for name in names)


def shortened(names: Iterable[str]) -> list[str]:
    """Names in their order; those that differ in their numbers alone are one, with their count."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    return [
        own[0] if len(own) == 1 else f"{pattern} ({len(own)} times)"
        for pattern, own in alike.items()
    ]


def near_chance(accuracy: float, chance: float, samples: int) -> bool:
    """Whether a probe is within three standard errors of guessing, or of about its odds.

    chance: the share of the largest class, the accuracy of always naming that class.
    """
    error = math.sqrt(chance * (1 - chance) / samples)
    odds = GUESSING * chance / (1 - chance) if chance < 1 else math.inf
    return accuracy <= chance + 3 * error or accuracy < (1 - accuracy) * odds
