"""What all tests of jobs in their folders start from."""

import os
import shutil
from pathlib import Path

import pytest

from tests.real_nets.jobs.work.jobs import HOT, diagnose, train
from tests.real_nets.tiny import write_root


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only power cuts lose what was written and not synced, and syncing takes a third of the time."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="package")
def hot(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of HOT, trained and diagnosed."""
    path = tmp_path_factory.mktemp("jobs") / "hot"
    train(HOT, root, path)
    diagnose(HOT, root, path)
    return path


@pytest.fixture
def copy(hot: Path, tmp_path: Path) -> Path:
    shutil.copytree(hot, tmp_path / "hot")
    return tmp_path / "hot"
