"""A store: the folder in which jobs of many targets live side by side, each trained once.

    jobs/KEY/          a folder per job (see `real_nets.jobs.run`)
    targets/NAME.json  which cells a target has, the keys of their jobs, and what was left out
    report.html        the page on all of them
    submitit/          logs of tasks, where jobs were such

One process (or group of them) works in a store at a time.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rankdeficit.experiments.runs import read_json, write_json
from real_nets.jobs.folder import JobFolder
from real_nets.paper.grid import Cell

JOBS_FOLDER = "jobs"
"""Folder of a store in which every job has its own."""
LOCK = ".lock"
TARGETS_FOLDER = "targets"
PAGE = "report.html"
LOGS = "submitit"
"""Folder of the logs of tasks."""
RUN_SETTINGS = "settings.json"
"""What the run folder of another program has."""


@dataclass(frozen=True)
class TargetRecord:
    """What is kept of a target besides its jobs."""

    name: str
    budget: str
    cells: list[Cell]
    left_out: dict[str, str]
    computed: dict[str, Any]


def job_folder(store: Path, key: str) -> Path:
    """Where a job lives."""
    return store / JOBS_FOLDER / key


def check_place(store: Path) -> None:
    """Raise ValueError where no store can be: a file, a folder of something else, one without permission.

    Nothing is written.
    """
    above = next(path for path in (store, *store.parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        reason = "Permission denied" if above.is_dir() else f"{above} is a file"
        raise _not_writable(store, reason)
    if store.is_dir() and (found := _in_the_way(store)):
        raise ValueError(
            f"--out {store} holds something else than results of real_nets.reproduce (it has {found}); "
            "name a new folder"
        )


def _in_the_way(folder: Path) -> str | None:
    """What tells that something else is in a folder: of another program, or where results would go."""
    begun = any((folder / name).is_dir() for name in (JOBS_FOLDER, TARGETS_FOLDER))
    for name in (RUN_SETTINGS, *(() if begun else (PAGE,))):
        if (folder / name).exists():
            return name
    return next((name for name in (JOBS_FOLDER, TARGETS_FOLDER) if (folder / name).is_file()), None)


def check_free(store: Path) -> None:
    """Raise ValueError where another process has the store."""
    if (store / LOCK).is_file():
        with locked(store):
            pass


def _not_writable(store: Path, reason: str) -> ValueError:
    return ValueError(
        f"--out {store} cannot be written ({reason}); name a folder that you may write to"
    )


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """The store for this process alone. Raises ValueError where it cannot be, or another has it."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = FileLock(store / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"{store} is in use by another process; wait for it, stop it, or name another --out"
        ) from error
    except OSError as error:
        raise _not_writable(store, error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()


def write_target(store: Path, record: TargetRecord) -> None:
    """Keep a target's record.

    Networks on data that an older one of the same budget has, and this one has not, stay: a table can
    be filled one part after the other.
    """
    (store / TARGETS_FOLDER).mkdir(exist_ok=True)
    file = store / TARGETS_FOLDER / f"{record.name}.json"
    if file.is_file():
        try:
            old = _read(file)
            record = _merged(old, record)
            _tell_replaced(old, record, file)
        except ValueError:
            said = "was damaged and now holds the networks of this run alone; run others again"
            print(f"{file} {said}", file=sys.stderr, flush=True)
    write_json(file, asdict(record))


def _tell_replaced(old: TargetRecord, new: TargetRecord, file: Path) -> None:
    """Say which cells are gone: those of another budget, and those whose options changed."""
    kept = {key for cell in new.cells for key in cell.keys}
    gone = [
        f"{cell.name} ({cell.condition}, T = {cell.temperature:g})"
        for cell in old.cells
        if not kept.issuperset(cell.keys)
    ]
    if gone:
        told = f"{file} no longer shows {', '.join(gone)}: this run replaces that"
        print(f"{told}; the networks stay in {JOBS_FOLDER}", file=sys.stderr, flush=True)


def _merged(old: TargetRecord, new: TargetRecord) -> TargetRecord:
    if old.budget != new.budget:
        return new
    filled = {cell.name for cell in new.cells}
    kept = [cell for cell in old.cells if cell.name not in filled]
    names = filled | {cell.name for cell in kept}
    left_out = {name: why for name, why in old.left_out.items() if kept and name not in names}
    return replace(new, cells=[*kept, *new.cells], left_out=left_out | new.left_out)


def read_targets(store: Path, order: Sequence[str]) -> list[TargetRecord]:
    """All records of a store, those of known names, in that order.

    Raises ValueError for a folder without any, and naming a damaged file.
    """
    files = {path.stem: path for path in (store / TARGETS_FOLDER).glob("*.json")}
    found = [_read(files[name]) for name in order if name in files]
    if not found:
        raise ValueError(
            f"{store} holds no results; name the --out folder of a run of real_nets.reproduce"
        )
    return found


def _read(path: Path) -> TargetRecord:
    record = read_json(path)
    try:
        cells = [Cell.of(cell) for cell in record["cells"]]
        return TargetRecord(**record | {"cells": cells})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); run its target again") from error


class Results:
    """The finished jobs of a store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._found: dict[str, JobFolder | None] = {}

    def outcome(self, key: str) -> JobFolder | None:
        """What a job left; None unless it came to an end. Raises ValueError naming a damaged file."""
        if key not in self._found:
            self._found[key] = JobFolder.finished_at(job_folder(self.root, key))
        return self._found[key]

    def outcomes(self, cell: Cell) -> list[JobFolder]:
        """The networks of a cell that were trained to the end and did not diverge."""
        found = [self.outcome(key) for key in cell.keys]
        return [one for one in found if one is not None and not one.diverged]

    def diverged(self, cell: Cell) -> list[str]:
        """What the jobs of a cell said that diverged."""
        found = [self.outcome(key) for key in cell.keys]
        return [str(one.summary["message"]) for one in found if one is not None and one.diverged]

    def all_outcomes(self, records: Iterable[TargetRecord]) -> Iterator[JobFolder]:
        """Every finished job of targets once."""
        cells = (cell for record in records for cell in record.cells)
        for key in dict.fromkeys(key for cell in cells for key in cell.keys):
            outcome = self.outcome(key)
            if outcome is not None:
                yield outcome

    def common_accuracy(self, cells: Iterable[Cell]) -> float | None:
        """Highest train accuracy at which all networks of the cells kept their weights."""
        reached = [set(one.summary["milestones"]) for cell in cells for one in self.outcomes(cell)]
        common = set.intersection(*reached) if reached else set()
        return max(common) if common else None


def groups(cells: Sequence[Cell]) -> Mapping[tuple[str, str], list[Cell]]:
    """Cells of the same data set and network, in their order."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.dataset, cell.network), []).append(cell)
    return found
