"""Shared fixtures. Shapes and types are checked at run time in every test (see pyproject.toml).

The process that hands tests out to others reads this file too, so fixtures import what takes time.
"""

import gc
import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jaxtyping
import pytest
from hypothesis import settings

from tests.checked_types import check_types

if TYPE_CHECKING:
    import torch

settings.register_profile("quick", deadline=None, derandomize=True, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=10_000)
settings.load_profile("quick")

jaxtyping.jaxtyped = check_types  # what its import hook wraps functions with

# Tests work on small matrices, here and in the commands they start: threads that wait for each
# other would only cost time.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parents[1]

Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--trial", action="store_true", help="benchmarks: small, once, without goals")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("trial"):
        from tests.benchmarks import timing

        timing.TRIAL, timing.THREADS = True, 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Imports leave no garbage: neither they nor what they made are searched for it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process per core for the whole suite, at most four; one for what is named, and for benchmarks."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    measuring = "benchmark" in config.option.markexpr.replace("not benchmark", "")
    return min(4, os.cpu_count() or 1) if whole and not measuring else 0


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch the run-time type checks off, to see the library's own errors as users do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def cuda() -> "torch.device":
    """A CUDA device; the test is skipped where there is none."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and torch finds none here")
    return torch.device("cuda")


@pytest.fixture
def stand_in_device(monkeypatch: pytest.MonkeyPatch) -> Iterator["torch.device"]:
    """What stands in for a GPU, which commands take as --device by its name, too."""
    from rankdeficit.experiments import cli
    from tests.stand_in import DEVICE, stand_in

    resolve = cli.resolve_device
    monkeypatch.setattr(
        cli, "resolve_device", lambda name: DEVICE if name == str(DEVICE) else resolve(name)
    )
    with stand_in():
        yield DEVICE


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> "torch.device":
    """A device that is not the CPU: a GPU, and what stands in for one."""
    found: torch.device = request.getfixturevalue(
        "cuda" if request.param == "cuda" else "stand_in_device"
    )
    return found


@pytest.fixture
def command(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run `python -m ...`, or a file, in a process of its own, which starts at once."""
    from tests.commands import Command

    def run(module: str | Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        said = tmp_path_factory.mktemp("said") / "said"
        ended = Command(said, str(module), *arguments).end(300)
        assert ended.status is not None
        return subprocess.CompletedProcess([], ended.status, ended.out, ended.err)

    return run


def assert_one_line_error(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit status 2 and one line on stderr that holds each of the words."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]
