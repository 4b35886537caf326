"""A store: the folder of the jobs of many targets, each trained once.

    jobs/KEY/          a folder per job (see `real_nets.jobs.folder`)
    targets/NAME.json  the cells of a target with the keys of their jobs, and what was left out
    report.html        the page on all targets
    submitit/          logs of tasks

One process (or group of processes) at a time writes to a store.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from rankdeficit.diagnostics.measures.probes import Preset
from rankdeficit.experiments.runs import read_json, write_json
from rankdeficit.spectrum import Convention
from real_nets.jobs.folder import OURS, JobFolder
from real_nets.paper.grid import BASELINE, LOW_NORM, OTHER, Cell

JOBS_FOLDER = "jobs"
"""Folder of the jobs' folders in a store."""
LOCK = ".lock"
TARGETS_FOLDER = "targets"
PAGE = "report.html"
LOGS = "submitit"
"""Folder of the tasks' logs in a store."""
RUN_SETTINGS = "settings.json"
"""File by which a run folder of another program is recognised."""


@dataclass(frozen=True)
class TargetRecord:
    """Record of a target in a store, besides its jobs."""

    name: str
    budget: str
    cells: list[Cell]
    left_out: dict[str, str]
    computed: dict[str, object]


def job_folder(store: Path, key: str) -> Path:
    """The folder of a job."""
    return store / JOBS_FOLDER / key


def check_place(store: Path) -> None:
    """Raise ValueError for a path that cannot be a store: a file, another folder, no permission.

    Nothing is written.
    """
    above = next(path for path in (store, *store.parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        reason = "Permission denied" if above.is_dir() else f"{above} is a file"
        raise _not_writable(store, reason)
    if store.is_dir() and (found := _in_the_way(store)):
        raise ValueError(
            f"--out {store} holds other files than results of real_nets.reproduce (it has {found}); "
            "name a new folder"
        )


def _in_the_way(folder: Path) -> str | None:
    """Name of an entry that shows that the folder is no store; None for a store or an empty folder."""
    begun = any((folder / name).is_dir() for name in (JOBS_FOLDER, TARGETS_FOLDER))
    for name in (RUN_SETTINGS, *(() if begun else (PAGE,))):
        if (folder / name).exists():
            return name
    return next((name for name in (JOBS_FOLDER, TARGETS_FOLDER) if (folder / name).is_file()), None)


def check_free(store: Path) -> None:
    """Raise ValueError if another process has locked the store."""
    if (store / LOCK).is_file():
        with locked(store):
            pass


def _not_writable(store: Path, reason: str) -> ValueError:
    return ValueError(
        f"--out {store} cannot be written ({reason}); name a folder that you may write to"
    )


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Lock the store. Raises ValueError if it cannot be written or is locked by another process."""
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
    """Write a target's record.

    Cells of an older record of the same budget that the new one lacks are kept, so that a table can be
    filled in several runs, and so that every temperature that was tried is shown.
    """
    (store / TARGETS_FOLDER).mkdir(exist_ok=True)
    file = store / TARGETS_FOLDER / f"{record.name}.json"
    if file.is_file():
        try:
            old = _read(file)
            record = _merged(old, record)
            _report_replaced(old, record, file)
        except ValueError:
            message = (
                f"{file} was damaged and now holds only the networks of this run; run others again"
            )
            print(message, file=sys.stderr, flush=True)
    write_json(file, asdict(record))


def _report_replaced(old: TargetRecord, new: TargetRecord, file: Path) -> None:
    """Report on stderr the cells that the new record replaces: other budget or changed options."""
    kept = {key for cell in new.cells for key in cell.keys}
    gone = [
        f"{cell.name} ({cell.condition}, T = {cell.temperature:g})"
        for cell in old.cells
        if not kept.issuperset(cell.keys)
    ]
    if gone:
        message = (
            f"this run replaces {', '.join(gone)} in {file}; the networks stay in {JOBS_FOLDER}"
        )
        print(message, file=sys.stderr, flush=True)


def _merged(old: TargetRecord, new: TargetRecord) -> TargetRecord:
    """Networks keep their places; a network's cells are in the order of their temperatures."""
    if old.budget != new.budget:
        return new
    filled = {cell.name for cell in new.cells}
    kept = [cell for cell in old.cells if cell.name not in filled]
    kept += _other_temperatures(old.cells, new.cells)
    names = filled | {cell.name for cell in kept}
    left_out = {name: why for name, why in old.left_out.items() if kept and name not in names}
    places = list(dict.fromkeys(cell.name for cell in (*old.cells, *new.cells)))
    cells = sorted([*kept, *new.cells], key=lambda own: (places.index(own.name), own.temperature))
    return replace(new, cells=cells, left_out=left_out | new.left_out)


def _other_temperatures(old: Sequence[Cell], new: Sequence[Cell]) -> list[Cell]:
    """Old cells at temperatures that the new ones lack, of networks that are the same at T = 1."""
    same = {cell.name for cell in old if cell.condition == BASELINE and cell in new}
    known = {(cell.name, cell.temperature) for cell in new}
    return [
        replace(cell, condition=OTHER, reason="")
        for cell in old
        if cell.condition in (LOW_NORM, OTHER)
        and cell.name in same
        and (cell.name, cell.temperature) not in known
    ]


def read_targets(store: Path, order: Sequence[str]) -> list[TargetRecord]:
    """Records of the targets named in `order`, in that order.

    Raises ValueError for a folder without any, and for damaged files.
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
    """The finished jobs of a store, each read once, under a preset of probes and a convention."""

    def __init__(
        self, root: Path, preset: Preset = OURS, convention: Convention = "matrix"
    ) -> None:
        self.root, self.preset, self.convention = root, preset, convention
        self._found: dict[str, JobFolder | None] = {}

    def under(self, preset: Preset) -> "Results":
        """The same jobs with the probes of a preset."""
        return self if preset == self.preset else Results(self.root, preset, self.convention)

    def outcome(self, key: str) -> JobFolder | None:
        """The folder of a finished job, else None. Raises ValueError for damaged files."""
        if key not in self._found:
            reading = self.preset, self.convention
            self._found[key] = JobFolder.finished_at(job_folder(self.root, key), *reading)
        return self._found[key]

    def outcomes(self, cell: Cell) -> list[JobFolder]:
        """The finished jobs of a cell that did not diverge."""
        found = [self.outcome(key) for key in cell.keys]
        return [one for one in found if one is not None and not one.diverged]

    def diverged(self, cell: Cell) -> list[str]:
        """Messages of the diverged jobs of a cell."""
        found = [self.outcome(key) for key in cell.keys]
        return [str(one.summary["message"]) for one in found if one is not None and one.diverged]

    def all_outcomes(self, records: Iterable[TargetRecord]) -> Iterator[JobFolder]:
        """Every finished job of the targets once."""
        cells = (cell for record in records for cell in record.cells)
        for key in dict.fromkeys(key for cell in cells for key in cell.keys):
            outcome = self.outcome(key)
            if outcome is not None:
                yield outcome

    def common_accuracy(self, cells: Iterable[Cell]) -> float | None:
        """Highest train accuracy at which all networks of the cells kept weights."""
        reached = [set(one.summary["milestones"]) for cell in cells for one in self.outcomes(cell)]
        common = set.intersection(*reached) if reached else set()
        return max(common) if common else None


def groups(cells: Sequence[Cell]) -> Mapping[tuple[str, str], list[Cell]]:
    """Cells by (data set, network), in their order."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.dataset, cell.network), []).append(cell)
    return found
