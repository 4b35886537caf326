"""The command: from names of targets to trained networks and a page, or to one line on what is wrong."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rankdeficit.runs import read_json, write_json
from real_nets import execution, reproduce
from real_nets.job import Job
from real_nets.job_data import Source
from real_nets.job_folder import FINAL
from real_nets.reproduce import (
    OVERRIDES,
    Settings,
    at_equal_accuracy,
    chosen_names,
    parse_pairs,
    part_of,
    planned,
    prepare,
)
from real_nets.store import read_targets
from real_nets.targets import TARGETS
from tests.conftest import ROOT
from tests.images import write_images
from tests.real_nets.fabricated import Numbers, by_seed, fill, setup_of

QUICK = "quick --epochs 1 --diagnosed-images 100 --width 1 --batch-size 250".split()
TINY = (
    "--budget small --epochs 1 --width 16 --seeds 1 --batch-size 16 --diagnosed-images 36".split()
)
MLP = ["--cells", "CIFAR-10/MLP"]

Main = Callable[..., int]


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
    monkeypatch.setattr("real_nets.plan.estimate", refuse)


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
    arguments = [sys.executable, "-m", "real_nets.reproduce", *QUICK, "--out", str(store)]
    result = subprocess.run(
        arguments, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return store, result.stdout, result.stderr


def job_of(folder: Path) -> Job:
    return Job.of(json.loads((folder / "settings.json").read_text())["settings"]["job"])


def contents(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_quick_tells_its_plan_before_anything_starts(quick: tuple[Path, str, str]) -> None:
    _, _, messages = quick
    lines = [" ".join(line.split()) for line in messages.splitlines()]
    expected = [
        "resnet18 (width 1) glyphs:50 glyph-letters:50 glyph-fonts:50 1 1 1 1",
        "resnet18 (width 1) glyphs:50 glyph-letters:50 glyph-fonts:50 10 1 1 1",
        "2 of 2 networks to train or diagnose.",
        "These networks learn drawn letters, glyphs, in place of all data sets.",
    ]
    places = [lines.index(line) for line in expected]
    estimate = next(i for i, line in enumerate(lines) if line.startswith("About "))
    started = next(i for i, line in enumerate(lines) if line.startswith("1/2 "))
    assert [*places, estimate, started] == sorted([*places, estimate, started])
    assert re.match(r"About \d+ (s|min) on \w+", lines[estimate])


def test_quick_leaves_jobs_records_and_a_page(quick: tuple[Path, str, str]) -> None:
    store, output, _ = quick
    (record,) = read_targets(store, list(TARGETS))
    assert (record.name, record.budget, record.left_out) == ("quick", "smoke", {})
    keys = [key for cell in record.cells for key in cell.keys]
    assert sorted(path.name for path in (store / "jobs").iterdir()) == sorted(keys)
    for key in keys:
        job = job_of(store / "jobs" / key)
        assert job.key == key
        changed = (job.epochs, job.diagnosed_images, job.width, job.batch_size)
        assert changed == (1, 100, 1, 250)
        assert (store / "jobs" / key / "diagnoses" / f"{FINAL}.json").is_file()
    page = (store / "report.html").read_text()
    assert "glyphs:50 for CIFAR-100" in page
    assert "glyphs:50 for CIFAR-100" in output
    assert output.splitlines()[-1] == (
        f"The page, with all tables and figures, is {store / 'report.html'}."
    )


@pytest.mark.usefixtures("untrained")
def test_a_second_run_reuses_everything(
    quick: tuple[Path, str, str], main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    store, output, _ = quick
    before = contents(store)
    assert main(*QUICK, "--out", store) == 0
    captured = capsys.readouterr()
    assert "0 of 2 networks to train or diagnose; 2 are finished already" in captured.err
    assert captured.out == output
    assert contents(store) == before


@pytest.mark.parametrize("network", ["mlp", "resnet18", "vit_b16"])
def test_options_change_every_network_of_a_budget(network: str) -> None:
    options = {
        "epochs": 3, "width": 7, "lr": 0.25, "lr_rule": "reparametrised", "clip_norm": 0.75,
        "batch_size": 9, "image_size": 48, "precision": "bf16", "compile": True, "gamma": 0.5,
        "diagnosed_images": 11,
    }  # fmt: skip
    assert set(options) == set(OVERRIDES)
    job = prepare(Settings(**options), Source()).budget.job("glyphs:50", network)
    assert {name: getattr(job, name) for name in OVERRIDES} == options
    plain = prepare(Settings(), Source()).budget.job("glyphs:50", network)
    assert not any(getattr(plain, name) == value for name, value in options.items())


@pytest.mark.parametrize(
    ("asked", "budget", "fig8", "quick"),
    [(None, "smoke", 10, 1), (2, "smoke", 2, 2), (3, "small", 3, 3), (12, "paper", 12, 12)],
)
def test_as_many_seeds_are_planned_as_were_asked_for(
    asked: int | None, budget: str, fig8: int, quick: int
) -> None:
    setup = prepare(Settings(seeds=asked, budget=budget), Source())  # type: ignore[arg-type]
    setup.why_missing = lambda name: None
    for target, seeds in (("fig8", fig8), ("quick", quick)):
        part = part_of(TARGETS[target], setup)
        assert {len(cell.keys) for cell in part.cells} == {seeds}


def test_figure_6_is_computed_at_the_threshold_asked_for(main: Main, tmp_path: Path) -> None:
    for gamma, told in ((None, 0.001), (0.1, 0.1)):
        options = [] if gamma is None else ["--gamma", str(gamma)]
        assert main("fig6", "--out", tmp_path, *options) == 0
        (record,) = read_targets(tmp_path, list(TARGETS))
        assert record.computed["gamma"] == told
        assert f"γ = {told:g}, medians" in (tmp_path / "report.html").read_text()


def test_planning_trains_nothing_and_leaves_nothing(
    main: Main, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert main("table1", *TINY, *MLP, "--data", root, "--plan", "--out", store) == 0
    captured = capsys.readouterr()
    assert "2 of 2 networks to train or diagnose." in captured.err
    assert "judging by 5 steps" in captured.err
    assert captured.out == ""
    assert not store.exists()


def test_folders_of_images_named_like_the_papers_data_work_from_end_to_end(
    main: Main, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert main("table1", "table3", "fig3", *TINY, *MLP, "--data", root, "--out", store) == 0
    kept = sorted(path.name for path in (store / "targets").iterdir())
    assert kept == ["fig3.json", "table1.json"]  # table 3 has no MLP
    captured = capsys.readouterr()
    assert "Left out: out-of-distribution set svhn: data set 'svhn' is not in " in captured.err
    jobs = [job_of(folder) for folder in sorted((store / "jobs").iterdir())]
    assert {(job.data, job.ood, job.width, job.epochs) for job in jobs} == {
        ("cifar10", ("cifar100",), 16, 1)
    }
    assert sorted(job.temperature for job in jobs) == [1.0, 50.0]
    page = (store / "report.html").read_text()
    for heading in ("Table 1: ", "Figure 3: "):
        assert page.count(heading) >= 2  # contents and section
    assert "glyphs" not in page
    assert "MLP on CIFAR-10: no verdict, as networks did not leave their start" in captured.out
    rows = re.findall(r"CIFAR-10 +75% +67% +9 +(\d+\.\d)%", captured.out)
    (folder,) = [store / "jobs" / job.key for job in jobs if job.temperature == 1]
    report = json.loads((folder / "diagnoses" / "final.json").read_text())
    assert rows == [f"{100 * report['effective_depth']['value']:.1f}"]


def test_finished_networks_of_other_data_are_not_reused(
    main: Main, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert main("fig3", *TINY, *MLP, "--data", root, "--out", store) == 0
    shutil.copytree(root, tmp_path / "same")
    shutil.copytree(root, tmp_path / "other")
    write_images(tmp_path / "other" / "cifar10", classes=5, train=30, test=10)
    assert main("fig3", *TINY, *MLP, "--data", tmp_path / "same", "--out", store) == 0
    assert "2 are finished already" in capsys.readouterr().err
    before = contents(store)
    assert main("fig3", *TINY, *MLP, "--data", tmp_path / "other", "--out", store) == 2
    assert "was trained on other data than there are now" in capsys.readouterr().err
    assert contents(store) == before


def test_images_of_many_sizes_take_the_place_of_imagenet(main: Main, tmp_path: Path) -> None:
    for split, count in (("train", 20), ("val", 4)):
        for label in range(2):
            folder = tmp_path / "root" / "imagenet100" / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.full((70 + i, 90 - i, 3), 100 * label + i, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    flags = ["--cells", "ImageNet-100/ResNet-34", "--data", tmp_path / "root", "--plan"]
    assert main("table1", *TINY, *flags) == 0


def test_networks_are_diagnosed_at_equal_accuracy_once_all_have_reached_one(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that are finished already, with the weights they kept; what is asked of them next."""
    root, store = tmp_path / "root", tmp_path / "store"
    for name in ("cifar10", "cifar100", "svhn"):
        write_images(root / name, classes=2, train=2, test=2)
    setup = setup_of(pick=["CIFAR-10/ResNet-18"])
    kept = Numbers(kept={0.2: None, 0.5: None})
    low = [Numbers(kept={0.2: Numbers()}), *[Numbers(kept={0.2: None})] * 2]
    fill(store, ["table1"], by_seed(baseline=[kept] * 3, low=low), setup)
    for file in store.glob("jobs/*/settings.json"):
        written = read_json(file)
        write_json(file, written | {"settings": written["settings"] | {"root": str(root)}})
    done = next(key for key, job in setup.jobs.items() if job.temperature > 1 and job.seed == 0)
    asked = []

    def note(work: list[execution.Work], *how: object) -> None:
        asked.extend((item.job.key, item.snapshots) for item in work)

    monkeypatch.setattr(reproduce, "execute", note)
    arguments = ["table1", "table2", "--budget", "small", "--cells", "CIFAR-10/ResNet-18"]
    assert main(*arguments, "--data", root, "--out", store) == 0
    assert sorted(asked) == sorted((key, ("accuracy-0.2",)) for key in setup.jobs if key != done)


def test_targets_that_compare_nothing_at_equal_accuracy_ask_for_nothing(tmp_path: Path) -> None:
    setup = setup_of()
    kept = Numbers(kept={0.5: None})
    fill(tmp_path, ["quick"], lambda job: kept, setup)
    for name, asked in (("ortho-dev", 0), ("quick", 6), ("table1", 6)):
        parts = [part_of(TARGETS[name], setup)]
        assert len(at_equal_accuracy(parts, setup.jobs, tmp_path)) == asked


def test_only_targets_that_need_diagnoses_ask_for_them(tmp_path: Path) -> None:
    setup = setup_of()
    parts = [part_of(TARGETS[name], setup) for name in ("fig3", "table3")]
    asked = {(item.job.model, item.snapshots) for item in planned(setup, parts, tmp_path)}
    assert asked == {("mlp", ()), ("vgg19", (FINAL,))}


def test_targets_share_their_jobs_but_not_what_was_left_out() -> None:
    setup = setup_of(missing=("imagenet", "svhn"))
    first, second, third = (part_of(TARGETS[name], setup) for name in ("table1", "fig3", "fig6"))
    assert len(first.left_out) == 3
    assert second.left_out == {"out-of-distribution set svhn": "no svhn here"}
    assert third.left_out == {}
    assert set(setup.jobs) == {key for cell in first.cells for key in cell.keys}


@pytest.mark.parametrize("budget", ["smoke", "small"])
def test_figure_6_needs_no_network_and_no_data(
    budget: str, main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("fig6", "--budget", budget, "--out", tmp_path) == 0
    captured = capsys.readouterr()
    assert captured.err == "No networks to train or diagnose.\n"
    assert "Highest rank, and rank at the largest factor" in captured.out
    assert not (tmp_path / "jobs").exists()


def test_an_interrupted_command_says_how_to_go_on(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "execute", interrupt)
    assert main("fig6", "--out", tmp_path) == 130
    (line,) = capsys.readouterr().err.splitlines()[1:]
    assert line == "real_nets.reproduce: interrupted; the same command goes on where it stopped"


@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_a_plan_of_tasks_tells_their_time_and_needs_no_cluster(
    executor: str, main: Main, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["table1", *TINY, *MLP, "--data", root, "--executor", executor, "--plan"]
    assert main(*arguments, "--out", tmp_path / "store") == 0
    assert re.search(r"2 tasks: about \d+ (s|min) for the longest, ", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["--list"], [], ["--list", "table1"]])
def test_targets_are_listed(
    arguments: list[str], main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(*arguments) == 0
    text = capsys.readouterr().out
    assert all(f" {name} " in text for name in TARGETS)


ROOTED = ["--budget", "small", "--data", "ROOT"]
BAD: list[tuple[list[str], list[str]]] = [
    (["tabel1"], ["no target 'tabel1'", "close names are table1"]),
    (["quick", "zzz"], ["no target 'zzz'", "--list"]),
    (["quick", "--cells", "CIFAR-10/*"], ["'CIFAR-10/*' matches none", "CIFAR-100/ResNet-18"]),
    (["table3", "--cells", "*/VGG-19", "MLP"], ["'MLP' matches none", "CIFAR-10/VGG-19"]),
    (["fig6", "--cells", "*"], ["'*' matches none", "these targets have no cells"]),
    (["table1", "--budget", "small"], ["the small budget needs data", "--data"]),
    (["table1", *ROOTED[:3], "nowhere"], ["data nowhere does not exist"]),
    (["fig1", *ROOTED, "--replace", "cifar100=gone"], ["nothing to train: 1 left out", "gone"]),
    (["table1", *ROOTED, "--cells", "ImageNet-1k/*"], ["2 left out", "ImageNet-1k/ResNet-34"]),
    (["fig1", *ROOTED, "--replace", "svhn"], ["replace is 'svhn'", "NAME=VALUE"]),
    (["fig1", *ROOTED, "--replace", "=svhn"], ["replace is '=svhn'", "NAME=VALUE"]),
    (["fig1", *ROOTED, "--replace", "cifar=a"], ["replace names 'cifar'", "cifar10, cifar100"]),
    (["quick", "--replace", "cifar10=a"], ["replace is 'cifar10=a'", "glyphs for all data sets"]),
    (["quick", "--executor", "cloud"], ["'cloud'", "'here', 'local', 'slurm'"]),
    (["quick", "--slurm", "a=1"], ["slurm options are for --executor slurm"]),
    (["quick", "--executor", "slurm", "--slurm", "a"], ["slurm is 'a'", "NAME=VALUE"]),
    (["quick", "--executor", "local", "--slurm", "a=1"], ["slurm is {'a': 1}", "submitit says"]),
    (["quick", "fig6", "--budget", "small"], ["the small budget needs data"]),
    (["quick", "--budget", "huge"], ["'huge'", "smoke"]),
    (["quick", "--seeds", "0"], ["seeds is 0"]),
    (["quick", "--epochs", "-1"], ["epochs is -1"]),
    (["quick", "--temperature", "0"], ["temperature is 0"]),
    (["quick", "--temperature", "nan"], ["temperature is nan"]),
    (["quick", "--temperature", "1"], ["temperature is 1;", "must be above 1"]),
    (["quick", "--gamma", "1"], ["gamma is 1.0"]),
    (["fig6", "--gamma", "0"], ["gamma is 0.0"]),
    (["quick", "--width", "0"], ["width is 0"]),
    (["quick", "--lr", "inf"], ["lr is inf"]),
    (["quick", "--batch-size", "0"], ["batch_size is 0"]),
    (["quick", "--diagnosed-images", "-1"], ["diagnosed_images is -1"]),
    (["quick", "--workers", "-1"], ["workers is -1"]),
    (["quick", "--device", "tpu"], ["device is 'tpu'"]),
    (["quick", "--lr-rule", "some"], ["'some'", "matched"]),
    (["quick", "--image-size", "0"], ["image_size is 0"]),
    (["quick", "--unknown"], ["--unknown"]),
    (["fig1", "--cells", "a", "--cells=b"], ["--cells is given several times; give it once"]),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[" ".join(bad) for bad, _ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    words: list[str],
    main: Main,
    tmp_path: Path,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(root) if argument == "ROOT" else argument for argument in arguments]
    assert main(*given, "--out", tmp_path / "store") == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("real_nets.reproduce: error: ")
    for word in words:
        assert word in line
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


def test_unreadable_data_leave_nothing(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "root" / "cifar10", classes=2, train=2, test=2)
    (tmp_path / "root" / "cifar10" / "train" / "class0" / "0.png").write_text("no image")
    assert main("fig3", *TINY, "--data", tmp_path / "root", "--out", tmp_path / "store") == 2
    assert "0.png" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "store").exists()


def test_the_store_is_for_one_command_at_a_time(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with reproduce.locked(tmp_path):
        assert main("fig6", "--out", tmp_path) == 2
    assert "is in use by another process" in capsys.readouterr().err
    assert not (tmp_path / "targets").exists()


@pytest.mark.usefixtures("untrained")
def test_a_place_that_is_no_store_is_refused_before_anything_is_timed_or_written(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign, file, used = (tmp_path / name for name in ("foreign", "file", "used"))
    foreign.mkdir()
    (foreign / "report.html").write_text("mine")
    file.write_text("mine")
    with reproduce.locked(used):
        for place, words in (
            (foreign, "holds something else"),
            (file, "cannot be written"),
            (used, "is in use by another process"),
        ):
            before = contents(tmp_path)
            assert main("quick", "--out", place) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert words in line
            assert contents(tmp_path) == before


def test_each_target_is_done_once_and_all_means_all() -> None:
    assert chosen_names(("fig1", "table1", "fig1")) == ["fig1", "table1"]
    assert chosen_names(("fig1", "all")) == list(TARGETS)


def test_pairs_may_hold_further_signs_of_equality() -> None:
    assert parse_pairs("slurm", ("a=1", "comment=b=c")) == {"a": "1", "comment": "b=c"}
    assert parse_pairs("slurm", ()) == {}
