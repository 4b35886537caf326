"""Sweeps: settings that differ in numeric options, spelled NAME=VALUE,VALUE,..."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any, NamedTuple, TypeVar, get_type_hints

from matplotlib.figure import Figure

from rankdeficit.experiments.figure_style import (
    band,
    set_log_scale,
    temperature_colour,
    with_legend_below,
)
from rankdeficit.experiments.options import option, parse_pairs
from rankdeficit.experiments.settings import CommonSettings, Row, TrainingSettings

S = TypeVar("S", bound=CommonSettings)
Values = Mapping[str, float | int]


class Variant(NamedTuple):
    """One choice of the swept options."""

    values: Values
    """By field."""
    settings: Any
    """The settings with these values."""

    @property
    def name(self) -> str:
        """As in tables: lr 0.01, width 64."""
        return ", ".join(f"{spelled(name)} {value:g}" for name, value in self.values.items())


def variants(settings: S, sweep: Sequence[str]) -> list[Variant]:
    """All combinations of the swept options; without any, the settings themselves.

    sweep: NAME=VALUE,VALUE,... of options, spelled as on the command line without dashes in front.
    Raises ValueError for names that are not `sweepable`, for options that have no effect beside the
    others, for values that are not numbers (or not whole where the option is), and for anything that is
    given twice.
    """
    swept = sweepable(type(settings))
    choices = {
        _field(name, swept): values for name, values in parse_pairs("--sweep", sweep).items()
    }
    for name, reason in settings.unused().items():
        if name in choices:
            raise ValueError(f"a sweep of {_dashed(name)} has no effect {reason}")
    if len(choices) < len(sweep):
        raise ValueError("sweep names an option twice; give all its values at once, as lr=0.01,0.1")
    numbers = [_numbers(name, text, swept[name]) for name, text in choices.items()]
    combinations: list[dict[str, Any]] = [
        dict(zip(choices, values, strict=True)) for values in product(*numbers)
    ]
    return [Variant(own, replace(settings, **own)) for own in combinations]


def sweepable(kind: type[CommonSettings]) -> dict[str, type[int] | type[float]]:
    """The numeric fields that settings add to those of every training, with int or float for each."""
    hints, common = get_type_hints(kind), {own.name for own in fields(TrainingSettings)}
    numeric: dict[Any, type[int] | type[float]] = {
        int: int, int | None: int, float: float, float | None: float,
    }  # fmt: skip
    return {
        own.name: numeric[hints[own.name]]
        for own in fields(kind)
        if own.name not in common and hints[own.name] in numeric
    }


def spelled(field: str) -> str:
    """A field in words."""
    return field.replace("_", " ")


def ranks_over_options(runs: Sequence[Row], swept: Sequence[str], gamma: float) -> Figure:
    """Final class-centred rank against each swept option; medians with the range of all else."""
    figure = Figure(figsize=(1.0 + 3.6 * len(swept), 3.6))
    panels = figure.subplots(1, len(swept), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, swept, strict=True):
        for temperature in sorted({run["temperature"] for run in runs}):
            own = [run for run in runs if run["temperature"] == temperature]
            colour = temperature_colour(temperature)
            band(axes, own, name, "centred_rank", colour, f"T = {temperature:g}")
            if axes.lines:
                axes.lines[-1].set(marker="o", markersize=3)
        values = {run[name] for run in runs}
        if min(values) > 0 and max(values) >= 10 * min(values):
            set_log_scale(axes, "x")
        axes.set(xlabel=spelled(name), ylim=(0, None))
    panels[0].set_ylabel(f"class-centred rank at the end, γ = {gamma:g}")
    return with_legend_below(figure, columns=4)


def _field(name: str, swept: Mapping[str, object]) -> str:
    field = name.replace("-", "_")
    if field not in swept:
        raise ValueError(
            f"sweep has no option {name!r}; choose from {', '.join(map(_dashed, swept))}"
        )
    return field


def _dashed(field: str) -> str:
    return option(field).removeprefix("--")


def _numbers(name: str, text: str, kind: type[int] | type[float]) -> list[int] | list[float]:
    try:
        numbers = [kind(value) for value in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(
            f"sweep has {_dashed(name)}={text}; pass {what} with commas between them"
        ) from None
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"sweep has a value of {_dashed(name)} twice: {text}")
    return numbers
