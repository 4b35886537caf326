"""Creating and reopening the folder of a job, and checks that it belongs to this job."""

import json
from contextlib import suppress
from pathlib import Path

import torch

from rankdeficit.experiments.runs import RunFolder
from real_nets.data.opening import DataSource
from real_nets.jobs.data import JobData
from real_nets.jobs.folder import PROGRAM, JobFolder
from real_nets.jobs.job import Job
from real_nets.jobs.records import JobSettings


def open_folder(job: Job, data: JobData, path: Path) -> RunFolder:
    """Create or reopen the folder of a job, locked for this process.

    Raises ValueError if it is in use, holds another job, or was trained on other data.
    """
    root = data.source.root
    if not JobFolder(path).begun:
        record = {"job": job.record(), "data": data.card(), "root": root and str(root)}
        return RunFolder.create(path, PROGRAM, record)
    folder, record = RunFolder.reopen(path, PROGRAM)
    try:
        found: JobSettings | None = None
        with suppress(KeyError, TypeError, ValueError):
            found = JobSettings.of(record)
        if found is None or found.job != job:
            raise ValueError(
                f"{path} holds another job (see settings.json); name another folder with --out"
            )
        _check_data(path, found, data)
    except ValueError:
        folder.close()
        raise
    return folder


def check_finished(job: Job, source: DataSource, path: Path) -> None:
    """Raise ValueError if a finished job was trained on other data than those in the source.

    Data in the job's own data folder are assumed to be unchanged, since reading them takes time.
    """
    settings = JobFolder(path).settings
    if source.root is not None and settings.root != source.root:
        _check_data(path, settings, JobData(job, source, torch.device("cpu")))


def _check_data(path: Path, settings: JobSettings, data: JobData) -> None:
    if settings.cards != json.loads(json.dumps(data.card())):
        raise ValueError(
            f"{path} was trained on other data than those found now (see settings.json); "
            "restore them, or name another folder with --out"
        )
