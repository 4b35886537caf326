"""Cells of the paper's tables and figures, and their jobs under a budget."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from itertools import chain
from typing import Any

from real_nets.data.catalogue import CATALOGUE, Definition, data_of_paper, definition_of
from real_nets.jobs.job import Job
from real_nets.models import MODELS, HighTemperatures, model_of_paper
from real_nets.paper.budgets import GLYPH_OOD, GLYPHS, Budget
from real_nets.paper.numbers import TABLE_1, TABLE_2, TABLE_3

BASELINE, LOW_NORM, OTHER = "baseline", "low logit norm", "other temperature"

NETWORKS = {row.architecture for row in (*TABLE_1, *TABLE_3)} | {
    row.architecture for row in TABLE_2
}
"""Names of the networks in the paper's tables."""


def replaceable() -> list[str]:
    """Data sets that targets use for training or as out-of-distribution sets."""
    trained = data_of_paper().values()
    return list(dict.fromkeys([*trained, *chain(*(CATALOGUE[name].ood for name in trained))]))


@dataclass(frozen=True)
class Cell:
    """A network of the paper on one of its data sets in one condition, trained from several seeds."""

    dataset: str
    network: str
    condition: str
    data: str
    """The data set used."""
    temperature: float
    keys: tuple[str, ...]
    """Folders of its jobs, one per seed."""
    reason: str = ""
    """Why its temperature stands for low logit norm, where it does."""

    @property
    def name(self) -> str:
        """Name for `--cells`."""
        return f"{self.dataset}/{self.network}"

    @property
    def own_data(self) -> bool:
        """Whether the data set used is the paper's."""
        return self.data == data_of_paper().get(self.dataset, self.dataset)

    @property
    def data_name(self) -> str:
        """The paper's data set, or its replacement: "glyphs:50 for CIFAR-10"."""
        return self.dataset if self.own_data else f"{self.data} for {self.dataset}"

    @property
    def label(self) -> str:
        """Condition and temperature, the latter without line breaks."""
        return f"{self.condition}, T\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{self.temperature:g}"

    @property
    def where(self) -> str:
        """Network and data set: "MLP on CIFAR-10"."""
        return f"{self.network} on {self.data_name}"

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Cell":
        """The cell of an `asdict` record read from JSON."""
        return cls(**record | {"keys": tuple(record["keys"])})


def matches(name: str, pattern: str) -> bool:
    """Whether a cell's name matches a pattern, ignoring case."""
    return fnmatch(name.lower(), pattern.lower())


@dataclass(frozen=True)
class Grid:
    """Cells with their jobs, and what was left out."""

    cells: tuple[Cell, ...] = ()
    jobs: Mapping[str, Job] = field(default_factory=dict)
    """Jobs by key."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Reasons by name of the cell or out-of-distribution set that was left out."""
    names: tuple[str, ...] = ()
    """Names of all requested cells, picked or not, each once."""

    @classmethod
    def merged(cls, grids: Iterable["Grid"]) -> "Grid":
        """The union of grids."""
        found = list(grids)
        return cls(
            tuple(cell for grid in found for cell in grid.cells),
            {key: job for grid in found for key, job in grid.jobs.items()},
            {name: reason for grid in found for name, reason in grid.left_out.items()},
            tuple(dict.fromkeys(name for grid in found for name in grid.names)),
        )


@dataclass(frozen=True)
class Setup:
    """Settings that turn cells into jobs: budget, replacements and availability of data sets."""

    budget: Budget
    why_missing: Callable[[str], str | None]
    """Reason why a data set cannot be opened, None if it can."""
    replacements: Mapping[str, str] = field(default_factory=dict)
    """Replacement of data sets, by the project's names."""
    temperature: float | None = None
    """Temperature of all networks with low logit norm; None for the budget's."""
    others: tuple[float, ...] | None = None
    """Further temperatures of all networks; None for the budget's."""
    pick: Sequence[str] = ()
    """Patterns of cell names; empty for all cells."""
    seeds: int | None = None
    """Number of networks per cell; None for that of the target or the budget."""
    further_ood: Sequence[str] = ()
    """Out-of-distribution sets beside the paper's."""

    def __post_init__(self) -> None:
        """Raise ValueError for replacements of data sets that no target uses."""
        for name in self.replacements:
            if name not in replaceable():
                raise ValueError(
                    f"replace names {name!r}; it must be one of {', '.join(replaceable())}, before the ="
                )

    @property
    def synthetic(self) -> bool:
        """Whether glyphs replace all data sets."""
        return self.budget.synthetic

    def cell(
        self,
        dataset: str,
        network: str,
        condition: str = BASELINE,
        *,
        seeds: int | None = None,
        **options: Any,
    ) -> Grid:
        """A cell with its jobs, or no cell if it is not picked or its data are missing.

        dataset, network: the paper's names. condition: LOW_NORM trains at the budget's high temperature,
        all others at T = 1 unless the options say otherwise. seeds: number of networks, unless the setup
        has its own. options: job options that override the budget's. Raises ValueError for invalid
        options and for a missing further out-of-distribution set.
        """
        name = f"{dataset}/{network}"
        if self.pick and not any(matches(name, pattern) for pattern in self.pick):
            return Grid(names=(name,))
        model = model_of_paper(network)
        paper_data = data_of_paper().get(dataset, dataset)
        data = self._data(paper_data)
        if reason := self.why_missing(data):
            return Grid(left_out={name: reason}, names=(name,))
        reason = ""
        if condition == LOW_NORM:
            hot = self.high_temperatures(network)
            options, reason = {"temperature": hot.low_norm} | options, hot.reason
        for own in () if self.synthetic else self.further_ood:
            if gone := self.why_missing(self._data(own)):
                raise ValueError(gone)
        usual = (definition_of(paper_data) or Definition).ood
        ood, left_out = self._ood(data, (*usual, *self.further_ood))
        job = replace(self.budget.job(paper_data, model, **{"data": data} | options), ood=ood)
        job.check()
        count = self.seeds or seeds or self.budget.seeds
        jobs = {one.key: one for one in (replace(job, seed=seed) for seed in range(count))}
        cell = Cell(dataset, network, condition, data, job.temperature, tuple(jobs), reason)
        return Grid((cell,), jobs, left_out, (name,))

    def high_temperatures(self, network: str) -> HighTemperatures:
        """High temperatures of the network that the paper calls so."""
        found = self.budget.high_temperatures(model_of_paper(network))
        if self.temperature is not None:
            found = HighTemperatures(self.temperature, "it was asked for", found.others)
        others = found.others if self.others is None else self.others
        return replace(found, others=tuple(T for T in others if found.low_norm != T))

    def pair(self, dataset: str, network: str, every: bool = False, **options: Any) -> Grid:
        """The cells of a network at T = 1 and at low logit norm.

        every: also the cells at the other temperatures of the budget.
        """
        conditions = (BASELINE, LOW_NORM)
        found = [self.cell(dataset, network, own, **options) for own in conditions]
        for T in self.high_temperatures(network).others if every else ():
            found.append(self.cell(dataset, network, OTHER, **options | {"temperature": T}))
        return Grid.merged(found)

    def pairs(
        self,
        rows: Iterable[tuple[str, str]],
        every: bool = False,
        anywhere: bool = False,
        **options: Any,
    ) -> Grid:
        """The pairs of (data set, network) rows, and of further cells that `pick` names without * and ?.

        Further cells are those of networks absent from the paper; of all networks if `anywhere`.
        """
        added = [
            (dataset, definition.paper_name)
            for pattern in self.pick
            for dataset in data_of_paper()
            for definition in MODELS.values()
            if (anywhere or definition.paper_name not in NETWORKS)
            and pattern.lower() == f"{dataset}/{definition.paper_name}".lower()
        ]
        found = (*rows, *added)
        return Grid.merged(self.pair(*row, every, **options) for row in dict.fromkeys(found))

    def _data(self, name: str) -> str:
        return GLYPHS if self.synthetic else self.replacements.get(name, name)

    def _ood(self, data: str, names: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """Available out-of-distribution sets after replacements, and reasons for those missing.

        The data set of the cell itself is excluded.
        """
        if self.synthetic:
            return GLYPH_OOD, {}
        reasons = {own: self.why_missing(own) for own in map(self._data, names) if own != data}
        missing = {f"out-of-distribution set {own}": why for own, why in reasons.items() if why}
        return tuple(own for own, why in reasons.items() if not why), missing
