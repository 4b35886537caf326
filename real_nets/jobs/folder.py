"""The folder of a job: which files it has, and whose it is.

    settings.json            the job, and what tells its data apart
    metrics.jsonl            measures during training, a row each
    checkpoint.pt            the state to go on from; checkpoint.previous.pt, the one before
    accuracy-0.9.safetensors weights when the accuracy on followed train images first reached 0.9
    weights.safetensors      weights at the end
    summary.json             measures of the trained network on all images; there once training is done
    diagnoses/NAME.json      the report on weights of that name (`final` or `accuracy-0.9`)
    environment.json         versions, device and seconds: what may differ between equal runs

Only the first of several processes writes there.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from rankdeficit.diagnostics.report import Report
from rankdeficit.experiments.runs import RunFolder, read_json, read_rows, write_json
from real_nets.data.catalogue import DataSource
from real_nets.jobs.data import JobData
from real_nets.jobs.job import Job
from real_nets.training.loop import Row

PROGRAM = "real_nets.jobs.job"
FINAL = "final"
TAKEN = "diagnosis_seconds"
MADE_AGAIN = "delete {}, and both are made again from the checkpoint"


@dataclass(frozen=True)
class JobFolder:
    """Where a job's files are."""

    path: Path

    @property
    def begun(self) -> bool:
        """Whether a job was started here."""
        return (self.path / "settings.json").is_file()

    @property
    def finished(self) -> bool:
        """Whether training came to its end (or diverged)."""
        return (self.path / "summary.json").is_file()

    def summary(self) -> Row:
        """The measures of the trained network. Raises ValueError naming a damaged file."""
        found: Any = None
        with suppress(ValueError):
            found = read_json(self.path / "summary.json")
        if not isinstance(found, dict) or "outcome" not in found:
            raise ValueError(
                f"{self.path / 'summary.json'} is damaged; delete it to measure the network again"
            )
        return found

    def report(self, snapshot: str) -> Report:
        """The diagnosis of weights of that name. Raises ValueError naming a damaged file."""
        try:
            return Report.from_json(self.diagnosis(snapshot))
        except ValueError as error:
            raise ValueError(f"{error}; delete it to diagnose the network again") from error

    def weights(self, snapshot: str) -> Path:
        """The file of weights of that name."""
        return self.path / f"{'weights' if snapshot == FINAL else snapshot}.safetensors"

    def diagnosis(self, snapshot: str) -> Path:
        """The file of the report on them."""
        return self.path / "diagnoses" / f"{snapshot}.json"

    def read_weights(self, snapshot: str) -> dict[str, Tensor]:
        """Weights of that name. Raises ValueError naming a damaged file, and for weights never kept."""
        file, mend = self.weights(snapshot), f"delete the folder {self.path} to train again"
        if not file.is_file():
            mend = mend if snapshot != FINAL else MADE_AGAIN.format("summary.json")
            lost = f": {file.name} is missing; {mend}" if self._kept(snapshot) else ""
            raise ValueError(f"{self.path} keeps no weights called {snapshot}{lost}")
        try:
            return safetensors.torch.load_file(file)
        except (OSError, safetensors.SafetensorError) as error:
            mend = mend if snapshot != FINAL else MADE_AGAIN.format("it and summary.json")
            raise ValueError(f"{file} cannot be read: it is damaged ({error}); {mend}") from error

    def _kept(self, snapshot: str) -> bool:
        """Whether a finished training left weights of that name."""
        if not self.finished:
            return False
        summary = self.summary()
        if snapshot == FINAL:
            return bool(summary["outcome"] != "diverged")
        return snapshot in map(milestone_name, summary["milestones"])

    def rows(self) -> list[Row]:
        """Measures during training. Raises ValueError naming a file that is damaged or lost rows."""
        rows = read_rows(self.path)
        if self.finished and not _is_whole(rows, self.summary()):
            raise ValueError(
                f"{self.path / 'metrics.jsonl'} is damaged: rows were lost; delete the folder "
                f"{self.path} to train again"
            )
        return rows

    def environment(self) -> Row:
        """What may differ between equal runs, as far as it was kept. Raises ValueError where damaged."""
        file = self.path / "environment.json"
        if not file.is_file():
            return {}
        found: Any = None
        with suppress(ValueError):
            found = read_json(file)
        if not isinstance(found, dict) or not isinstance(found.get(TAKEN, {}), dict):
            raise ValueError(f"{file} is damaged; delete it, and what it told is called unknown")
        return found

    def note_seconds(self, snapshot: str, seconds: float) -> None:
        """Write down how long the diagnosis of these weights took."""
        environment = self.environment()
        taken = environment.get(TAKEN, {}) | {snapshot: round(seconds, 1)}
        write_json(self.path / "environment.json", environment | {TAKEN: taken})


def _is_whole(rows: Sequence[Any], summary: Row) -> bool:
    """Whether rows run from the first step to the last; those of a diverged network may stop earlier."""
    steps = [row.get("step") if isinstance(row, dict) else None for row in rows]
    if summary["outcome"] == "diverged":
        return steps[:1] in ([], [0])
    return steps[:1] == [0] and steps[-1] == summary.get("step")


def milestone_name(accuracy: float) -> str:
    """Name of the weights kept at an accuracy."""
    return f"accuracy-{accuracy:g}"


def open_folder(job: Job, data: JobData, path: Path) -> RunFolder:
    """The job's folder, new or left by an earlier process, for this process alone.

    Raises ValueError where it is in use, holds another job, or was made with other data.
    """
    root = data.source.root
    written = {"job": job.record(), "data": data.card(), "root": root and str(root)}
    if not JobFolder(path).begun:
        return RunFolder.create(path, PROGRAM, written)
    folder, found = RunFolder.reopen(path, PROGRAM)
    try:
        if not _tells_of(job, found.get("job")):
            raise ValueError(
                f"{path} holds another job (settings.json tells which); name another folder with --out"
            )
        check_data(path, found, data)
    except ValueError:
        folder.close()
        raise
    return folder


def check_data(path: Path, record: Row, data: JobData) -> None:
    """Raise ValueError where the job's record tells of other data than these."""
    if record.get("data") != _plain(data.card()):
        raise ValueError(
            f"{path} was trained on other data than there are now (settings.json tells which); "
            "restore them, or name another folder with --out"
        )


def check_finished(job: Job, source: DataSource, path: Path) -> None:
    """Raise ValueError where a finished job's data came from another folder and were others.

    Data in the folder that they came from are taken to be the same: reading them takes its time.
    """
    try:
        record = read_json(path / "settings.json")["settings"]
        root = record["root"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path / 'settings.json'} is damaged; restore it, or delete the folder {path} to train again"
        ) from error
    if source.root is not None and root != str(source.root):
        check_data(path, record, JobData(job, source, torch.device("cpu")))


def _tells_of(job: Job, record: object) -> bool:
    """Whether the record is the job's own; one from before an option existed had its default."""
    try:
        return isinstance(record, dict) and Job.of(record) == job
    except (TypeError, ValueError):
        return False


def _plain(content: object) -> object:
    """As JSON gives it back."""
    return json.loads(json.dumps(content))
