"""Jobs on tiny data, as work to carry out."""

from pathlib import Path

from real_nets.jobs.execute import Work
from real_nets.jobs.folder import FINAL
from tests.real_nets.tiny import tiny_job

JOB = tiny_job(epochs=1, ood=("other",))
OTHER_JOB = tiny_job(epochs=1, temperature=20.0)


def works(folder: Path) -> list[Work]:
    return [
        Work(JOB, folder / JOB.key, (FINAL,)),
        Work(OTHER_JOB, folder / OTHER_JOB.key, ()),
    ]
