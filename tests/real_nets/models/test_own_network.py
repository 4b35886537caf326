"""A network takes one decorated definition: commands list it, train it and fill cells with it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from real_nets.jobs.folder import JobFolder
from tests.conftest import Run
from tests.images import write_images

OWN_NETWORK = Path(__file__).with_name("own_network.py")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    write_images(folder / "cifar10", classes=4, train=30, test=10)
    return folder


@pytest.fixture
def tell(command: Run) -> Callable[..., str]:
    """Run a command with the network; what it prints."""

    def run(*arguments: str | Path) -> str:
        result = command(OWN_NETWORK, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    return run


@pytest.mark.parametrize("name", ["train", "diagnose"])
def test_help_lists_it(name: str, tell: Callable[..., str]) -> None:
    assert "mynet" in tell(name, "--help")


def test_it_is_trained_by_name(root: Path, tmp_path: Path, tell: Callable[..., str]) -> None:
    flags = "--model mynet --epochs 1 --temperature 1 --device cpu --milestones 1 --data".split()
    tell("train", *flags, root / "cifar10", "--out", tmp_path / "run")
    job = JobFolder(tmp_path / "run" / "T1-seed0")
    assert (job.job.model, job.summary["layers"]) == ("mynet", ["1", "3"])


def test_cells_name_it_as_tables_do(root: Path, tell: Callable[..., str]) -> None:
    flags = "--cells CIFAR-10/MyNet --budget small --device cpu --plan --data".split()
    told = tell("reproduce", "table1", *flags, root)
    assert "mynet" in told
    assert "resnet" not in told
    assert "6 of 6 networks" in " ".join(told.split())  # three seeds at two temperatures
