"""The commands in evidence.sh train the networks whose records are stored."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from string import Template

from rankdeficit.experiments.options import parse
from real_nets.data.opening import DataSource
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.paper.store import JOBS_FOLDER
from real_nets.paper.targets import TARGETS
from real_nets.reproduce import PROGRAM, Settings, chosen_names, prepare
from tests.real_nets.paper.evidence.telling import FEWER, LOSSLESS, STORE, TENTH


def commands() -> Iterator[list[str]]:
    """Arguments of `real_nets.reproduce` in the script."""
    variables: dict[str, str] = {}
    for line in (STORE / "evidence.sh").read_text().splitlines():
        if found := re.fullmatch(r'(\w+)="(.*)"', line):
            given = re.sub(r"\$\{\d:.*?\}", "ROOT", found[2])
            variables[found[1]] = Template(given).substitute(variables)
        elif line.startswith("$RUN "):
            yield shlex.split(Template(line).substitute(variables))[3:]


def planned(arguments: list[str], root: Path) -> dict[str, Job]:
    """Jobs of a command by their keys, where all data sets are there."""
    settings = parse(Settings, [*arguments, "--data", str(root)], PROGRAM)
    setup = replace(prepare(settings, DataSource()), why_missing=lambda name: None)
    grids = [TARGETS[name].cells(setup) for name in chosen_names(settings.targets)]
    return {key: job for grid in grids for key, job in grid.jobs.items()}


STORED = {"jpeg": STORE, "tenth": TENTH, "fewer": FEWER, "lossless": LOSSLESS}
"""Stores by the name of the folder that the script trains in."""

UNTRAINED = 7
"""Rows of the script that were not trained yet."""


def test_the_commands_train_what_is_stored(tmp_path: Path) -> None:
    """But for parts of data sets, which were folders of fewer images when these were trained."""
    jobs: dict[str, set[Job]] = {}
    for name, store in STORED.items():
        networks = [JobFolder(path) for path in (store / JOBS_FOLDER).iterdir()]
        assert all(one.job.key == one.key for one in networks)
        jobs[name] = {one.job for one in networks}
    left, untrained = {name: set(own) for name, own in jobs.items()}, 0
    for arguments in commands():
        data, out = arguments.index("--data"), Path(arguments[arguments.index("--out") + 1]).name
        found = planned([*arguments[:data], *arguments[data + 2 :]], tmp_path).values()
        wanted = {replace(job, per_class=None, test_per_class=None) for job in found}
        stored = jobs.get(out, set()) & wanted
        untrained += not stored
        assert stored in (set(), wanted)
        left.get(out, set()).difference_update(stored)
    assert not any(left.values())
    assert untrained == UNTRAINED


def test_the_script_is_one_that_bash_takes() -> None:
    subprocess.run(["bash", "-n", str(STORE / "evidence.sh")], check=True)
