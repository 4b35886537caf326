"""Diagnoses of runs and of networks by name: their own numbers, whoever reads the images and how."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ExifTags, Image

from rankdeficit import images as rd_images
from rankdeficit.diagnostics.report import Report
from rankdeficit.experiments import image_splits, runs
from rankdeficit.image_files import Framing
from rankdeficit.images import Normalisation, list_splits, load_splits
from real_nets import diagnose, train
from real_nets.data.images import Folders
from real_nets.diagnose import complete
from real_nets.jobs.trained import find_trained, folder_of_images
from tests.conftest import ROOT
from tests.real_nets.diagnose.asking import (
    NETWORK,
    as_trained,
    asked,
    by_name,
    numbers,
    quick,
    report,
)


@pytest.mark.usefixtures("drawn")
def test_a_trained_run_is_reported_with_its_own_numbers(
    trained: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    found = report(asked(trained=trained, ood=(others,), out=out))
    (run,) = runs.read_json(trained / "summary.json")["runs"]
    assert found["conditions.temperature"] == 20
    assert found["train.accuracy"] == run["accuracy"]
    assert found["test.accuracy"] == run["test_accuracy"]
    assert found["train.loss"] == pytest.approx(run["loss"], rel=1e-6)
    assert found["train.logits.rank"] == run["rank"]
    assert [layer["test"]["rank"] for layer in found.record["layers"]] == run["layer_ranks"][
        "0.001"
    ]
    assert found["train.samples"] == 120
    assert set(found.record["ood_drop"]) == set(found.record["detection"]) == {"others"}
    output = capsys.readouterr().out
    assert "3 layers, 4 classes, " in output
    assert re.search("others .*12 x 12 .* 8 x 8", output)
    assert "give --temperature" not in output
    assert output.endswith(f" {out}.\n")
    written = {path.name for path in out.iterdir()}
    assert {"settings.json", "environment.json", "report.json", "detection.png"} <= written
    record = runs.read_json(out / "settings.json")["settings"]
    assert record["checkpoint"] == str(trained / NETWORK)
    assert record["ood"] == [str(others)]


def test_a_run_tells_how_its_images_were_framed(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    file = next((tmp_path / "run").glob("*/settings.json"))
    record = runs.read_json(file)
    record["settings"]["job"] |= {"image_size": 16, "crop": 0.5, "gamma": 0.01}
    runs.write_json(file, record)

    def framing(**changes: Any) -> tuple[Any, ...]:
        found = complete(asked(trained=tmp_path / "run" / NETWORK, **changes))
        return found.image_size, found.crop, found.gamma

    assert framing() == (16, 0.5, 0.01)
    assert framing(crop=0.9) == (16, 0.9, 0.01)
    assert framing(image_size=8, gamma=0.1) == (8, None, 0.1)


def test_a_run_on_glyphs_needs_no_folder_of_images(tmp_path: Path, others: Path) -> None:
    settings = train.Settings(
        data="glyphs:2", image_size=8, temperature=(5.0,), width=16, depth=3, epochs=2,
        device="cpu", label_smoothing=0.1, out=tmp_path / "run",
    )  # fmt: skip
    run = train.run(settings)
    (summary,) = runs.read_json(run / "summary.json")["runs"]
    out = tmp_path / "report"
    found = report(asked(trained=run / "T5-seed0", ood=(others,), probes=False, out=out))
    for name in ("accuracy", "loss"):
        assert found[f"train.{name}"] == pytest.approx(summary[name], rel=1e-6)
        assert found[f"test.{name}"] == pytest.approx(summary[f"test_{name}"], rel=1e-6)
    with pytest.raises(ValueError, match="--stream"):
        report(quick(trained=run / "T5-seed0", stream=True, out=tmp_path / "streamed"))
    (note,) = (note for note in found["notes"] if note.startswith("gradient ranks"))
    assert note.endswith("label smoothing 0.1")
    other = report(quick(trained=run / "T5-seed0", data=others, out=tmp_path / "o"))
    assert other["network.classes"] == 100


def test_a_run_without_unreadable_images_is_diagnosed_without_them(
    images: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "train" / "class0" / "0.png").write_text("no image")
    settings = train.Settings(
        data=str(tmp_path / "images"), temperature=(1.0,), width=8, depth=2, epochs=1, device="cpu",
        on_corrupt="skip", out=tmp_path / "run",
    )  # fmt: skip
    run = train.run(settings)
    found = report(quick(trained=run, out=tmp_path / "report"))
    assert found["train.samples"] == 119


def test_a_run_equals_its_network_named_in_full(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    ours = report(quick(trained=trained / NETWORK, out=tmp_path / "run"))
    theirs = report(by_name(trained, images, out=tmp_path / "name"))
    assert numbers(ours) == numbers(theirs)
    hot = report(by_name(trained, images, temperature=None, out=tmp_path / "hot"))
    assert hot["conditions.temperature"] == 1
    assert any("temperature" in note and " 1" in note for note in hot["notes"])


def test_streamed_images_give_the_same_report(
    trained: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = asked(trained=trained, ood=(others,), batch_size=7)
    whole = report(replace(settings, out=tmp_path / "whole"))
    streamed = report(replace(settings, stream=True, out=tmp_path / "streamed"))
    monkeypatch.setattr(image_splits, "IN_MEMORY", 214 * 3 * 8 * 8 - 1)
    large = diagnose.prepare(complete(settings), torch.device("cpu"))
    assert numbers(whole) == numbers(streamed)
    for notes, told in ((whole["notes"], 0), (streamed["notes"], 1), (large.assumptions, 1)):
        assert sum("images decoded" in note for note in notes) == told


def test_streamed_images_tell_hidden_files_and_exif_orientations_too(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, exif = tmp_path / "data", Image.Exif()
    shutil.copytree(images, data)
    exif[ExifTags.Base.Orientation] = 6
    for path in sorted(data.rglob("*.png"))[::20]:
        with Image.open(path) as image:
            image.save(path, exif=exif)
    (data / "test" / ".hidden.png").write_bytes(b"resource fork")
    told = []
    for stream in (False, True):
        settings = by_name(trained, data, stream=stream, out=tmp_path / f"{stream}")
        report(replace(settings, measures=("logits",)))
        lines = capsys.readouterr().err.splitlines()
        told.append(sorted(line for line in lines if "EXIF" in line or "hidden" in line))
    assert told[0] == told[1]
    assert len(told[0]) >= 2


def test_a_limit_takes_other_images_with_another_seed_but_not_another_normalisation(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    prepared = [
        diagnose.prepare(
            by_name(trained, images, limit=9, seed=seed, stream=True), torch.device("cpu")
        )
        for seed in (0, 0, 1)
    ]
    paths = [each.folders.train.paths for each in prepared]
    assert [len(p) for p in paths] == [9, 9, 9]
    assert paths[0] == paths[1] != paths[2]
    expected = Normalisation.of(load_splits(images)[0].pixels)
    for each in prepared:
        assert torch.equal(each.normalise.mean, expected.mean)
        assert torch.equal(each.normalise.std, expected.std)
    found = report(by_name(trained, images, limit=9, out=tmp_path / "run"))
    assert (found["train.samples"], found["test.samples"]) == (9, 9)
    assert any("at most 9 images" in note for note in found["notes"])


def test_the_seed_decides_what_is_drawn_and_is_told(trained: Path, images: Path) -> None:
    found = []
    for seed in (0, 3):
        settings, device = by_name(trained, images, seed=seed), torch.device("cpu")
        found.append(diagnose.measure(settings, diagnose.prepare(settings, device), device))
    assert [each["conditions.seed"] for each in found] == [0, 3]
    first, second = (each.record["calibration"] for each in found)
    assert first != second


def test_processes_share_all_images_among_them(
    images: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Folders.of(list_splits(images), (others,), Framing(), with_ood_train=True)
    for limit, total in ((0, 120), (50, 50)):
        taken: list[str] = []
        for process in range(3):
            monkeypatch.setattr(rd_images, "rank_and_size", lambda process=process: (process, 3))
            share = whole.share(limit, seed=0).train.paths
            assert abs(len(share) - total / 3) < 1
            taken += share
        assert len(taken) == len(set(taken)) == total
    with pytest.raises(ValueError, match=r"2 images.* 3 processes"):
        whole.share(2, seed=0)


def test_ood_folders_with_test_images_alone_or_at_their_top_or_without_classes(
    trained: Path, others: Path, tmp_path: Path
) -> None:
    held_out, flat, bare, split = (
        tmp_path / name for name in ("held-out", "flat", "bare", "split")
    )
    shutil.copytree(others / "test", held_out / "val")
    shutil.copytree(others / "test", flat)
    for folder in (bare, split / "test"):
        folder.mkdir(parents=True)
        for number, file in enumerate(sorted((others / "test").glob("*/*"))):
            shutil.copy(file, folder / f"{number}{file.suffix}")
    ood = (others, held_out, flat, bare, split)
    found = report(asked(trained=trained, ood=ood, out=tmp_path / "report"))
    scores = found.record["detection"]
    for folder in ood:
        assert scores[folder.name] == scores["others"]
    assert set(found.record["ood_drop"]) == {"others"}
    assert any("probes of flat:" in note for note in found["notes"])


def test_measures_are_picked_by_name(trained: Path, others: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(others / "test", flat)
    settings = asked(trained=trained, ood=(flat,), measures=("calibration", "ortho_dev"))
    found = report(replace(settings, out=tmp_path / "picked"))
    whole = report(quick(trained=trained, ood=(flat,), out=tmp_path / "quick"))
    for name in ("calibration", "ortho_dev"):
        assert found[name] == whole[name]
    assert found["train.logits"] is None
    assert not found["detection"]
    assert not any("no probes" in note for note in found["notes"])


def test_a_run_without_a_root_has_no_folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = find_trained(trained)
    root = run.settings.root
    assert root is not None
    assert folder_of_images(run) == root / run.job.data
    monkeypatch.chdir(root)
    vars(run).update(settings=replace(run.settings, root=None))
    assert folder_of_images(run) is None


def test_a_network_with_more_classes_than_folders(images: Path, tmp_path: Path) -> None:
    settings = quick(model="mlp", width=16, depth=2, data=images, untrained=True, classes=7)
    found = report(replace(settings, out=tmp_path / "run"))
    assert found["network.classes"] == 7
    assert any("classes 0 to 3" in note and " 7" in note for note in found["notes"])
    assert any("untrained" in note and note.endswith("seed 0") for note in found["notes"])


def test_untrained_batchnorm_is_named(images: Path) -> None:
    settings = quick(model="resnet20", width=4, untrained=True, data=images)
    notes = diagnose.prepare(settings, torch.device("cpu")).assumptions
    assert any("untrained" in note and "BatchNorm" in note for note in notes)


def test_options_of_the_network_reach_it(images: Path, tmp_path: Path) -> None:
    settings = quick(
        model="resnet20", width=4, norm="group", head_rank=2, head_norm="layer", untrained=True,
        data=images, out=tmp_path / "run",
    )  # fmt: skip
    found = report(settings)
    assert len(found.record["layers"]) == 21
    assert found["network.penultimate_width"] == 2
    assert found["test.logits.rank"] == 2
    classes_root = 2.0  # of 4 classes: the norm of normalised logits
    assert found["test.logits.logits_norm"] == pytest.approx(classes_root, rel=1e-4)


def test_the_examples_of_the_help_name_what_is_there(trained: Path) -> None:
    (named,) = re.findall(r"--trained runs/train-DATE/(\S+)", diagnose.__doc__ or "")
    assert re.fullmatch(r"T\d+-seed\d+", named)
    assert (trained / re.sub(r"T\d+", "T20", named)).is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False], ids=["own", "dark"])
def test_two_processes_report_what_one_does(
    own: bool, trained: Path, others: Path, dark: Path, tmp_path: Path
) -> None:
    flags = [] if own else ["--data", str(dark)]
    flags += f"--trained {trained} --ood {others} --precision float64 --device cpu --out".split()
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2".split()
    for name, starter in (("one", []), ("two", torchrun)):
        result = subprocess.run(
            [sys.executable, *starter, "-m", "real_nets.diagnose", *flags, str(tmp_path / name)],
            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("Figures and records") == 1
    one, two = (Report.from_json(tmp_path / name / "report.json") for name in ("one", "two"))
    assert (one["conditions.processes"], two["conditions.processes"]) == (1, 2)
    assert_close(numbers(one), numbers(two))
    assert any(as_trained(note) for note in two["notes"])


def assert_close(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        one, two = list(one.values()), list(two.values())
    if isinstance(one, list):
        for a, b in zip(one, two, strict=True):
            assert_close(a, b)
    else:
        assert one == (pytest.approx(two, rel=1e-10, abs=1e-10) if isinstance(two, float) else two)
