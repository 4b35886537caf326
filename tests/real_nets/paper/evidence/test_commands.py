"""The commands in evidence.sh train the networks whose records are stored."""

import re
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from string import Template

import pytest

from rankdeficit.experiments.options import parse
from real_nets.data.opening import DataSource
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.paper.grid import Cell, Grid
from real_nets.paper.store import JOBS_FOLDER, read_targets
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


def planned(arguments: list[str], root: Path) -> dict[str, Grid]:
    """The cells of a command by target, where all data sets are there."""
    data = arguments.index("--data")
    given = [*arguments[:data], *arguments[data + 2 :], "--data", str(root)]
    settings = parse(Settings, given, PROGRAM)
    setup = replace(prepare(settings, DataSource()), why_missing=lambda name: None)
    return {name: TARGETS[name].cells(setup) for name in chosen_names(settings.targets)}


def of_jobs(grids: dict[str, Grid]) -> set[Job]:
    """Jobs of a command, without the parts of data sets, which were folders of fewer images."""
    jobs = [job for grid in grids.values() for job in grid.jobs.values()]
    return {replace(job, per_class=None, test_per_class=None) for job in jobs}


Kind = tuple[str, str, str, float]


def kinds(cells: Sequence[Cell]) -> set[Kind]:
    """What tells the cells of a target apart."""
    return {(own.dataset, own.network, own.condition, own.temperature) for own in cells}


def store_of(arguments: list[str]) -> str:
    """The name of the folder that a command trains in."""
    return Path(arguments[arguments.index("--out") + 1]).name


STORED = {"jpeg": STORE, "tenth": TENTH, "fewer": FEWER, "lossless": LOSSLESS}
"""Stores by the name of the folder that the script trains in."""


def stored_jobs(store: Path) -> set[Job]:
    """Jobs of an exported store."""
    networks = [JobFolder(path) for path in (store / JOBS_FOLDER).iterdir()]
    assert all(one.job.key == one.key for one in networks)
    return {one.job for one in networks}


def test_the_commands_train_what_is_stored(tmp_path: Path) -> None:
    """What earlier rows train aside, a row is stored whole or not at all."""
    jobs = {name: stored_jobs(store) for name, store in STORED.items()}
    earlier: defaultdict[str, set[Job]] = defaultdict(set)
    untrained = 0
    for arguments in commands():
        store, wanted = store_of(arguments), of_jobs(planned(arguments, tmp_path))
        new = wanted - earlier[store]
        stored = jobs.get(store, set()) & new
        assert stored in (set(), new)
        untrained += stored != new
        earlier[store] |= wanted
    assert all(own <= earlier[name] for name, own in jobs.items())
    told = re.search(r"(\d+) of its\srows are not trained yet", (STORE / "FINDINGS.md").read_text())
    assert told is not None
    assert int(told[1]) == untrained


@pytest.mark.parametrize("name", STORED)
def test_stored_targets_have_the_cells_of_the_commands(name: str, tmp_path: Path) -> None:
    jobs = stored_jobs(STORED[name])
    wanted: defaultdict[str, set[Kind]] = defaultdict(set)
    for arguments in commands():
        grids = planned(arguments, tmp_path) if store_of(arguments) == name else {}
        if of_jobs(grids) <= jobs:
            for target, grid in grids.items():
                wanted[target] |= kinds(grid.cells)
    records = read_targets(STORED[name], list(TARGETS))
    assert {record.name: kinds(record.cells) for record in records} == wanted


def test_the_script_is_one_that_bash_takes() -> None:
    subprocess.run(["bash", "-n", str(STORE / "evidence.sh")], check=True)
