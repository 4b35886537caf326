"""Jobs on images of 8 x 8, trained in a moment."""

from pathlib import Path
from typing import Any

import torch

from real_nets.data.opening import DataSource
from real_nets.jobs.data import JobData
from real_nets.jobs.job import Job
from tests.images import write_images

CPU = torch.device("cpu")
VARYING = {"environment.json", ".lock", "checkpoint.pt", "checkpoint.previous.pt"}
"""Files that may differ between equal runs."""


def write_root(root: Path) -> Path:
    """Data sets `own` (4 classes, 120 + 40 images) and `other` (3 classes, 36 + 18 images)."""
    write_images(root / "own", classes=4, train=30, test=10)
    write_images(root / "other", classes=3, train=12, test=6)
    return root


def tiny_job(**options: Any) -> Job:
    """Eight steps an epoch."""
    usual = {
        "data": "own", "width": 16, "depth": 3, "epochs": 3, "batch_size": 16, "lr": 0.1,
        "followed_images": 60, "diagnosed_images": 36,
    }  # fmt: skip
    return Job(**usual | options)


def data_of(job: Job, root: Path | None) -> JobData:
    return JobData(job, DataSource(root), CPU)


def contents(folder: Path) -> dict[str, bytes]:
    """All files that equal runs have in common."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in VARYING]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
