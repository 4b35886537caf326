"""What a measure is, and the registry in which `diagnose` and its reports find all of them.

A measure is one class in one file: what it needs of the passes over the data, its numbers, and how they
are shown. Files in `rankdeficit.diagnostics.measures` are found by themselves; others register when they
are imported.
"""

import difflib
import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from matplotlib.figure import Figure
from rich.table import Table

from rankdeficit.diagnostics.reading.needs import Needs, Samples
from rankdeficit.diagnostics.study import Study

Row = dict[str, Any]
Draw = Callable[[Row], Figure | None]
"""From a record to a figure; None where the record lacks the measure."""

LAST = 1000
"""Place of measures that have none of their own."""


@dataclass(frozen=True)
class Column:
    """A column of a table whose rows are data sets, layers, or a measure's own."""

    heading: str
    cell: Callable[[Any], str | None]
    """The text for one row; None where there is nothing to show."""
    note: str = ""
    """A sentence for the caption of the table."""


@dataclass(frozen=True)
class Values:
    """Plain numbers of a measure, by their place in the record."""

    sections: Mapping[str, Any] = field(default_factory=dict)
    """By name: report[name]."""
    data: Mapping[str, Row] = field(default_factory=dict)
    """Fields of `train` and `test`: report["train.name"]."""
    layers: Mapping[str, Row] = field(default_factory=dict)
    """Fields of each layer, by its name: report["layers.conv1.name"]."""


@dataclass(frozen=True)
class Blank:
    """Fields that a record has where the measure was not taken."""

    sections: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, Any] = field(default_factory=dict)


class Measure(ABC):
    """One measure of a network. The first line of a subclass's docstring is its help."""

    name: str
    source: str
    """Where it is defined."""
    place: int = LAST
    """Order of columns, tables, figures and sentences."""
    needs: Needs = Needs()
    """What is read of each data set."""
    requires: tuple[str, ...] = ()
    """Measures that are taken before this one."""
    switch: ClassVar[str] = ""
    """Argument of `diagnose` that switches the measure off when it is false."""
    blank: ClassVar[Blank] = Blank()
    figures: tuple[tuple[str, Draw], ...] = ()
    """Names of the files, each with the function that draws its figure."""

    @property
    def help(self) -> str:
        """What is measured, in one line."""
        return (self.__doc__ or "").strip().partition("\n")[0]

    def prepare(self, study: Study) -> Any:
        """Work in which all processes take part; its result is kept in `study.prepared[name]`."""
        return None

    @abstractmethod
    def values(self, study: Study) -> Values:
        """The numbers, in the first process only."""

    def data_columns(self, record: Row) -> list[Column]:
        """Columns of the table of train and test samples; cells get `record["train"]`, say."""
        return []

    def layer_columns(self, record: Row) -> list[Column]:
        """Columns of the table of layers; cells get an item of `record["layers"]`."""
        return []

    def tables(self, record: Row) -> list[Table]:
        """Tables of its own; empty where the record lacks the measure."""
        return []

    def sentences(self, record: Row) -> list[str]:
        """What the numbers mean; empty where the record lacks the measure."""
        return []


_MEASURES: dict[str, Measure] = {}
M = TypeVar("M", bound=type[Measure])


def measure(name: str, place: int = LAST) -> Callable[[M], M]:
    """Decorate a subclass of `Measure`: `diagnose`, its reports and the listing find it by its name."""

    def decorate(kind: M) -> M:
        own = kind()
        own.name, own.place = name, place
        register(own, kind)
        return kind

    return decorate


def register(own: Measure, source: Any) -> None:
    """Add the measure that `source` defines; the same source again replaces it.

    Raises ValueError for a name that is taken or has a dot, and for a measure without help.
    """
    identity = f"{source.__module__}.{source.__qualname__}"
    if own.name in _MEASURES and _MEASURES[own.name].source != identity:
        raise ValueError(
            f"name is {own.name!r}, which {_MEASURES[own.name].source} has; choose another one"
        )
    if not own.name or "." in own.name:
        raise ValueError(f"name is {own.name!r}; it must not be empty or have a dot")
    if not own.help:
        raise ValueError(f"measure {own.name!r} has no docstring; its first line is the help")
    own.source = identity
    _MEASURES[own.name] = own


def all_measures() -> list[Measure]:
    """Every registered measure, in the order in which they are shown."""
    _discover()
    return sorted(_MEASURES.values(), key=lambda own: (own.place, own.name))


def available_measures() -> dict[str, str]:
    """Names of all measures that `diagnose` takes, each with a line of help."""
    return {own.name: own.help for own in all_measures()}


def check_measures(names: Iterable[str]) -> None:
    """Raise ValueError for a name that no measure has, listing close ones."""
    known = available_measures()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=5, cutoff=0.4) or list(known)
            raise ValueError(
                f"measures has {name!r}, which is unknown; close names: {', '.join(close)}"
            )


def with_required(names: Iterable[str]) -> list[Measure]:
    """These measures and those that they require, each after what it requires.

    Raises ValueError as `check_measures`.
    """
    names = list(names)
    check_measures(names)
    chosen: dict[str, Measure] = {}

    def add(own: Measure) -> None:
        for required in own.requires:
            add(_MEASURES[required])
        chosen.setdefault(own.name, own)

    for own in all_measures():
        if own.name in names:
            add(own)
    return list(chosen.values())


def choose(names: Iterable[str] | None, switches: Mapping[str, Any]) -> list[Measure]:
    """The measures that `diagnose` takes, each after what it requires.

    names: None takes all, except those that a false switch leaves out and those that require them.
    switches: arguments of `diagnose` by name; gradients follow the alignment where they are None.
    Raises ValueError for unknown names, and for one that a false switch leaves out.
    """
    if isinstance(names, str):
        raise ValueError(f"measures is {names!r}; it must be a list of names, [{names!r}]")
    off = {name for name, value in switches.items() if value is False}
    if names is not None:
        chosen = with_required(names)
        for own in chosen:
            if own.switch in off:
                raise ValueError(
                    f"{own.switch} is False, but the measures asked for need {own.name}; leave out "
                    "one of the two"
                )
        return chosen
    if switches.get("gradients") is None and "alignment" in off:
        off.add("gradients")
    return [
        own
        for own in with_required(available_measures())
        if not any(needed.switch in off for needed in with_required([own.name]))
    ]


def unused_options(chosen: Iterable[Measure], with_ood: bool) -> dict[str, str]:
    """Options of a diagnosis that have no effect on these measures, with the reason and a remedy.

    with_ood: whether there are OOD data.
    """
    chosen = list(chosen)
    names = {own.name for own in chosen}
    needs = Needs.of(own.needs for own in chosen)
    read = {need.of for need in (*needs.train, *needs.ood_pair) if not isinstance(need, Samples)}
    used = {
        "ood": bool(needs.ood or needs.ood_pair),
        "detectors": "detection" in names,
        "grid": bool(read & {"features", "probed"}),
        "convention": bool(names & {"layer_ranks", "penultimate"}),
        "probe_l2": any(own.switch == "probes" for own in chosen),
        "probe_preset": any(own.switch == "probes" for own in chosen),
    }
    remedy = "on the chosen measures; add others with --measures"
    found = {name: remedy for name, has in used.items() if not has}
    return found if with_ood else found | {"detectors": "without OOD data; give --ood FOLDER"}


@functools.cache
def _discover() -> None:
    package = importlib.import_module("rankdeficit.diagnostics.measures")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
