"""What to ask of `real_nets.reproduce`, and what it leaves."""

import json
from collections.abc import Callable
from pathlib import Path

from real_nets.jobs.job import Job

QUICK = (
    "quick --epochs 1 --diagnosed-images 60 --width 1 --batch-size 250 --per-class 5 --test-per-class 2 "
    "--image-size 16"
).split()
TINY = (
    "--budget small --epochs 1 --width 16 --seeds 1 --batch-size 16 --diagnosed-images 36 "
    "--other-temperatures"
).split()


MLP = ["--cells", "CIFAR-10/MLP"]


Main = Callable[..., int]


def job_of(folder: Path) -> Job:
    return Job.of(json.loads((folder / "settings.json").read_text())["settings"]["job"])


def contents(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}
