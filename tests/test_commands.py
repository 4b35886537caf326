"""What all commands share: bad options, a full disk, kills, damaged files, a closed standard output."""

import os
import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

import simulations
from rankdeficit.experiments.experiment import find_experiments
from tests.commands import Command

STEPS = "--steps 12 --measure-every 4 --checkpoint-every 4"
SIMULATIONS = {
    "ufm": f"--classes 4 --samples-per-class 2 --width 6 --temperature 10 --seeds 1 {STEPS}",
    "mlp": f"--classes 4 --samples-per-class 3 --inputs 5 --width 8 --depth 3 --seeds 1 {STEPS}",
    "temperature_schedule": f"--classes 4 --width 6 --depth 2 --seeds 1 {STEPS}",
    "phase_diagram": "--classes 4 --width 5 --depth 1 --temperature 9 --init-scale 0.5 --seeds 2 "
    f"{STEPS}",
    "dynamics": f"--classes 4 --width 5 --depth 1 --temperature 1 --seeds 1 {STEPS}",
    "equivalence": "--classes 3 --samples-per-class 2 --width 4 --depth 2 --seeds 1 --steps 4",
    "hyperparameters": "--classes 4 --samples-per-class 3 --inputs 6 --width 8 --depth 3 "
    "--temperature 10 --seeds 1 --steps 4",
    "random_softmax": "--n 6 --logits-rank 1 2 --seeds 2 --scales 5",
}
REAL_NETS = ["real_nets.train", "real_nets.diagnose", "real_nets.reproduce", "real_nets.report"]
COMMANDS = [*(f"simulations.{name}" for name in SIMULATIONS), "simulations", "proofs", *REAL_NETS]
WHOLE_FILES = ("settings.json", "summary.json", "metrics.jsonl", "checkpoint.pt")

Start = Callable[..., Command]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start a command beside the test."""
    said, numbers = tmp_path_factory.mktemp("said"), count()

    def begin(module: str, *arguments: object, **options: object) -> Command:
        return Command(said / str(next(numbers)), module, *arguments, **options)  # type: ignore[arg-type]

    return begin


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an undisturbed run of a simulation, made once."""
    root = tmp_path_factory.mktemp("whole")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            ended = start(f"simulations.{name}", *flags(name), "--out", root / name).end()
            assert ended.status == 0, ended.err
            assert f"Figures and records are in {root / name}" in ended.out
            assert list((root / name).glob("*.png"))
        return root / name

    return folder


def flags(name: str) -> list[str]:
    return [*SIMULATIONS[name].split(), "--device", "cpu"]


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in WHOLE_FILES}


def records(folder: Path) -> dict[str, bytes]:
    """What figures are drawn from. Checkpoints may be laid out in another order."""
    found = [folder / "settings.json", folder / "summary.json", folder / "metrics.jsonl"]
    return {path.name: path.read_bytes() for path in found}


def test_every_simulation_is_tested_here() -> None:
    found = {name.removeprefix("simulations.") for name in find_experiments(simulations)}
    assert found == set(SIMULATIONS)


@pytest.mark.parametrize("module", COMMANDS)
def test_an_unknown_option_is_one_line(module: str, start: Start) -> None:
    required = ["runs"] if module == "real_nets.report" else []
    ended = start(module, *required, "--no-such-option").end()
    assert ended.err == f"{ended.error()}\n"
    assert "--no-such-option" in ended.err
    assert ended.err.startswith(f"{module}: error: ")


@pytest.mark.parametrize("module", COMMANDS)
def test_a_full_standard_output_is_one_line(module: str, start: Start) -> None:
    ended = start(module, "--help", output=Path("/dev/full")).end()
    assert ended.err == f"{ended.error()}\n"
    assert "standard output" in ended.err


@pytest.mark.parametrize("name", SIMULATIONS)
def test_bad_values_are_one_line_and_leave_nothing(name: str, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for option, value, word in (
        ("--seeds", "0", "seeds is 0"), ("--gamma", "2", "gamma is 2"), ("--seed", "x", "--seed"),
        ("--device", "abacus", "device is 'abacus'"),
    ):  # fmt: skip
        ended = start(f"simulations.{name}", option, value, "--out", out).end()
        assert ended.err == f"{ended.error()}\n"
        assert word in ended.err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    ended = start(f"simulations.{name}", *flags(name), "--out", tmp_path / "full").end()
    assert "not empty" in ended.error()
    ended = start(f"simulations.{name}", "--resume", tmp_path).end()
    assert "settings.json" in ended.error()
    assert not out.exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


KILLED, TERMINATED = (signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)
OF_EACH_FRAME = ["ufm", "random_softmax"]  # step by step, and unit by unit


@pytest.mark.parametrize(
    ("name", "stop", "status"),
    [*((name, *KILLED) for name in SIMULATIONS), *((name, *TERMINATED) for name in OF_EACH_FRAME)],
    ids=str,
)
def test_a_stopped_run_resumes_to_the_same_bytes(
    name: str, stop: signal.Signals, status: int,
    start: Start, whole: Callable[[str], Path], tmp_path: Path,
) -> None:  # fmt: skip
    """It is stopped before its second checkpoint, and after that again before its first one."""
    out = tmp_path / "run"
    arguments: list[object] = [*flags(name), "--out", out]
    for at in (2, 1):
        ended = start(f"simulations.{name}", *arguments, stop=(stop, at)).end()
        assert ended.status == status
        assert "Traceback" not in ended.err
        assert not (out / "summary.json").exists()
        if stop == signal.SIGTERM:
            assert f"python -m simulations.{name} --resume {out} " in ended.err
        arguments = ["--resume", out]
    ended = start(f"simulations.{name}", *arguments, drawing=False).end()
    assert ended.status == 0, ended.err
    assert records(out) == records(whole(name))


@pytest.mark.parametrize("name", SIMULATIONS)
def test_figures_come_from_the_folder_alone(
    name: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    """From its records, to the same bytes as the command drew; a resumed run has the same records."""
    for file in ("summary.json", "metrics.jsonl"):
        shutil.copy(whole(name) / file, tmp_path)
    find_experiments(simulations)[f"simulations.{name}"]().draw(tmp_path)
    drawn, again = (
        {path.name: path.read_bytes() for path in folder.glob("*.png")}
        for folder in (whole(name), tmp_path)
    )
    assert drawn == again


@pytest.mark.parametrize("name", SIMULATIONS)
def test_a_full_disk_is_one_line_and_loses_nothing(
    name: str, start: Start, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    size = (whole(name) / "metrics.jsonl").stat().st_size // 2
    ended = start(f"simulations.{name}", *flags(name), "--out", out, largest_file=size).end()
    assert "make room and go on" in ended.error()
    assert not list(out.glob("*.partial"))
    ended = start(f"simulations.{name}", "--resume", out, drawing=False).end()
    assert ended.status == 0, ended.err
    assert records(out) == records(whole(name))


@pytest.mark.parametrize("name", SIMULATIONS)
def test_damaged_files_are_one_line_and_stay_as_they_are(
    name: str, start: Start, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    for file, keep, word in (
        ("settings.json", 9, "settings.json"),
        ("checkpoint.pt", 99, "delete it"),
        ("metrics.jsonl", 9, "rows were lost"),
    ):
        out = tmp_path / file
        shutil.copytree(whole(name), out)
        os.truncate(out / file, keep)
        before = files(out)
        ended = start(f"simulations.{name}", "--resume", out).end()
        assert ended.err == f"{ended.error()}\n"
        assert word in ended.err
        assert files(out) == before


def test_results_are_kept_where_standard_output_is_full(
    start: Start, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    full = Path("/dev/full")
    ended = start("simulations.ufm", *flags("ufm"), "--out", out, output=full).end()
    assert "standard output" in ended.error()
    assert files(out).keys() == files(whole("ufm")).keys()
    assert (out / "summary.json").read_bytes() == (whole("ufm") / "summary.json").read_bytes()
