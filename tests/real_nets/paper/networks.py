"""Networks whose measurements are known, in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.jobs.records import JobSettings
from real_nets.paper.compare import Pair, Side
from real_nets.paper.grid import BASELINE, LOW_NORM, Cell

Row = dict[str, Any]


def network(
    rows: Sequence[Row] = (),
    layers: Sequence[Row] | None = None,
    ood: str = "svhn",
    **summary: Any,
) -> JobFolder:
    """A network of these measurements in training, these layers in its report, and this summary."""
    found = JobFolder(Path("nowhere"))
    usual = {"classes": 10, "train_images": 1000, "outcome": "interpolated", "layers": layers or []}
    vars(found).update(  # as if read
        settings=JobSettings(Job(data="cifar10", ood=(ood,)), {}, None),
        summary=usual | summary,
        rows=list(rows),
        report=None if layers is None else {"layers": layers},
        image_size=(32, 32),
    )
    return found


def pair_of(cold: Sequence[JobFolder], hot: Sequence[JobFolder], dataset: str = "CIFAR-10") -> Pair:
    """An MLP of these networks on both sides."""
    cells = (
        Cell(dataset, "MLP", condition, "cifar10", temperature, ())
        for condition, temperature in ((BASELINE, 1.0), (LOW_NORM, 50.0))
    )
    return Pair(*(Side(cell, own) for cell, own in zip(cells, (cold, hot), strict=True)))
