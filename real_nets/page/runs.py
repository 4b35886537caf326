"""What figures draw of runs: points (x, y) from their records, panels per network and temperature."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rankdeficit.diagnostics.report.records import predicted_rank
from rankdeficit.experiments.panels import Curve, Frame, Look, Panel, Points, Rule, finite, looks
from rankdeficit.page.numbers import WORDS, format_pixels

Row = dict[str, Any]


@dataclass(frozen=True)
class FigureRun:
    """What figures draw of one trained network."""

    network: str
    data: str
    temperature: float
    seed: int
    layers: int
    rows: Sequence[Mapping[str, Any]]
    """Its measurements during training, in the order of steps."""
    report: Row | None = None
    """The record of `rankdeficit.diagnose`."""
    options: Row = field(default_factory=dict)
    """All other options of its job."""


class Case(NamedTuple):
    """What runs have in common that differ in seed and temperature alone."""

    network: str
    data: str
    options: str = "{}"
    """All others, as JSON."""

    @classmethod
    def of(cls, run: FigureRun) -> "Case":
        """The case of a run."""
        options = json.dumps(run.options, sort_keys=True)
        return cls(run.network, run.data, options)


def cases(runs: Iterable[FigureRun]) -> dict[Case, str]:
    """Cases in the order of the runs, with titles that tell them apart: "MLP on CIFAR-10, 64 px"."""
    found = list(dict.fromkeys(map(Case.of, runs)))
    titles = {}
    for case in found:
        alike = [json.loads(one.options) for one in found if one[:2] == case[:2]]
        own = json.loads(case.options)
        told = [_spelled(name, own.get(name)) for name in _telling(alike)]
        titles[case] = ", ".join([f"{case.network} on {case.data}", *told])
    return titles


def of_case(runs: Iterable[FigureRun], case: Case) -> list[FigureRun]:
    """Those of this case."""
    return [run for run in runs if Case.of(run) == case]


def _telling(options: Sequence[Row]) -> list[str]:
    """Names of a few options that tell these apart; the size of images is the first choice."""
    chosen: list[str] = []
    names = {name for own in options for name in own}
    for name in sorted(names, key=lambda name: (name != "image_size", name)):
        if _kinds(options, [*chosen, name]) > _kinds(options, chosen):
            chosen.append(name)
    return chosen


def _kinds(options: Sequence[Row], names: Sequence[str]) -> int:
    """How many of them differ in these."""
    return len({json.dumps([own.get(name) for name in names]) for own in options})


def _spelled(name: str, value: Any) -> str:
    if name == "image_size" and value is not None:
        return f"{format_pixels(value)} px"
    if value is None or isinstance(value, bool):
        value = WORDS[value]
    texts = map(str, value) if isinstance(value, list) else [str(value)]
    return f"{name.replace('_', ' ')} {' '.join(texts) or 'none'}"


def at_temperature(runs: Iterable[FigureRun], temperature: float) -> list[FigureRun]:
    """Those at this one."""
    return [run for run in runs if run.temperature == temperature]


def over_training(runs: Iterable[FigureRun], *keys: str | int) -> Points:
    """(epoch, number) of all measurements that have one below the keys."""
    rows = [row for run in runs for row in run.rows]
    return finite((number(row, "epoch"), number(row, *keys)) for row in rows)


def over_layers(runs: Iterable[FigureRun], *keys: str | int) -> Points:
    """(layer from 1, number) of all layers of reports that have one below the keys."""
    return finite(
        (float(i), number(layer, *keys))
        for run in runs
        for i, layer in enumerate((run.report or {}).get("layers") or (), start=1)
    )


def number(node: Any, *keys: str | int) -> float:
    """The number below the keys, which may be positions in lists; NaN where there is none."""
    for key in keys:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return math.nan
    return math.nan if node is None else float(node)


def case_panels(
    runs: Sequence[FigureRun],
    frame: Frame,
    curves: Callable[[list[FigureRun], str, Look], list[Curve]],
    rules: Callable[[list[FigureRun]], list[Rule]] = lambda own: [],
) -> list[Panel]:
    """A panel per case (network, data, options), with all temperatures in it.

    curves: of the runs at one temperature, given its label and look. rules: of all runs of a panel.
    """
    panels = []
    for case, title in cases(runs).items():
        own, drawn = of_case(runs, case), []
        for temperature, look in looks(run.temperature for run in runs).items():
            drawn += curves(at_temperature(own, temperature), f"T = {temperature:g}", look)
        panels.append(Panel(title, frame, drawn, rules=rules(own)))
    return panels


def temperature_grid(
    runs: Sequence[FigureRun], panel: Callable[[list[FigureRun], str, Look], Panel]
) -> list[list[Panel]]:
    """A row of panels per case (network, data, options), a column per temperature.

    panel: of the runs at one temperature, given its title and look.
    """
    return [
        [
            panel(own, f"{title}\nT = {temperature:g}", look)
            for temperature, look in looks(run.temperature for run in runs).items()
            if (own := at_temperature(of_case(runs, case), temperature))
        ]
        for case, title in cases(runs).items()
    ]


def neural_collapse(runs: Iterable[FigureRun]) -> list[Rule]:
    """A line at the rank that Neural Collapse predicts, as far as reports tell."""
    ranks = {predicted_rank(run.report) for run in runs if run.report}
    return [Rule(float(rank), "Neural Collapse") for rank in sorted(ranks)]
