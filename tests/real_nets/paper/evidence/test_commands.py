"""The commands in FINDINGS.md train the networks whose records are stored."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from string import Template

import pytest

from rankdeficit.experiments.options import parse
from real_nets.data.opening import DataSource
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.paper.store import JOBS_FOLDER
from real_nets.paper.targets import TARGETS
from real_nets.reproduce import PROGRAM, Settings, chosen_names, prepare
from tests.real_nets.paper.evidence.telling import FEWER, FINDINGS, LOSSLESS, STORE, TENTH


def commands() -> Iterator[list[str]]:
    """Arguments of `real_nets.reproduce` in the block of commands."""
    (block,) = re.findall(r"```bash\n(.*?)```", FINDINGS.read_text(), re.S)
    variables: dict[str, str] = {}
    for line in block.replace("\\\n", " ").splitlines():
        if found := re.fullmatch(r'(\w+)="(.*)"', line):
            variables[found[1]] = Template(found[2]).substitute(variables)
            continue
        words = shlex.split(Template(line).substitute(variables))
        if words[2] == PROGRAM:
            yield words[3:]


def planned(arguments: list[str], root: Path) -> dict[str, Job]:
    """Jobs of a command by their keys, where all data sets are there."""
    settings = parse(Settings, [*arguments, "--data", str(root)], PROGRAM)
    setup = replace(prepare(settings, DataSource()), why_missing=lambda name: None)
    grids = [TARGETS[name].cells(setup) for name in chosen_names(settings.targets)]
    return {key: job for grid in grids for key, job in grid.jobs.items()}


@pytest.mark.parametrize(
    ("store", "out"),
    [(STORE, None), (TENTH, "runs/tenth"), (FEWER, "runs/fewer"), (LOSSLESS, "runs/lossless")],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_commands_train_what_is_stored(store: Path, out: str | None, tmp_path: Path) -> None:
    """But for parts of data sets, which were folders of fewer images when these were trained."""
    found: dict[str, Job] = {}
    for arguments in commands():
        place = arguments[arguments.index("--out") + 1] if "--out" in arguments else None
        data = arguments.index("--data")
        if place == out:
            found |= planned([*arguments[:data], *arguments[data + 2 :]], tmp_path)
    stored = [JobFolder(path) for path in (store / JOBS_FOLDER).iterdir()]
    assert all(one.job.key == one.key for one in stored)
    wanted = {replace(job, per_class=None, test_per_class=None) for job in found.values()}
    assert {one.job for one in stored} == wanted
    if out is None:
        assert {one.key for one in stored} == set(found)
