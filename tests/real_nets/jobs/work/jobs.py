"""Jobs on tiny data, trained and diagnosed in a folder."""

from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from rankdeficit.diagnostics.report import Report
from real_nets.jobs.data import JobData
from real_nets.jobs.folder import FINAL
from real_nets.jobs.job import Job
from real_nets.jobs.run import diagnose_job, initial_network, train_job
from tests.real_nets.tiny import data_of, tiny_job

HOT = tiny_job(temperature=20.0, epochs=6, ood=("other",))
DIVERGING = tiny_job(
    lr=0.1, weight_decay=32.0, momentum=0.0, schedule="constant", batch_size=2, epochs=1
)
"""Each step multiplies all weights by -2.2, so the loss overflows at step 39 of 60."""


class CutError(Exception):
    """Stands for a kill."""


def train(job: Job, root: Path, path: Path, **heard: Any) -> dict[str, Any]:
    return train_job(job, data_of(job, root), path, **heard)


def diagnose(job: Job, root: Path, path: Path, snapshot: str = FINAL) -> Report:
    return diagnose_job(job, data_of(job, root), path, snapshot)


def network(job: Job, data: JobData, weights: Path) -> nn.Sequential:
    model = initial_network(job, data)
    model.load_state_dict(safetensors.torch.load_file(weights))
    assert isinstance(model, nn.Sequential)
    return model.eval()
