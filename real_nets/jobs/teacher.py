"""The training loss of a job, which may include distillation from a teacher."""

import hashlib
from functools import partial
from pathlib import Path

from rankdeficit.control.criterion import Criterion
from rankdeficit.control.distillation import Distillation
from real_nets.jobs.data import JobData
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.jobs.trained import find_trained


def find_teacher(path: Path) -> tuple[JobFolder, str]:
    """A teacher and the SHA-256 sum of its weights. Raises ValueError as `find_trained` does."""
    found = find_trained(path, "--teacher")
    return found, hashlib.sha256(found.weights_file.read_bytes()).hexdigest()


def loss_of(job: Job, data: JobData) -> Criterion:
    """The training loss of a job; a teacher is put on the device of the data.

    Raises ValueError for a teacher that is missing, has changed, or was trained on other images.
    """
    steps = job.epochs * data.batches.steps_per_epoch
    with_labels = job.criterion(job.temperature, steps)
    if job.teacher is None:
        return with_labels
    found, weights = find_teacher(Path(job.teacher))
    if weights != job.teacher_weights:
        raise ValueError(
            f"teacher {job.teacher} has other weights than at the start of the distillation (SHA-256 "
            f"{weights}, not {job.teacher_weights}); restore them, or start a new run with --out"
        )
    if found.cards["own"] != data.own.card():
        raise ValueError(
            f"teacher {job.teacher} was trained on other images than data {job.data} (see its "
            "settings.json); give the same --data, --image-size, --crop and --per-class"
        )
    teacher = found.job.architecture(data.classes, data.inputs).build(found.job.seed)
    teacher.load_state_dict(found.read_weights())
    return Distillation(
        teacher.to(data.device),
        with_labels,
        kd_temperature=job.kd_temperature,
        weight=job.kd_weight,
        student_temperature=partial(job.temperature_after, job.temperature, steps=steps),
        teacher_temperature=found.last_temperature,
    )
