"""A target: cells to fill, and the section that shows what came out."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

from matplotlib.figure import Figure

from rankdeficit.page import Picture, Section
from rankdeficit.spectrum import GAMMA
from real_nets.jobs.folder import JobFolder
from real_nets.page.runs import FigureRun
from real_nets.paper.grid import Cell, Grid, Setup
from real_nets.paper.store import Results

Family = Literal["table", "quick", "figure", "appendix", "other"]
"""Groups of targets in the order in which they are shown; within a group titles are sorted."""

Draw = Callable[[list[FigureRun]], Figure | None]

Computed = Mapping[str, Any]
"""Results without networks, as JSON has them."""

NAMED = ("model", "data", "temperature", "seed")
"""Options of jobs that runs of figures have under names of their own."""


class Target(ABC):
    """Something to reproduce. Subclasses describe themselves in class attributes."""

    name: ClassVar[str]
    """On the command line."""
    title: ClassVar[str]
    about: ClassVar[str]
    """What it shows, in a line."""
    family: ClassVar[Family] = "other"
    diagnosed: ClassVar[bool] = True
    """Whether it needs the networks' diagnoses, not only what was measured during training."""
    compared: ClassVar[bool] = False
    """Whether it shows pairs at equal train accuracy, too."""

    @abstractmethod
    def cells(self, setup: Setup) -> Grid:
        """The cells that it needs, with their jobs and what was left out."""

    def compute(self, gamma: float = GAMMA) -> Computed:
        """Results that need no network. gamma: threshold of the numerical rank."""
        return {}

    @abstractmethod
    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """What came out, drawn from files alone."""


TARGETS: dict[str, Target] = {}
"""All targets by name, in the order in which they are shown."""


def register(kind: type[Target]) -> type[Target]:
    """Make a target known by its name. Raises ValueError if another one has it."""
    if kind.name in TARGETS and type(TARGETS[kind.name]).__qualname__ != kind.__qualname__:
        raise ValueError(f"there is a target {kind.name!r} already; name this one otherwise")
    found = [*(one for one in TARGETS.values() if one.name != kind.name), kind()]
    TARGETS.clear()
    TARGETS.update({one.name: one for one in sorted(found, key=_place)})
    return kind


def _place(target: Target) -> tuple[int, str]:
    return get_args(Family).index(target.family), target.title


def find(name: str) -> Target:
    """The target of that name. Raises ValueError with close names."""
    if name not in TARGETS:
        close = difflib.get_close_matches(name, TARGETS, n=3)
        hint = f"close names are {', '.join(close)}" if close else "--list shows them all"
        raise ValueError(f"there is no target {name!r}; {hint}")
    return TARGETS[name]


def networks(cells: Sequence[Cell], results: Results) -> list[JobFolder]:
    """The networks of cells, each once where cells share it."""
    found = {one.key: one for cell in cells for one in results.outcomes(cell)}
    return list(found.values())


def figure_run(one: JobFolder) -> FigureRun:
    """A network as figures take it."""
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
    """The networks of cells as figures take them."""
    return list(map(figure_run, networks(cells, results)))


def picture(figure: Figure | None, caption: str, alt: str = "") -> list[Picture]:
    """The figure with its caption, which is its text for screen readers, too; empty for no figure."""
    return [] if figure is None else [Picture(figure, caption, alt or caption)]
