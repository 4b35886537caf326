"""The command in this process, and data for it."""

import sys
from pathlib import Path

import pytest

from real_nets import reproduce
from real_nets.jobs import execute as execution
from tests.commands import Command
from tests.images import write_images
from tests.real_nets.reproduce.asking import QUICK, Main


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Main:
    """The command in this process: its exit status."""

    def call(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["reproduce", *map(str, arguments)])
        try:
            reproduce.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return call


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains or diagnoses now is caught."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("this was to be reused")

    monkeypatch.setattr(execution, "carry_out", refuse)
    monkeypatch.setattr("real_nets.paper.estimate.estimate", refuse)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data sets, CIFAR-10 and CIFAR-100 as folders of images; no SVHN."""
    root = tmp_path_factory.mktemp("root")
    write_images(root / "cifar10", classes=4, train=30, test=10)
    write_images(root / "cifar100", classes=3, train=12, test=6)
    return root


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A real run of the command: its store, output and messages."""
    store = tmp_path_factory.mktemp("quick") / "store"
    said = store.parent / "said"
    ended = Command(said, "real_nets.reproduce", *QUICK, "--out", store, drawing=False).end(300)
    assert ended.status == 0, ended.err
    return store, ended.out, ended.err
