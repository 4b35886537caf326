"""The command: from names of targets to trained networks and a page."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from real_nets import reproduce
from real_nets.jobs.folder import FINAL
from real_nets.paper.store import read_targets
from real_nets.paper.targets import TARGETS, fig6
from tests.images import write_images
from tests.real_nets.reproduce.asking import MLP, QUICK, TINY, Main, contents, job_of


def test_quick_tells_its_plan_before_anything_starts(quick: tuple[Path, str, str]) -> None:
    _, _, messages = quick
    lines = [" ".join(line.split()) for line in messages.splitlines()]
    expected = [
        "resnet18 (width 1) glyphs:50 glyph-letters:50 glyph-fonts:50 1 1 1 1",
        "resnet18 (width 1) glyphs:50 glyph-letters:50 glyph-fonts:50 10 1 1 1",
        "2 of 2 networks",
        "Glyphs (drawn letters)",
    ]
    places = [
        next(i for i, line in enumerate(lines) if line.startswith(start)) for start in expected
    ]
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
        assert changed == (1, 60, 1, 250)
        assert (store / "jobs" / key / "diagnoses" / f"{FINAL}.json").is_file()
    page = (store / "report.html").read_text()
    assert "glyphs:50 for CIFAR-100" in page
    assert "glyphs:50 for CIFAR-100" in output
    assert str(store / "report.html") in output.splitlines()[-1]


@pytest.mark.usefixtures("untrained")
def test_a_second_run_reuses_everything(
    quick: tuple[Path, str, str], main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    store, output, _ = quick
    before = contents(store)
    assert main(*QUICK, "--out", store) == 0
    captured = capsys.readouterr()
    assert re.search("0 of 2 networks .*; 2 .*reused", captured.err)
    assert captured.out == output
    assert contents(store) == before


def test_folders_of_images_named_like_the_papers_data_work_from_end_to_end(
    main: Main, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert main("table1", "table3", "fig3", *TINY, *MLP, "--data", root, "--out", store) == 0
    kept = sorted(path.name for path in (store / "targets").iterdir())
    assert kept == ["fig3.json", "table1.json"]  # table 3 has no MLP
    captured = capsys.readouterr()
    assert re.search("Left out: .*svhn: .*'svhn'", captured.err)
    jobs = [job_of(folder) for folder in sorted((store / "jobs").iterdir())]
    assert {(job.data, job.ood, job.width, job.epochs) for job in jobs} == {
        ("cifar10", ("cifar100",), 16, 1)
    }
    assert sorted(job.temperature for job in jobs) == [1.0, 50.0]
    page = (store / "report.html").read_text()
    for heading in ("Table 1: ", "Figure 3: "):
        assert page.count(heading) >= 2  # contents and section
    assert "glyphs" not in page
    assert "no verdict" in captured.out
    rows = re.findall(r"75%.*?38%.*?(\d+\.\d)%", captured.out, re.DOTALL)
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
    assert re.search("2 .*reused", capsys.readouterr().err)
    before = contents(store)
    assert main("fig3", *TINY, *MLP, "--data", tmp_path / "other", "--out", store) == 2
    assert "other data" in capsys.readouterr().err
    assert contents(store) == before


def test_images_of_many_sizes_take_the_place_of_imagenet(main: Main, tmp_path: Path) -> None:
    for split, count in (("train", 20), ("val", 4)):
        for label in range(2):
            folder = tmp_path / "root" / "imagenet100" / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.full((70 + i, 90 - i, 3), 100 * label + i, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    narrow = ["--width", "1", "--batch-size", "4"]
    flags = ["--cells", "ImageNet-100/ResNet-34", "--data", tmp_path / "root", "--plan"]
    assert main("table1", *TINY, *narrow, *flags) == 0


@pytest.mark.parametrize(
    ("budget", "options", "gamma"), [("smoke", [], 0.001), ("small", ["--gamma", "0.1"], 0.1)]
)
def test_figure_6_needs_no_network_and_no_data_but_the_threshold(
    budget: str,
    options: list[str],
    gamma: float,
    main: Main,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fig6, "SEEDS", 1)
    assert main("fig6", "--budget", budget, "--out", tmp_path, *options) == 0
    captured = capsys.readouterr()
    assert re.fullmatch("No networks.*\n", captured.err)
    assert "largest" in captured.out
    assert not (tmp_path / "jobs").exists()
    (record,) = read_targets(tmp_path, list(TARGETS))
    assert record.computed["gamma"] == gamma
    assert f"γ = {gamma:g}, medians" in (tmp_path / "report.html").read_text()


def test_an_interrupted_command_says_how_to_go_on(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "execute", interrupt)
    assert main("fig6", "--out", tmp_path) == 130
    (line,) = capsys.readouterr().err.splitlines()[1:]
    for words in ("real_nets.reproduce: interrupted", str(tmp_path), "same command"):
        assert words in line
