"""What all commands share: bad options, a full disk, kills, damaged files, a closed standard output."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import simulations
from rankdeficit.experiments.experiment import UnitByUnit, find_experiments
from tests.commands import Command
from tests.images import write_images
from tests.real_nets.tiny import contents
from tests.undrawn import save_digest

STEPS = "--steps 12 --measure-every 4 --checkpoint-every 4"
SIMULATIONS = {
    "ufm": f"--classes 4 --samples-per-class 2 --width 6 --temperature 10 --seeds 1 {STEPS}",
    "mlp": f"--classes 4 --samples-per-class 3 --inputs 5 --width 8 --depth 3 --seeds 1 {STEPS}",
    "temperature_schedule": f"--classes 4 --width 6 --depth 2 --seeds 1 {STEPS}",
    "phase_diagram": "--classes 4 --width 5 --depth 1 --temperature 9 --init-scale 0.5 --seeds 2 "
    f"{STEPS}",
    "margins": f"--classes 3 --width 3 --depth 1 --init-scale 0.5 --seeds 1 {STEPS}",
    "minima": "--classes 3 4 5 6 --factors 2 3 --seeds 1 --init-scale 0.5 --symmetric-starts 1 "
    "--steps 20",
    "imbalance": f"--classes 4 --samples-per-class 4 --imbalance 2 --width 5 --depth 1 --temperature 9 "
    f"--seeds 1 {STEPS}",
    "dynamics": f"--classes 4 --width 5 --depth 1 --temperature 1 --seeds 1 {STEPS}",
    "equivalence": "--classes 3 --samples-per-class 2 --width 4 --depth 2 --seeds 1 --steps 4",
    "hyperparameters": "--classes 4 --samples-per-class 3 --inputs 6 --width 8 --depth 3 "
    "--temperature 10 --seeds 1 --steps 4 --intervention soft-cap=1",
    "interventions": "--classes 4 --samples-per-class 3 --inputs 6 --width 8 --depth 3 --temperature 10 "
    "--seeds 1 --steps 4 --intervention encoder-entropy",
    "gibbs": "--classes 3 --samples 9 --kind ladder --temperatures 3 --sigma 2 --noise 0.4 "
    "--decay 0.01 0.1 --temperature 2 --seeds 2",
    "distillation": "--classes 3 --inputs 4 --samples-per-class 4 --width 6 --student-width 4 "
    "--depth 2 --temperature 1 20 --kd-temperature 1 4 --seeds 2 --steps 5",
    "dial": "--seeds 2 --judged 1 --configurations 1 --temperatures 2 --trial",
    "explain": "--seeds 3 --configurations 1 --temperatures 2 --trial",
    "attention": "--tokens 6 --dimension 1 2 --seeds 2 --temperatures 5",
    "large_classes": f"--classes 9 --width 3 --seeds 1 {STEPS}",
    "random_softmax": "--n 6 --logits-rank 1 2 --seeds 2 --scales 5",
}
REAL_NETS = [
    f"real_nets.{name}"
    for name in ("train", "diagnose", "reproduce", "report", "norms", "distil", "compress", "dial")
]
COMMANDS = [*(f"simulations.{name}" for name in SIMULATIONS), "simulations", "proofs", *REAL_NETS]
COMMANDS += ["rankdeficit.control.dial.calibrate"]
WHOLE_FILES = ("settings.json", "summary.json", "metrics.jsonl", "checkpoint.pt")


@dataclass(frozen=True)
class Resumable:
    """A command whose run folder a stopped run leaves to go on from."""

    flags: str
    """ROOT in it is a folder of tiny data sets."""
    resume: str = "--resume"
    """Option that takes the folder to go on from."""
    written: str = "summary.json"
    """File that is written at the end alone."""
    stops: tuple[int, int] = (2, 1)
    """Checkpoints, counted from each start, before which the run is stopped."""
    largest_file: int | None = None
    """Bytes beyond which no file grows on the full disk; half of the rows where None."""


RESUMABLE = {f"simulations.{name}": Resumable(flags) for name, flags in SIMULATIONS.items()} | {
    "real_nets.train": Resumable(
        "--width 16 --depth 3 --temperature 1 20 --epochs 2 --batch-size 16 --lr 0.1 "
        "--temperature-schedule hot --hot-share 0.6 --followed-images 60 --data ROOT/cifar10",
        largest_file=30_000,  # of checkpoints, the first fits: later ones hold the optimiser's state
    ),
    "real_nets.dial": Resumable(
        "--target-rank 2 --temperature 1 20 --width 16 --depth 3 --epochs 5 --batch-size 16 --lr 0.1 "
        "--followed-images 60 --train-all --data ROOT/cifar10",
        stops=(3, 1),  # between a pilot and the next
        largest_file=30_000,
    ),
    "real_nets.reproduce": Resumable(
        "table1 --cells CIFAR-10/MLP --budget small --seeds 1 --epochs 4 --width 16 --lr 0.2 "
        "--batch-size 16 --diagnosed-images 40 --other-temperatures --data ROOT",
        resume="--out",
        written="report.html",
        stops=(2, 9),  # while its first and while its second network is trained
        largest_file=30_000,
    ),
}

RENDERED = ("simulations.ufm", "simulations.random_softmax")
"""Commands whose figures are rendered here; those of others are compared by what they show."""

SECONDS = re.compile(rb"<dt>seconds[^<]*</dt>\s*<dd>[^<]*</dd>")
"""Times in the conditions of a page."""

Start = Callable[..., Command]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start a command beside the test."""
    said, numbers = tmp_path_factory.mktemp("said"), count()

    def begin(module: str, *arguments: object, **options: object) -> Command:
        return Command(said / str(next(numbers)), module, *arguments, **options)  # type: ignore[arg-type]

    return begin


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """The options of a command, with tiny data sets by the names that targets ask for."""
    root = tmp_path_factory.mktemp("root")
    for name, classes, train in (("cifar10", 4, 30), ("svhn", 3, 12), ("cifar100", 5, 12)):
        write_images(root / name, classes=classes, train=train, test=train // 3 + 2)
    return lambda name: [
        *RESUMABLE[name].flags.replace("ROOT", str(root)).split(), "--device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(
    start: Start, flags: Callable[[str], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of an undisturbed run of a command, made once."""
    root = tmp_path_factory.mktemp("whole")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            ended = start(
                name, *flags(name), "--out", root / name, rendering=name in RENDERED
            ).end()
            assert ended.status == 0, ended.err
            assert str(root / name) in ended.out
            assert list((root / name).rglob("*.png")) or not name.startswith("simulations.")
        return root / name

    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in WHOLE_FILES}


def records(folder: Path) -> dict[str, bytes]:
    """All that equal runs have in common, except figures, which take most of a short run."""
    return {
        name: SECONDS.sub(b"", data)
        for name, data in contents(folder).items()
        if not name.endswith(".png")
    }


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
def test_bad_values_are_one_line_and_leave_nothing(
    name: str, start: Start, flags: Callable[[str], list[str]], tmp_path: Path
) -> None:
    out, module = tmp_path / "run", f"simulations.{name}"
    for option, value, word in (
        ("--seeds", "0", "seeds is 0"), ("--gamma", "2", "gamma is 2"), ("--seed", "x", "--seed"),
        ("--device", "abacus", "device is 'abacus'"),
    ):  # fmt: skip
        ended = start(module, option, value, "--out", out).end()
        assert ended.err == f"{ended.error()}\n"
        assert word in ended.err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    ended = start(module, *flags(module), "--out", tmp_path / "full").end()
    assert "not empty" in ended.error()
    ended = start(module, "--resume", tmp_path).end()
    assert "settings.json" in ended.error()
    assert not out.exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


KILLED, TERMINATED = (signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)
OF_EACH_FRAME = (
    "simulations.ufm", "simulations.random_softmax", "real_nets.train", "real_nets.reproduce",
)  # fmt: skip
"""Step by step, unit by unit, and network by network."""


def again(name: str, given: list[object], out: Path) -> list[object]:
    """The arguments that go on with a run."""
    return given if RESUMABLE[name].resume == "--out" else ["--resume", out]


UNIT_BY_UNIT = {
    name
    for name, kind in find_experiments(simulations).items()
    if issubclass(kind, UnitByUnit) and "work" not in vars(kind)
} - {*OF_EACH_FRAME}
"""Their resuming is all the frame's, which one of them tests by default."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(own, marks=[pytest.mark.slow] * (own in UNIT_BY_UNIT)) for own in RESUMABLE],
)
def test_a_stopped_run_resumes_to_the_same_bytes(
    name: str, start: Start, whole: Callable[[str], Path], flags: Callable[[str], list[str]],
    tmp_path: Path,
) -> None:  # fmt: skip
    """It is stopped once, and in one command of each frame before that by SIGTERM."""
    out, own = tmp_path / "run", RESUMABLE[name]
    given: list[object] = [*flags(name), "--out", out]
    arguments = given
    stops = list(zip(own.stops, (TERMINATED, KILLED), strict=True))
    for at, (stop, status) in stops if name in OF_EACH_FRAME else [(own.stops[0], KILLED)]:
        ended = start(name, *arguments, stop=(stop, at)).end()
        assert ended.status == status
        assert "Traceback" not in ended.err
        assert not (out / own.written).exists()
        if stop == signal.SIGTERM:
            assert str(out) in ended.err.splitlines()[-1]
        arguments = again(name, given, out)
    ended = start(name, *arguments, drawing=False).end()
    assert ended.status == 0, ended.err
    assert records(out) == records(whole(name))


@pytest.mark.parametrize("name", SIMULATIONS)
def test_figures_come_from_the_folder_alone(
    name: str, whole: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its records, to the same bytes as the command drew; a resumed run has the same records."""
    module = f"simulations.{name}"
    if module not in RENDERED:
        monkeypatch.setattr(Figure, "savefig", save_digest)
    for file in ("summary.json", "metrics.jsonl"):
        shutil.copy(whole(module) / file, tmp_path)
    find_experiments(simulations)[module]().draw(tmp_path)
    drawn, again = (
        {path.name: path.read_bytes() for path in folder.glob("*.png")}
        for folder in (whole(module), tmp_path)
    )
    assert drawn == again


@pytest.mark.parametrize(
    "name",
    [
        name if name in OF_EACH_FRAME else pytest.param(name, marks=pytest.mark.slow)
        for name in RESUMABLE
    ],
)
def test_a_full_disk_is_one_line_and_loses_nothing(
    name: str, start: Start, whole: Callable[[str], Path], flags: Callable[[str], list[str]],
    tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    given: list[object] = [*flags(name), "--out", out]
    size = RESUMABLE[name].largest_file
    if size is None:
        size = (whole(name) / "metrics.jsonl").stat().st_size // 2
    ended = start(name, *given, largest_file=size).end()
    assert "room" in ended.error()
    assert not list(out.rglob("*.partial"))
    ended = start(name, *again(name, given, out), drawing=False).end()
    assert ended.status == 0, ended.err
    assert records(out) == records(whole(name))


@pytest.mark.parametrize("name", SIMULATIONS)
def test_damaged_files_are_one_line_and_stay_as_they_are(
    name: str, start: Start, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    for file, keep, word in (
        ("settings.json", 9, "settings.json"),
        ("checkpoint.pt", 99, "delete"),
        ("metrics.jsonl", 9, "rows"),
    ):
        out = tmp_path / file
        shutil.copytree(whole(f"simulations.{name}"), out)
        os.truncate(out / file, keep)
        before = files(out)
        ended = start(f"simulations.{name}", "--resume", out).end()
        assert ended.err == f"{ended.error()}\n"
        assert word in ended.err
        assert files(out) == before


def test_results_are_kept_where_standard_output_is_full(
    start: Start, whole: Callable[[str], Path], flags: Callable[[str], list[str]], tmp_path: Path
) -> None:
    out, name = tmp_path / "run", "simulations.ufm"
    ended = start(name, *flags(name), "--out", out, output=Path("/dev/full")).end()
    assert "standard output" in ended.error()
    assert files(out).keys() == files(whole(name)).keys()
    assert (out / "summary.json").read_bytes() == (whole(name) / "summary.json").read_bytes()
