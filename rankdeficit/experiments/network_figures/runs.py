"""Runs as figures see them: points (x, y) from records, panels by network and temperature."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rankdeficit.diagnostics.report import records
from rankdeficit.experiments.panels import Curve, Frame, Look, Panel, Points, Rule, finite, looks
from rankdeficit.page.numbers import WORDS, format_pixels
from rankdeficit.spectrum import GAMMA

Options = Mapping[str, object]
"""Job options by name, as in JSON."""


@dataclass(frozen=True)
class FigureRun:
    """A trained network with the records that figures draw."""

    network: str
    data: str
    temperature: float
    seed: int
    layers: int
    rows: Sequence[Mapping[str, Any]]
    """Measurements during training, in the order of steps."""
    report: records.Row | None = None
    """The record of `rankdeficit.diagnose`."""
    options: Options = field(default_factory=dict)
    """All other options of the job."""

    @property
    def gamma(self) -> float:
        """Threshold of the numerical rank."""
        found = number(self.options, "gamma")
        return GAMMA if math.isnan(found) else found


class Case(NamedTuple):
    """Key of the runs that differ only in seed and temperature."""

    network: str
    data: str
    options: str = "{}"
    """All other options, as JSON."""

    @classmethod
    def of(cls, run: FigureRun) -> "Case":
        """The case of a run."""
        options = json.dumps(run.options, sort_keys=True)
        return cls(run.network, run.data, options)


def cases(runs: Iterable[FigureRun]) -> dict[Case, str]:
    """Cases in the order of the runs, with titles that distinguish them: "MLP on CIFAR-10, 64 px"."""
    found = list(dict.fromkeys(map(Case.of, runs)))
    titles = {}
    for case in found:
        alike = [json.loads(one.options) for one in found if one[:2] == case[:2]]
        own = json.loads(case.options)
        options = [_spelled(name, own.get(name)) for name in _distinguishing(alike)]
        titles[case] = ", ".join([f"{case.network} on {case.data}", *options])
    return titles


def of_case(runs: Iterable[FigureRun], case: Case) -> list[FigureRun]:
    """The runs of a case."""
    return [run for run in runs if Case.of(run) == case]


def _distinguishing(options: Sequence[Options]) -> list[str]:
    """Names of a minimal set of options that distinguishes these; image_size is preferred."""
    chosen: list[str] = []
    names = {name for own in options for name in own}
    for name in sorted(names, key=lambda name: (name != "image_size", name)):
        if _kinds(options, [*chosen, name]) > _kinds(options, chosen):
            chosen.append(name)
    return chosen


def _kinds(options: Sequence[Options], names: Sequence[str]) -> int:
    """Number of different combinations of the named options."""
    return len({json.dumps([own.get(name) for name in names]) for own in options})


def _spelled(name: str, value: Any) -> str:
    if name == "image_size" and value is not None:
        return f"{format_pixels(value)} px"
    if value is None or isinstance(value, bool):
        value = WORDS[value]
    texts = map(str, value) if isinstance(value, list) else [str(value)]
    return f"{name.replace('_', ' ')} {' '.join(texts) or 'none'}"


def at_temperature(runs: Iterable[FigureRun], temperature: float) -> list[FigureRun]:
    """The runs at a temperature."""
    return [run for run in runs if run.temperature == temperature]


def over_training(runs: Iterable[FigureRun], *keys: str | int) -> Points:
    """Points (epoch, number below the keys) of all measurements that have the number."""
    rows = [row for run in runs for row in run.rows]
    return finite((number(row, "epoch"), number(row, *keys)) for row in rows)


def over_layers(runs: Iterable[FigureRun], *keys: str | int) -> Points:
    """Points (layer from 1, number below the keys) of all layers of reports that have the number."""
    return finite(
        (float(i), number(layer, *keys))
        for run in runs
        for i, layer in enumerate((run.report or {}).get("layers") or (), start=1)
    )


def number(node: Any, *keys: str | int) -> float:
    """The number at a path of keys and list positions; NaN if there is none."""
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
    """A panel per case (network, data, options) with all its temperatures.

    curves: maps the runs at one temperature, their label and look to curves.
    rules: maps all runs of a panel to its lines.
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

    panel: maps the runs at one temperature, their title and look to a panel.
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
    """Lines at the class-centred rank that Neural Collapse predicts, according to the reports."""
    ranks = {records.predicted_rank(run.report) for run in runs if run.report}
    return [Rule(float(rank), "Neural Collapse, class-centred") for rank in sorted(ranks)]
