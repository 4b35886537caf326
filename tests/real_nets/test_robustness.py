"""Commands of real networks that meet each other, diverge, or run as several processes and tasks.

What all commands share (kills, a full disk) is in tests/test_commands.py.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from rankdeficit.experiments import runs
from real_nets.paper.store import locked
from tests.conftest import ROOT
from tests.images import write_images
from tests.real_nets.commands import Command
from tests.real_nets.tiny import contents

TRAINED = (
    "--width 16 --depth 3 --temperature 1 20 --epochs 2 --batch-size 16 --lr 0.1 "
    "--followed-images 60 --device cpu"
).split()
REPRODUCED = (
    "table1 --cells CIFAR-10/MLP --budget small --seeds 1 --epochs 4 --width 16 --lr 0.2 "
    "--batch-size 16 --diagnosed-images 40 --other-temperatures --device cpu"
).split()

Start = Callable[..., Command]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny sets by the names that targets ask for."""
    folder = tmp_path_factory.mktemp("root")
    write_images(folder / "cifar10", classes=4, train=30, test=10)
    write_images(folder / "svhn", classes=3, train=12, test=6)
    write_images(folder / "cifar100", classes=5, train=12, test=6)
    return folder


def starter(folder: Path, module: str, flags: tuple[object, ...]) -> Start:
    """What starts a command with these flags, unless it is told to resume, and with others."""
    numbers = count()

    def start(*arguments: object, **options: int) -> Command:
        own = () if "--resume" in arguments else flags
        return Command(folder / f"{module}-{next(numbers)}", module, *own, *arguments, **options)

    return start


@pytest.fixture(scope="module")
def train(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start real_nets.train on tiny images."""
    flags = (*TRAINED, "--data", root / "cifar10")
    return starter(tmp_path_factory.mktemp("said"), "real_nets.train", flags)


@pytest.fixture(scope="module")
def reproduce(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start real_nets.reproduce on tiny images."""
    flags = (*REPRODUCED, "--data", root)
    return starter(tmp_path_factory.mktemp("said"), "real_nets.reproduce", flags)


def rows(folder: Path) -> int:
    """Measurements so far, over all networks."""
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("metrics.jsonl"))


STOPS = [
    (signal.SIGINT, 130, "interrupted", False),
    (signal.SIGTERM, 143, "terminated", True),
    # Takes the same way, which test_execution.py tries for both.
    pytest.param(signal.SIGTERM, 143, "terminated", False, marks=pytest.mark.slow),
]


def processes_about(folder: Path) -> list[str]:
    """Command lines of running processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in words:
            found.append(words)
    return found


@pytest.mark.parametrize(("stop", "status", "word", "background"), STOPS)
def test_an_interrupted_reproduction_ends_its_tasks_on_this_machine(
    stop: signal.Signals,
    status: int,
    word: str,
    background: bool,
    reproduce: Start,
    tmp_path: Path,
) -> None:
    """Also where Ctrl-C is ignored, by its tasks too, as in the background of a script."""
    out = tmp_path / "run"
    flags = ("--out", out, "--executor", "local", "--epochs", 10_000)
    command = reproduce(*flags, background=background)
    command.wait_until(lambda: rows(out) >= 2)
    assert any("submitit" in words for words in processes_about(out))
    assert command.process.pid is not None
    os.kill(command.process.pid, stop)  # it alone, as from outside of its terminal
    ended = command.end()
    assert ended.status == status
    assert ended.err.splitlines()[-1].startswith(f"real_nets.reproduce: {word}")
    assert "Traceback" not in ended.err
    assert not processes_about(out / "submitit")
    for folder in (out / "jobs").iterdir():
        with locked(folder):
            pass


def test_a_disk_that_was_full_from_the_start_needs_no_cleaning(
    train: Start, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    error = train("--out", out, largest_file=800).end().error()
    assert "room" in error
    assert "settings.json" in error
    assert [path.name for path in out.iterdir()] == [".lock"]
    ended = train("--out", out, drawing=False).end()
    assert ended.status == 0, ended.err


def test_a_loss_that_is_no_number_is_one_line(train: Start, tmp_path: Path) -> None:
    ended = train("--lr", "1e20", "--out", tmp_path / "run").end()
    error = ended.error()
    assert ended.err == f"{error}\n"
    for word in ("T = 1, seed 0", "step 1", "--lr"):
        assert word in error
    assert ended.out.count("1 of 1 runs diverged") == 2
    again = train("--resume", tmp_path / "run").end()
    assert again.error() == error


def test_the_second_process_on_a_folder_is_refused_with_one_line(
    train: Start, reproduce: Start, tmp_path: Path
) -> None:
    first = train("--out", tmp_path / "run", "--epochs", "1000")
    first.wait_until(lambda: rows(tmp_path / "run") >= 2)
    refused = train("--resume", tmp_path / "run").end()
    assert refused.err == f"{refused.error()}\n"
    assert "run is in use" in refused.error()
    first.process.kill()
    first.end()
    with locked(tmp_path / "store"):
        error = reproduce("--out", tmp_path / "store").end().error()
    assert "store is in use" in error


def python(*arguments: object) -> subprocess.Popen[str]:
    """A command in a session of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=ROOT, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """What a command prints that must succeed."""
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return said


def kill_all(process: subprocess.Popen[str]) -> None:
    """The command and the processes that it started."""
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for_rows(process: subprocess.Popen[str], folder: Path, least: int) -> None:
    while process.poll() is None and rows(folder) < least:
        time.sleep(0.005)


@pytest.mark.slow
def test_twenty_random_kills_of_a_reproduction_change_no_byte(tmp_path: Path) -> None:
    command = (
        "-m real_nets.reproduce quick --epochs 2 --width 4 --diagnosed-images 100 --device cpu --out"
    ).split()
    whole, out = tmp_path / "whole", tmp_path / "killed"
    finish(python(*command, whole))
    generator = random.Random(0)
    for moment in sorted(generator.random() for _ in range(20)):
        process = python(*command, out)
        wait_for_rows(process, out, int(moment * rows(whole)))
        time.sleep(4 * generator.random())
        kill_all(process)
    finish(python(*command, out))
    assert contents(out) == contents(whole)


TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2 -m real_nets.train".split()


@pytest.mark.slow
def test_two_processes_train_the_network_that_one_trains(root: Path, tmp_path: Path) -> None:
    flags = ("--data", root / "cifar10", *TRAINED, "--out")
    finish(python("-m", "real_nets.train", *flags, tmp_path / "one"))
    said = finish(python(*TORCHRUN, *flags, tmp_path / "two"))
    assert said.count("Figures and records are in") == 1
    ours, theirs = (runs.read_json(tmp_path / n / "summary.json")["runs"] for n in ("two", "one"))
    for run, reference in zip(ours, theirs, strict=True):
        assert (run["step"], run["milestones"]) == (reference["step"], reference["milestones"])
        assert run["accuracy"] == pytest.approx(reference["accuracy"], abs=0.01)
        assert run["loss"] == pytest.approx(reference["loss"], rel=1e-3)
        assert run["logits_norm"] == pytest.approx(reference["logits_norm"], rel=1e-3)
    assert contents(tmp_path / "two").keys() == contents(tmp_path / "one").keys()


@pytest.mark.slow
def test_two_processes_killed_twice_change_no_byte_and_report_the_weights_they_save(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--data", root / "cifar10", *TRAINED, "--norm", "batch", "--out")
    whole, out = tmp_path / "whole", tmp_path / "killed"
    finish(python(*TORCHRUN, *flags, whole))
    arguments: tuple[Any, ...] = (*flags, out)
    for least in (2, 8):
        process = python(*TORCHRUN, *arguments)
        wait_for_rows(process, out, least)
        kill_all(process)
        arguments = ("--resume", out)
    finish(python(*TORCHRUN, *arguments))
    assert contents(out) == contents(whole)
    (whole / "T20-seed0" / "summary.json").unlink()
    finish(python("-m", "real_nets.train", "--resume", whole))  # one process measures again
    again, before = (runs.read_json(f / "T20-seed0" / "summary.json") for f in (whole, out))
    for name in ("accuracy", "loss", "test_loss", "logits_norm"):
        assert again[name] == pytest.approx(before[name], rel=1e-6)


@pytest.mark.slow
def test_two_processes_that_diverge_say_so_once_after_writing_all(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--data", root / "cifar10", *TRAINED, "--lr", "1e20", "--out", tmp_path / "run")
    process = python(*TORCHRUN, *flags)
    said, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert errors.count("real_nets.train: error: T = 1, seed 0: ") == 1
    assert said.count("1 of 1 runs diverged") == 2
    outcomes = [run["outcome"] for run in runs.read_json(tmp_path / "run" / "summary.json")["runs"]]
    assert outcomes == ["diverged", "diverged"]
