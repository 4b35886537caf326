"""Work that was carried out, and how."""

from pathlib import Path

import pytest

from real_nets.data.opening import DataSource
from real_nets.jobs.execute import Execution, execute
from tests.real_nets.jobs.execution.jobs import works
from tests.real_nets.tiny import CPU, write_root


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="package")
def how(root: Path) -> Execution:
    return Execution(DataSource(root), "cpu")


@pytest.fixture(scope="package")
def done(how: Execution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with JOB, diagnosed, and OTHER_JOB, trained, by their keys."""
    folder = tmp_path_factory.mktemp("done")
    execute(works(folder), how, folder / "logs", CPU)
    return folder
