"""A store of three targets."""

import shutil
from pathlib import Path

import pytest

from tests.real_nets.fabricated import fill, setup_of
from tests.real_nets.report.pages import NUMBERS, SHOWN


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three targets; nobody changes it."""
    path = tmp_path_factory.mktemp("store")
    fill(path, SHOWN, NUMBERS, setup_of(missing=("svhn",), pick=["CIFAR-100/ResNet-34"]))
    return path


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(original, tmp_path / "store"))
