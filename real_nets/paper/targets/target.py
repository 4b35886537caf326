"""Base class and registry of targets."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, get_args

from matplotlib.figure import Figure

from rankdeficit.diagnostics.measures.probes import Preset
from rankdeficit.experiments.network_figures.runs import FigureRun
from rankdeficit.page import Picture, Section
from rankdeficit.spectrum import GAMMA
from real_nets.jobs.folder import JobFolder
from real_nets.paper import numbers as paper
from real_nets.paper.grid import Cell, Grid, Setup
from real_nets.paper.store import Results

Family = Literal["table", "quick", "figure", "appendix", "other"]
"""Groups of targets in the order of the page; within a group, targets are sorted by title."""

Draw = Callable[[list[FigureRun]], Figure | None]

Computed = Mapping[str, object]
"""Results that need no network, as a JSON object that the target itself reads."""

NAMED = ("model", "data", "temperature", "seed")
"""Job options that are fields of `FigureRun`."""


class Target(ABC):
    """A table, figure or appendix to reproduce: its cells, and its section of the page."""

    name: ClassVar[str]
    """Name on the command line."""
    title: ClassVar[str]
    about: ClassVar[str]
    """Description of its content, a sentence that adds to the title."""
    claim: ClassVar[str]
    """The paper's claim."""
    family: ClassVar[Family] = "other"
    diagnosed: ClassVar[bool] = True
    """Whether it needs diagnoses of the networks, besides measurements during training."""
    presets: ClassVar[Sequence[Preset]] = ()
    """Presets of probes that it needs besides those asked for."""
    compared: ClassVar[bool] = False
    """Whether it also shows pairs at equal train accuracy."""

    def __init_subclass__(cls, exhibit: str = "") -> None:
        """exhibit: name of the paper's table or figure from which title, description and claim come."""
        if exhibit:
            shown = paper.exhibit(exhibit)
            cls.title, cls.about = f"{shown.name}: {shown.title}", shown.shows
            cls.claim = shown.claim

    @abstractmethod
    def cells(self, setup: Setup) -> Grid:
        """Its cells with their jobs, and what was left out."""

    def compute(self, gamma: float = GAMMA) -> Computed:
        """Results that need no network. gamma: threshold of the numerical rank."""
        return {}

    @abstractmethod
    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """Its section of the page, from the records in the store."""


TARGETS: dict[str, Target] = {}
"""Targets by name, in the order of the page."""


def register(kind: type[Target]) -> type[Target]:
    """Decorator that adds a target. Raises ValueError if another target has its name."""
    if kind.name in TARGETS and type(TARGETS[kind.name]).__qualname__ != kind.__qualname__:
        raise ValueError(f"target {kind.name!r} is defined twice; give the second another name")
    found = [*(one for one in TARGETS.values() if one.name != kind.name), kind()]
    TARGETS.clear()
    TARGETS.update({one.name: one for one in sorted(found, key=_place)})
    return kind


def _place(target: Target) -> tuple[int, str]:
    return get_args(Family).index(target.family), target.title


def find(name: str) -> Target:
    """The target of a name. Raises ValueError with close names."""
    if name not in TARGETS:
        close = difflib.get_close_matches(name, TARGETS, n=3)
        hint = f"close names are {', '.join(close)}" if close else "--list shows them all"
        raise ValueError(f"there is no target {name!r}; {hint}")
    return TARGETS[name]


def networks(cells: Sequence[Cell], results: Results) -> list[JobFolder]:
    """The networks of all cells, each once."""
    found = {one.key: one for cell in cells for one in results.outcomes(cell)}
    return list(found.values())


def figure_run(one: JobFolder) -> FigureRun:
    """A finished job as figures take it."""
    job = one.job
    options = {name: value for name, value in job.record().items() if name not in NAMED}
    return FigureRun(
        network=job.model,
        data=job.data,
        temperature=job.temperature,
        seed=job.seed,
        layers=len(one.report["layers"]) if one.report else len(one.summary.get("layers") or []),
        rows=one.rows,
        report=one.report,
        options=options | {"image_size": one.image_size},
    )


def runs(cells: Sequence[Cell], results: Results) -> list[FigureRun]:
    """The networks of all cells as figures take them."""
    return list(map(figure_run, networks(cells, results)))


def picture(figure: Figure | None, caption: str, alt: str = "") -> list[Picture]:
    """The figure with caption and alternative text (by default the caption); empty for no figure."""
    return [] if figure is None else [Picture(figure, caption, alt or caption)]
