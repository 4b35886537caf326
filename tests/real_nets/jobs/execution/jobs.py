"""Jobs on tiny data, as work to carry out, and tasks that start at once."""

import multiprocessing
import os
import signal
from pathlib import Path

from submitit.core.submission import process_job
from submitit.core.utils import JobPaths

from real_nets.jobs.execute import Work
from real_nets.jobs.folder import FINAL
from tests.commands import preload
from tests.real_nets.tiny import tiny_job

JOB = tiny_job(epochs=1, ood=("other",))
OTHER_JOB = tiny_job(epochs=1, temperature=20.0)


def works(folder: Path) -> list[Work]:
    return [
        Work(JOB, folder / JOB.key, (FINAL,)),
        Work(OTHER_JOB, folder / OTHER_JOB.key, ()),
    ]


class ForkedTask:
    """Stands for the process of a task of submitit on this machine: one that has imported everything."""

    def __init__(self, folder: Path, **_: object) -> None:
        preload()
        self._process = multiprocessing.get_context("forkserver").Process(
            target=_carry_out, args=(folder,)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


def _carry_out(folder: Path) -> None:
    names = {"JOB_ID": os.getpid(), "NTASKS": 1, "JOB_NUM_NODES": 1, "NODEID": 0, "GLOBALID": 0}
    os.environ |= {f"SUBMITIT_LOCAL_{name}": str(value) for name, value in names.items()}
    os.environ |= {"SUBMITIT_LOCAL_LOCALID": "0", "SUBMITIT_EXECUTOR": "local"}
    paths = JobPaths(folder, str(os.getpid()), 0)
    for number, path in ((1, paths.stdout), (2, paths.stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    process_job(folder)
