"""`python -m simulations.ufm`: its folder, its resume, its errors, and the effect it shows."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

import rankdeficit as rd
from rankdeficit.experiments import runs
from rankdeficit.toys.labels import long_tailed_counts, noisy_targets
from simulations import ufm
from simulations.ufm import Settings
from tests.conftest import ROOT

SMALL = Settings(
    temperature=(1.0, 30.0), depth=(2, 3), seeds=2, classes=4, samples_per_class=3, width=6,
    steps=60, measure_every=20, checkpoint_every=25, device="cpu",
)  # fmt: skip
REQUIRED = {
    "temperature", "depth", "seed", "accuracy", "loss", "rank", "rank_curve", "centred_rank",
    "post_softmax_rank", "stable_rank", "effective_rank", "logits_norm", "effective_logits_norm",
}  # fmt: skip


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("summary.json", "metrics.jsonl")}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run and what it printed."""
    with redirect_stdout(StringIO()) as output:
        folder = ufm.Ufm().run(replace(SMALL, out=tmp_path_factory.mktemp("small") / "run"))
    return folder, output.getvalue()


def test_the_run_folder(small: tuple[Path, str]) -> None:
    folder, output = small
    names = {path.name for path in folder.iterdir()}
    assert names == {
        ".lock", "settings.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt",
        "environment.json", "summary.json", "summary.csv",
    }  # fmt: skip
    summary = runs.read_json(folder / "summary.json")
    keys = [(r["depth"], r["temperature"], r["seed"]) for r in summary["runs"]]
    assert keys == [(d, T, s) for d in (2, 3) for T in (1.0, 30.0) for s in (0, 1)]
    halved = {(one["depth"], one["kind"]): one["temperature"] for one in summary["halvings"]}
    assert set(halved) == {
        (d, kind) for d in (2, 3) for kind in ("rank", "centred_rank", "post_softmax_rank")
    }
    assert all(T is None or 1 < T <= 30 for T in halved.values())
    for run in summary["runs"]:
        assert run.keys() >= REQUIRED
        assert run["rank_curve"]["0.001"] == run["rank"]
        ratio = run["logits_norm"] / run["effective_logits_norm"]
        assert ratio == pytest.approx(run["temperature"])
        assert len(run["singular_values"]) == 4
    rows = runs.read_rows(folder)
    assert {row["step"] for row in rows} == {0, 1, 2, 4, 8, 16, 20, 40, 60}
    last = [row for row in rows if row["step"] == 60]
    for row, run in zip(last, summary["runs"], strict=True):
        assert row["rank"] == run["rank"]
        assert row["loss"] == run["loss"]
    assert "Neural Collapse predicts" in output
    assert str(folder) in output


def test_another_seed_gives_other_numbers(small: tuple[Path, str], tmp_path: Path) -> None:
    other = ufm.Ufm().run(replace(SMALL, seed=2, steps=1, out=tmp_path / "run"))
    ours, theirs = (
        {row["loss"] for row in runs.read_rows(folder) if row["step"] == 0}
        for folder in (small[0], other)
    )
    assert len(ours) == len(theirs) == 8
    assert ours.isdisjoint(theirs)


def test_a_run_does_not_depend_on_what_is_trained_beside_it(tmp_path: Path) -> None:
    settings = replace(SMALL, dtype="float64")
    many = ufm.Ufm().run(replace(settings, out=tmp_path / "many"))
    alone = ufm.Ufm().run(
        replace(settings, temperature=(30.0,), baseline=False, depth=(3,), seeds=1, seed=1,
                out=tmp_path / "alone")
    )  # fmt: skip
    (run,) = runs.read_json(alone / "summary.json")["runs"]
    others = runs.read_json(many / "summary.json")["runs"]
    key = ("temperature", "depth", "seed")
    (twin,) = [r for r in others if all(r[k] == run[k] for k in key)]
    assert run["loss"] == pytest.approx(twin["loss"], rel=1e-9)
    assert run["singular_values"] == pytest.approx(twin["singular_values"], rel=1e-6)


KILLED_FLAGS = (
    "--classes 6 --width 24 --seeds 3 --steps 3000 --checkpoint-every 50 --measure-every 50"
).split()


def start(*arguments: str, threads: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "simulations.ufm", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_and_resume(
    folder: Path, rows: Sequence[int], delays: Sequence[float], threads: int
) -> None:
    """Kill -9 each process some time after so many rows were written; let the last one finish."""
    metrics = folder / "metrics.jsonl"
    arguments = [*KILLED_FLAGS, "--out", str(folder)]
    for count, delay in zip(rows, delays, strict=True):
        process = start(*arguments, threads=threads)
        while process.poll() is None:
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= count:
                break
            time.sleep(0.002)
        time.sleep(delay)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (folder / "summary.json").exists()
        if (folder / "settings.json").exists():
            arguments = ["--resume", str(folder)]
    assert start(*arguments, threads=threads).wait() == 0


@pytest.mark.slow
def test_twenty_random_kills(tmp_path: Path) -> None:
    assert start(*KILLED_FLAGS, "--out", str(tmp_path / "whole"), threads=1).wait() == 0
    total = (tmp_path / "whole" / "metrics.jsonl").read_bytes().count(b"\n")
    generator = random.Random(0)
    rows = sorted(generator.choices(range(total // 2), k=20))
    kill_and_resume(tmp_path / "killed", rows, [generator.random() / 20 for _ in rows], threads=1)
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.parametrize("optimizer", ["gd", "sgd", "adam"])
def test_resuming_from_each_checkpoint_changes_nothing(
    optimizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SMALL, optimizer=optimizer, seeds=1, steps=24, measure_every=8)
    settings = replace(settings, checkpoint_every=10)
    saved: list[Path] = []
    original = runs.RunFolder.save_checkpoint

    def save_and_keep(folder: runs.RunFolder, state: dict[str, Any]) -> None:
        original(folder, state)
        copy = tmp_path / f"copy{len(saved)}"
        shutil.copytree(folder.path, copy)
        saved.append(copy)

    with monkeypatch.context() as patched:
        patched.setattr(runs.RunFolder, "save_checkpoint", save_and_keep)
        whole = ufm.Ufm().run(replace(settings, out=tmp_path / "whole"))
    assert len(saved) == 3
    for copy in saved:
        assert results(ufm.Ufm().run(Settings(resume=copy))) == results(whole)


def test_the_figures_show_the_rows(small: tuple[Path, str]) -> None:
    rows, summary = runs.read_rows(small[0]), runs.read_json(small[0] / "summary.json")
    figures = ufm.Ufm().figures(rows, summary)
    assert {*figures} == {"ranks", "spectra", "alignment", "rank_over_temperature"}
    panel = figures["ranks"].axes[0]
    (line,) = [x for x in panel.get_lines() if x.get_label() == "raw logits"]
    own = [r for r in rows if r["temperature"] == 1 and r["depth"] == 2 and r["step"] == 60]
    assert line.get_ydata()[-1] == sum(r["rank"] for r in own) / 2
    assert panel.get_ylabel() == "numerical rank"


def draw(folder: Path) -> None:
    """Lay all figures out, which warns of values that an axis cannot show."""
    figures = ufm.Ufm().figures(runs.read_rows(folder), runs.read_json(folder / "summary.json"))
    for figure in figures.values():
        figure.draw_without_rendering()


def test_diverged_and_stalled_runs_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(SMALL, temperature=(1.0,), depth=(2,), optimizer="gd", lr=1e9)
    folder = ufm.Ufm().run(replace(settings, out=tmp_path / "diverged"))
    assert re.search("2 of 2 runs diverged.*--lr", capsys.readouterr().out)
    summary = json.loads((folder / "summary.json").read_text())
    assert [run["rank"] for run in summary["runs"]] == [None, None]
    draw(folder)
    ufm.Ufm().run(replace(settings, dtype="float64", steps=4, out=tmp_path / "diverged64"))
    assert "2 of 2 runs diverged" in capsys.readouterr().out
    decayed = replace(settings, dtype="float64", weight_decay=1.0, lr=0.9, steps=200)
    folder = ufm.Ufm().run(replace(decayed, out=tmp_path / "zero"))
    summary = runs.read_json(folder / "summary.json")
    assert [run["rank"] for run in summary["runs"]] == [0, 0]
    draw(folder)
    assert "2 of 2 runs stalled" in capsys.readouterr().out
    settings = replace(settings, temperature=(1e5,), baseline=False, lr=1e-6)
    ufm.Ufm().run(replace(settings, out=tmp_path / "stalled"))
    assert "2 of 2 runs stalled" in capsys.readouterr().out


def test_the_effect_at_hundred_percent_accuracy(tmp_path: Path) -> None:
    settings = Settings(
        temperature=(100.0,), seeds=3, classes=20, samples_per_class=5, width=40, steps=400,
        gamma=1e-2, device="cpu", out=tmp_path / "run",
    )  # fmt: skip
    summary = runs.read_json(ufm.Ufm().run(settings) / "summary.json")
    hot = [r for r in summary["runs"] if r["temperature"] == 100]
    base = [r for r in summary["runs"] if r["temperature"] == 1]
    assert all(r["accuracy"] == 1 for r in hot + base)
    assert max(r["rank"] for r in hot) < min(r["rank"] for r in base)
    assert min(r["post_softmax_rank"] for r in hot) == 20
    assert summary["verdict"][0].startswith("Rank-deficit bias")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", "0"], ["temperature is 0.0"]),
        (["--temperature", "-3"], ["temperature"]),
        (["--temperature", "nan"], ["temperature is nan"]),
        (["--temperature", "inf"], ["temperature is inf"]),
        (["--temperature"], ["temperature is empty"]),
        (["--classes", "1"], ["classes is 1"]),
        (["--width", "0"], ["width is 0"]),
        (["--depth", "0"], ["depth is 0"]),
        (["--seeds", "0"], ["seeds is 0"]),
        (["--steps", "0"], ["steps is 0"]),
        (["--gamma", "0"], ["gamma is 0.0"]),
        (["--gamma", "1.5"], ["gamma is 1.5"]),
        (["--lr", "-1"], ["lr is -1"]),
        (["--seed", "-1"], ["seed is -1"]),
        (["--seed", "99999999999999999999"], ["seed is 99999999999999999999"]),
        (["--temperature", "1e39"], ["temperature", "float64"]),
        (["--init-scale", "0"], ["init_scale is 0.0"]),
        (["--weight-decay", "-1"], ["weight_decay is -1"]),
        (["--device", "abacus"], ["device is 'abacus'"]),
        (["--depth", "two"], ["--depth"]),
    ],
    ids=lambda value: " ".join(value),
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_one_line_and_leave_nothing(
    flags: list[str], words: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["ufm", *flags, "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stop:
        ufm.Ufm().main()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert not (tmp_path / "run").exists()


@pytest.mark.cuda
def test_cuda_shows_the_same_effect(cuda: torch.device, tmp_path: Path) -> None:
    summary = runs.read_json(
        ufm.Ufm().run(replace(SMALL, device=str(cuda), out=tmp_path / "gpu")) / "summary.json"
    )
    on_cpu = runs.read_json(ufm.Ufm().run(replace(SMALL, out=tmp_path / "cpu")) / "summary.json")
    for ours, theirs in zip(summary["runs"], on_cpu["runs"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.05)


def test_noisy_labels_and_unequal_classes_reach_the_model() -> None:
    settings = replace(SMALL, depth=(2,), imbalance=4.0, label_noise=0.2, feature_decay=0.5)
    (batch,) = ufm.Ufm().build(settings)
    c, each = settings.classes, settings.samples_per_class
    assert batch.model.shape.counts == long_tailed_counts(c, each, 4.0)
    labels = batch.model.shape.labels()
    loss = batch.model.data_loss(batch.model.logits())
    T = batch.model.temperatures[:, None]
    expected = torch.stack(
        [
            rd.cross_entropy(z.double(), noisy_targets(labels, c, 0.2), float(t))
            for z, t in zip(batch.model.logits(), T, strict=True)
        ]
    )
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
