"""A target: cells to fill, and the section that shows what came out."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from matplotlib.figure import Figure

from rankdeficit.spectrum import GAMMA
from real_nets.jobs.folder import JobFolder
from real_nets.page import Picture, Section
from real_nets.page.figures import FigureRun
from real_nets.paper.grid import Cell, Setup
from real_nets.paper.store import Results

TARGETS: dict[str, "Target"] = {}

Draw = Callable[[list[FigureRun]], Figure | None]

NAMED = ("model", "data", "temperature", "seed")
"""Options of jobs that runs of figures have under names of their own."""


class Target(ABC):
    """Something to reproduce. Subclasses say what they are in class attributes."""

    name: ClassVar[str]
    """On the command line."""
    title: ClassVar[str]
    about: ClassVar[str]
    """What it shows, in a line."""
    diagnosed: ClassVar[bool] = True
    """Whether it needs the networks' diagnoses, not only what was measured during training."""
    compared: ClassVar[bool] = False
    """Whether it shows pairs at equal train accuracy, too."""

    @abstractmethod
    def cells(self, setup: Setup) -> list[Cell]:
        """The cells that it needs."""

    def compute(self, gamma: float = GAMMA) -> dict[str, Any]:
        """Results that need no network, as plain values. gamma: threshold of the numerical rank."""
        return {}

    @abstractmethod
    def section(self, cells: Sequence[Cell], results: Results, computed: dict[str, Any]) -> Section:
        """What came out, drawn from files alone."""


def register(kind: type[Target]) -> type[Target]:
    """Make a target known by its name."""
    TARGETS[kind.name] = kind()
    return kind


def find(name: str) -> Target:
    """The target of that name. Raises ValueError with close names."""
    if name not in TARGETS:
        close = difflib.get_close_matches(name, TARGETS, n=3)
        hint = f"close names are {', '.join(close)}" if close else "--list shows them all"
        raise ValueError(f"there is no target {name!r}; {hint}")
    return TARGETS[name]


def networks(cells: Sequence[Cell], results: Results) -> list[JobFolder]:
    """The cells' networks, each once, if cells share it."""
    found = {one.key: one for cell in cells for one in results.outcomes(cell)}
    return list(found.values())


def figure_run(one: JobFolder) -> FigureRun:
    """A network as figures take it."""
    options = {name: value for name, value in one.job.record().items() if name not in NAMED}
    return FigureRun(
        network=one.job.model,
        data=one.job.data,
        temperature=one.job.temperature,
        seed=one.job.seed,
        layers=len(one.report["layers"]) if one.report else len(one.summary.get("layers") or []),
        rows=one.rows,
        report=one.report,
        options=options | {"image_size": one.image_size},
    )


def runs(cells: Sequence[Cell], results: Results) -> list[FigureRun]:
    """The networks of cells as figures take them."""
    return list(map(figure_run, networks(cells, results)))


def drawn(found: list[FigureRun], captions: Mapping[Draw, str]) -> list[Picture]:
    """The figures of runs that have something to draw, each with what is to be seen in it."""
    figures = ((draw(found), caption) for draw, caption in captions.items())
    return [Picture(figure, caption, caption) for figure, caption in figures if figure is not None]


def first_ood(outcomes: Sequence[JobFolder]) -> str | None:
    """The out-of-distribution set on which generalisation is measured."""
    names = outcomes[0].job.ood if outcomes else []
    return names[0] if names else None
