"""An experiment: one decorated class, from which the frame makes a command.

    @experiment
    class Walk(StepByStep[Settings]):
        \"\"\"Where does a random walk end?\"\"\"

        settings = Settings

        def prepare(self, settings): ...              # the batches to train; raises ValueError
        def summarise(self, settings, batches, path): ...
        def report(self, summary): ...                # a table and sentences
        def figures(self, rows, summary): ...         # figures by name, from records alone

    if __name__ == "__main__":
        Walk().main()

The frame adds --help, the run folder, resuming, the printed table and the saved figures.
"""

import importlib
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

from matplotlib.figure import Figure
from rich.table import Table

from rankdeficit.experiments import cli, figure_style, tables
from rankdeficit.experiments.loops import Batch, measured_steps, train_together, work_through
from rankdeficit.experiments.recorded_settings import settings_record
from rankdeficit.experiments.records import Run, load_run, write_summary
from rankdeficit.experiments.runs import RunFolder, read_json, read_rows
from rankdeficit.experiments.settings import CommonSettings, Row, TrainingSettings

S = TypeVar("S", bound=CommonSettings)
R = TypeVar("R", bound=TrainingSettings)
P = TypeVar("P")
U = TypeVar("U")
B = TypeVar("B", bound=Batch)
E = TypeVar("E", bound=type["Experiment[Any, Any]"])


class Experiment(ABC, Generic[S, P]):
    """The parts of an experiment. The first line of its docstring is the question that it answers."""

    settings: ClassVar[type[Any]]
    """The settings dataclass, whose fields are the command's options."""
    program: ClassVar[str]
    """The name of the command, from the module that defines it."""

    def complete(self, settings: S) -> S:
        """Settings that mean the same wherever the run is resumed, for example with absolute paths."""
        return settings

    @abstractmethod
    def prepare(self, settings: S) -> P:
        """Build what the work needs; raises ValueError for bad settings before any folder exists."""

    @abstractmethod
    def work(self, settings: S, prepared: P, folder: RunFolder, resumed: bool) -> Row:
        """Do the work, with rows and checkpoints in the folder; the summary."""

    @abstractmethod
    def report(self, summary: Row) -> tuple[Table, Sequence[str]]:
        """The table and the sentences that are printed."""

    @abstractmethod
    def figures(self, rows: Sequence[Row], summary: Row) -> Mapping[str, Figure]:
        """Figures by name, from the run's rows and summary alone."""

    def build(self, settings: S) -> P:
        """Check the settings and prepare. Raises ValueError for settings that make no sense."""
        settings.check_common()
        return self.prepare(settings)

    def run(self, settings: S) -> Path:
        """Prepare, work in a run folder, print, draw; returns the folder."""
        settings = self.complete(settings)
        prepared = None if settings.resume else self.build(settings)
        name = self.program.rpartition(".")[2]
        folder, settings, resumed = cli.open_run(settings, self.program, name)
        with closing(folder), cli.resumable(folder, self.program):
            if prepared is None:
                prepared = self.build(settings)
            summary = self.work(settings, prepared, folder, resumed)
            write_summary(folder, summary)
            folder.write_environment(cli.resolve_device(settings.device))
            tables.print_report(*self.report(summary))
            self.draw(folder.path)
            tables.print_sentences([f"Figures and records are in {folder.path}."])
        return folder.path

    def results(self, settings: S) -> Run:
        """The record of a run of these settings, whose folder is gone; nothing is printed or drawn.

        Raises ValueError as `build`, and for settings that name a folder.
        """
        if settings.out or settings.resume:
            raise ValueError(
                "settings name a folder (out or resume); use run, and load_run to read it"
            )
        settings = self.complete(settings)
        prepared = self.build(settings)
        with TemporaryDirectory() as scratch:
            record = settings_record(settings, cli.NOT_RECORDED)
            folder = RunFolder.create(Path(scratch) / "run", self.program, record)
            with closing(folder):
                write_summary(folder, self.work(settings, prepared, folder, resumed=False))
            return load_run(folder.path)

    def draw(self, path: Path) -> None:
        """Draw the figures of a run folder from its files alone."""
        with figure_style.default_style():
            figures = self.figures(read_rows(path), read_json(path / "summary.json"))
            for name, figure in figures.items():
                figure_style.save(figure, path / f"{name}.png")

    def main(self) -> None:
        """Run as a command."""
        cli.main(self.settings, self.run, self.program)


class StepByStep(Experiment[R, Sequence[B]]):
    """An experiment whose runs train side by side in batches, step by step."""

    leave_out: ClassVar[Iterable[str]] = ()
    """Measures that are too bulky for the rows during training."""

    @abstractmethod
    def prepare(self, settings: R) -> Sequence[B]:
        """The batches to train."""

    @abstractmethod
    def summarise(self, settings: R, batches: Sequence[B], path: Path) -> Row:
        """The summary, from the trained batches and the rows in the run folder."""

    def work(self, settings: R, prepared: Sequence[B], folder: RunFolder, resumed: bool) -> Row:
        """Train all batches."""
        train_together(
            prepared,
            folder,
            resumed,
            steps=settings.steps,
            measured=measured_steps(settings.steps, settings.measure_every),
            checkpoint_every=settings.checkpoint_every,
            device=cli.resolve_device(settings.device),
            leave_out=self.leave_out,
        )
        return self.summarise(settings, prepared, folder.path)


class UnitByUnit(Experiment[S, Sequence[U]]):
    """An experiment of independent units of work, one after the other."""

    units: ClassVar[str] = "units"
    """What the units are called while they are counted."""

    @abstractmethod
    def prepare(self, settings: S) -> Sequence[U]:
        """The units of work."""

    @abstractmethod
    def compute(self, settings: S, unit: U) -> Iterable[Row]:
        """The rows of one unit."""

    @abstractmethod
    def summarise(self, settings: S, rows: list[Row]) -> Row:
        """The summary, from all rows."""

    def work(self, settings: S, prepared: Sequence[U], folder: RunFolder, resumed: bool) -> Row:
        """Go through all units."""
        work_through(
            prepared, lambda unit: self.compute(settings, unit), folder, resumed, self.units
        )
        return self.summarise(settings, read_rows(folder.path))


def experiment(kind: E) -> E:
    """Make a class an experiment: check that it is complete, and name its command by its module."""
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    missing += [] if hasattr(kind, "settings") else ["settings"]
    if missing or not vars(kind).get("__doc__"):
        raise TypeError(f"{kind.__name__} needs {', '.join(missing) or 'a docstring'}")
    kind.program = kind.__module__
    if kind.__module__ == "__main__":
        main = sys.modules["__main__"]
        kind.program = main.__spec__.name if main.__spec__ else Path(str(main.__file__)).stem
    return kind


def find_experiments(package: ModuleType) -> dict[str, type[Experiment[Any, Any]]]:
    """All experiments that the modules of a package define, by program."""
    found = {}
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if not info.name.endswith("__main__"):
            for value in vars(importlib.import_module(info.name)).values():
                if isinstance(value, type) and vars(value).get("program") == info.name:
                    found[info.name] = value
    return found


@dataclass(frozen=True)
class Nothing:
    """List the experiments of this package. Each is a command of its own with --help."""


def list_experiments(package: ModuleType) -> None:
    """The command that lists a package's experiments, a line each."""
    found = find_experiments(package)
    width = max(map(len, found))
    lines = [
        f"{program:{width}}  {(kind.__doc__ or '').splitlines()[0]}"
        for program, kind in found.items()
    ]
    text = "\n".join(lines)
    cli.main(Nothing, lambda _: print(text), package.__name__, details=text)
