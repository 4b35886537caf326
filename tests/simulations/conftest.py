"""What tests of several simulations share."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import simulations
from rankdeficit.experiments.experiment import Experiment, find_experiments


@pytest.fixture(autouse=True, scope="package")
def undrawn() -> Iterator[None]:
    """No run here saves its figures, which takes most of a short run; tests/test_commands.py does."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Experiment, "draw", lambda self, path: None)
        yield


@pytest.fixture
def assert_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[ModuleType, list[str], list[str]], None]:
    """Flags that a simulation's command must refuse: status 2, one line with the words, no folder."""

    def check(simulation: ModuleType, flags: list[str], words: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["simulation", *flags, "--out", str(tmp_path / "run")])
        with pytest.raises(SystemExit) as stop:
            find_experiments(simulations)[simulation.__name__]().main()
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert error.count("\n") == 1
        for word in words:
            assert word in error
        assert not (tmp_path / "run").exists()

    return check
