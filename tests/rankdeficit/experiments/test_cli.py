"""Command lines: options, one-line errors, where runs go, devices, progress."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from rankdeficit.experiments import cli, options, recorded_settings
from rankdeficit.experiments.runs import RunFolder
from rankdeficit.experiments.signals import Terminated


@dataclass(frozen=True)
class Settings:
    """Example."""

    temperature: tuple[float, ...] = (1.0,)
    """Temperatures."""
    activation: Literal["linear", "relu"] = "linear"
    """Activation."""
    out: Path | None = None
    """Folder."""
    resume: Path | None = None
    """Folder."""


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"activation": "tanh"}, "activation is 'tanh'"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": ["hot"]}, "temperature is 'hot'"),
        ({"colour": 1}, "differ in 'colour'"),
        ({"activation": None}, "activation is None"),
    ],
)
def test_edited_settings_are_refused(change: dict[str, Any], match: str) -> None:
    record = {"temperature": [1, 2.5], "activation": "relu"}
    kept = recorded_settings.restore_settings(Settings, record, cli.NOT_RECORDED)
    assert kept == Settings((1.0, 2.5), "relu")
    with pytest.raises(ValueError, match=match):
        recorded_settings.restore_settings(Settings, record | change, cli.NOT_RECORDED)
    with pytest.raises(ValueError, match="'temperature'"):
        recorded_settings.restore_settings(Settings, {"activation": "relu"}, cli.NOT_RECORDED)


def test_settings_from_the_command_line() -> None:
    parsed = options.parse(Settings, ["--temperature", "1", "50", "--activation", "relu"], "tests")
    assert parsed == Settings((1.0, 50.0), "relu")
    parsed = options.parse(Settings, ["--activation", "linear", "--activation", "relu"], "tests")
    assert parsed.activation == "relu"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--temperature", "hot"], "--temperature"),
        (["--activation", "tanh"], "tanh"),
        (["--depht", "3"], "--depht"),
        (["--temperature", "1", "--temperature=50"], "--temperature"),
    ],
)
def test_bad_options_are_one_line(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        options.parse(Settings, arguments, "tests")
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("tests: error: ")
    assert error.count("\n") == 1
    assert word in error


@pytest.mark.parametrize(
    ("raised", "status", "text"),
    [
        (ValueError("width is 0;\n it must be 1"), 2, "tests: error: width is 0; it must be 1\n"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (KeyboardInterrupt(), 130, "tests: interrupted\n"),
        (Terminated(), 143, "tests: terminated\n"),
    ],
)
def test_errors_of_a_run(
    raised: BaseException, status: int, text: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def run(_: Settings) -> None:
        raise raised

    monkeypatch.setattr(sys, "argv", ["tests"])
    with pytest.raises(SystemExit) as stop:
        cli.main(Settings, run, "tests")
    error = capsys.readouterr().err
    assert stop.value.code == status
    assert text in error
    assert error.count("\n") == 1


def test_an_interrupted_run_names_the_command_that_resumes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create(tmp_path / "my run", "tests", {})

    def run(_: Settings) -> None:
        with cli.resumable(folder, "tests"):
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["tests"])
    with pytest.raises(SystemExit):
        cli.main(Settings, run, "tests")
    folder.close()
    (line,) = capsys.readouterr().err.splitlines()
    command = shlex.split(line.partition("; ")[2])
    assert command[:5] == ["python", "-m", "tests", "--resume", str(folder.path)]


def test_a_bug_is_not_hidden_as_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Settings) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sys, "argv", ["tests"])
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(Settings, run, "tests")


def test_resuming_takes_no_other_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = recorded_settings.settings_record(Settings((3.0, 4.0)), leave_out=("out", "resume"))
    RunFolder.create(tmp_path / "a", "tests", record).close()
    with pytest.raises(ValueError, match="--temperature"):
        cli.open_run(Settings((2.0,), resume=tmp_path / "a"), "tests", "x")
    arguments = ["x", "--resume", str(tmp_path / "a"), "--temperature", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        cli.main(Settings, lambda _: pytest.fail("it ran"), "tests")  # type: ignore[arg-type]
    assert "--temperature" in capsys.readouterr().err
    folder, settings, resumed = cli.open_run(Settings(resume=tmp_path / "a"), "tests", "x")
    folder.close()
    assert resumed
    assert settings == Settings((3.0, 4.0))


def test_default_folders_are_new_below_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, _, resumed = cli.open_run(Settings(), "tests", "x")
    assert not resumed
    assert folder.path.parent == Path("runs")
    assert folder.path.name.startswith("x-")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "tpu", "meta", "cuda:99"])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(ValueError, match="device is"):
        cli.resolve_device(name)


def test_known_devices() -> None:
    assert cli.resolve_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert cli.resolve_device("auto").type == expected
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device"):
            cli.resolve_device("cuda")


@pytest.mark.parametrize(("device", "processes"), [("cuda", 3), ("cuda:1", 2)])
def test_processes_need_a_gpu_each_and_none_by_number(
    device: str, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    with (
        pytest.raises(ValueError, match=f"'{device}'.* {processes} processes"),
        cli.joined(device),
    ):
        pytest.fail("it joined")


def test_progress_in_a_log_is_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "PLAIN_PROGRESS_SECONDS", 0.0)
    advance: Callable[[int], None]
    with cli.progress("8 runs", 30, "steps") as advance:
        advance(10)
        advance(30)
    assert capsys.readouterr().err == "8 runs: 10/30 steps\n8 runs: 30/30 steps\n"
