"""The plan of a command: its targets' cells, their jobs, and the diagnoses needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rankdeficit.diagnostics.measures.probes import Preset
from real_nets.jobs.execute import Work
from real_nets.jobs.folder import FINAL, OURS, diagnosis_name, milestone_name
from real_nets.paper.compare import equal_accuracy
from real_nets.paper.grid import Grid, Setup, matches
from real_nets.paper.store import Results, job_folder
from real_nets.paper.targets import Target


@dataclass(frozen=True)
class Part:
    """A target with its grid of cells."""

    target: Target
    grid: Grid


@dataclass(frozen=True)
class Plan:
    """Targets with their grids, and the store of their jobs."""

    parts: tuple[Part, ...]
    store: Path
    preset: Preset = OURS
    """Of the probes."""

    @classmethod
    def of(
        cls, targets: Sequence[Target], setup: Setup, store: Path, preset: Preset = OURS
    ) -> "Plan":
        """The plan of targets under a setup."""
        return cls(tuple(Part(target, target.cells(setup)) for target in targets), store, preset)

    def check(self, pick: Sequence[str]) -> None:
        """Raise ValueError for patterns that match no cell, and if all cells were left out."""
        names, left_out = self.grid.names, self.grid.left_out
        for pattern in pick:
            if not any(matches(name, pattern) for name in names):
                known = ", ".join(names) or "none, as these targets have no cells"
                raise ValueError(f"cells {pattern!r} matches none; there are {known}")
        if left_out and not self.grid.jobs:
            name, reason = next(iter(left_out.items()))
            raise ValueError(
                f"nothing to train: {len(left_out)} left out, the first of them {name}: {reason}"
            )

    @cached_property
    def grid(self) -> Grid:
        """The cells of all targets."""
        return Grid.merged(part.grid for part in self.parts)

    @property
    def left_out(self) -> dict[str, str]:
        """Reasons by name of the cell, out-of-distribution set or target that is left out."""
        unpicked = {
            part.target.name: f"--cells picks none of its cells, which are {', '.join(part.grid.names)}"
            for part in self.parts
            if part.grid.names and not part.grid.cells and not part.grid.left_out
        }
        return {**self.grid.left_out, **unpicked}

    @cached_property
    def work(self) -> list[Work]:
        """All jobs. Jobs of diagnosed targets include the diagnoses of their final weights."""
        wanted: dict[str, list[str]] = {}
        for part in self.parts:
            presets = (OURS, self.preset, *part.target.presets) if part.target.diagnosed else ()
            for key in (key for cell in part.grid.cells for key in cell.keys):
                wanted.setdefault(key, []).extend(diagnosis_name(FINAL, own) for own in presets)
        return [
            Work(job, job_folder(self.store, key), tuple(dict.fromkeys(wanted.get(key, ()))))
            for key, job in self.grid.jobs.items()
        ]

    def at_equal_accuracy(self) -> list[Work]:
        """Missing diagnoses of weights kept at the highest train accuracy common to a pair."""
        results = Results(self.store)
        wanted: dict[str, list[str]] = {}
        for part in self.parts:
            found = equal_accuracy(part.grid.cells, results) if part.target.compared else {}
            for accuracy, cells in found.items():
                for key in (one.key for cell in cells for one in results.outcomes(cell)):
                    own = (diagnosis_name(milestone_name(accuracy), p) for p in (OURS, self.preset))
                    wanted.setdefault(key, []).extend(own)
        work = [
            Work(self.grid.jobs[key], job_folder(self.store, key), tuple(dict.fromkeys(names)))
            for key, names in wanted.items()
        ]
        return [item for item in work if not item.done]
