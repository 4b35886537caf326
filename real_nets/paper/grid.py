"""Cells of the paper's tables and figures, and the jobs that fill them under a budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from itertools import chain
from typing import Any

from real_nets.jobs.job import Job
from real_nets.models import named_in_paper
from real_nets.paper.budgets import DEFAULT_OOD, GLYPH_OOD, GLYPHS, OOD_SETS, Budget

BASELINE, LOW_NORM = "baseline", "low logit norm"

DATASETS = {
    "CIFAR-10": "cifar10",
    "CIFAR-100": "cifar100",
    "ImageNet-100": "imagenet100",
    "ImageNet-1k": "imagenet",
}
"""The project's names of the paper's data sets."""

IMAGES = {
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "imagenet": (1_281_167, 50_000),
}
"""Train and test images of the published data sets, by the project's names."""

REPLACEABLE = tuple(dict.fromkeys([*DATASETS.values(), *chain(*OOD_SETS.values()), *DEFAULT_OOD]))
"""Data sets that targets take, to learn from or as out-of-distribution sets."""


@dataclass(frozen=True)
class Cell:
    """A network of the paper on a data set of the paper in some condition, trained from several seeds."""

    dataset: str
    network: str
    condition: str
    data: str
    """The data set that was really used."""
    temperature: float
    keys: tuple[str, ...]
    """Folders of its jobs, one per seed."""

    @property
    def name(self) -> str:
        """How `--cells` speaks of it."""
        return f"{self.dataset}/{self.network}"

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Cell":
        """From `asdict`, as JSON gives it back."""
        return cls(**record | {"keys": tuple(record["keys"])})


def matches(name: str, pattern: str) -> bool:
    """Whether a cell's name is meant; capitals do not count."""
    return fnmatch(name.lower(), pattern.lower())


@dataclass
class Setup:
    """What turns the paper's cells into jobs: budget, replaced data sets, what is missing.

    `why_missing` tells of a data set's name why it cannot be opened, None if it can.
    """

    budget: Budget
    why_missing: Callable[[str], str | None]
    replacements: Mapping[str, str] = field(default_factory=dict)
    """Data sets to take instead of others, by the project's names."""
    temperature: float | None = None
    """Of all networks with low logit norm, instead of the budget's."""
    pick: Sequence[str] = ()
    """Patterns of the names of cells; empty for all."""
    jobs: dict[str, Job] = field(default_factory=dict)
    """All jobs of the cells made so far, by key."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Cells and out-of-distribution sets that were left out, with the reason."""
    names: list[str] = field(default_factory=list)
    """Of all cells asked for so far, picked or not."""
    seeds: int | None = None
    """Networks per cell, where so many were asked for: instead of the budget's and of the targets'."""

    @property
    def synthetic(self) -> bool:
        """Whether glyphs stand for all data sets."""
        return self.budget.synthetic

    def cell(
        self,
        dataset: str,
        network: str,
        condition: str = BASELINE,
        *,
        seeds: int | None = None,
        **options: Any,
    ) -> list[Cell]:
        """The cell of the paper's names, or none if it was not picked or its data are missing.

        condition: LOW_NORM trains at the budget's high temperature, all others at T = 1 unless the
        options say otherwise. seeds: instead of the budget's, unless the setup
        has its own. options: of the job, over the budget's.
        """
        name = f"{dataset}/{network}"
        if name not in self.names:
            self.names.append(name)
        if self.pick and not any(matches(name, pattern) for pattern in self.pick):
            return []
        model = named_in_paper(network)
        paper_data = DATASETS.get(dataset, dataset)
        data = self._data(paper_data)
        if reason := self.why_missing(data):
            self.left_out[name] = reason
            return []
        if condition == LOW_NORM:
            hot = self.budget.low_norm_temperature(model)
            options = {"temperature": self.temperature or hot} | options
        job = self.budget.job(paper_data, model, **{"data": data} | options)
        job = replace(job, ood=self._ood(data, OOD_SETS.get(paper_data, DEFAULT_OOD)))
        job.check()
        seeded = [
            replace(job, seed=seed) for seed in range(self.seeds or seeds or self.budget.seeds)
        ]
        self.jobs |= {one.key: one for one in seeded}
        keys = tuple(one.key for one in seeded)
        return [Cell(dataset, network, condition, data, job.temperature, keys)]

    def pair(self, dataset: str, network: str, **options: Any) -> list[Cell]:
        """Baseline and low logit norm."""
        return [
            cell
            for condition in (BASELINE, LOW_NORM)
            for cell in self.cell(dataset, network, condition, **options)
        ]

    def _data(self, name: str) -> str:
        return GLYPHS if self.synthetic else self.replacements.get(name, name)

    def _ood(self, data: str, names: Sequence[str]) -> tuple[str, ...]:
        """Out-of-distribution sets after replacements, less those that are missing or the data itself."""
        if self.synthetic:
            return GLYPH_OOD
        found: list[str] = []
        for name in map(self._data, names):
            if reason := self.why_missing(name):
                self.left_out[f"out-of-distribution set {name}"] = reason
            elif name not in (*found, data):
                found.append(name)
        return tuple(found)
