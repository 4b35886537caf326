"""`python -m real_nets.diagnose`: a network and folders of images in, a folder with a report out."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rankdeficit import runs
from rankdeficit.diagnostics.report import Report
from rankdeficit.images import Framing, ImageSet, Normalisation, list_splits, load_splits
from real_nets import diagnose, folders, networks, train
from real_nets.datasets import open_dataset
from real_nets.diagnose_settings import Settings, complete
from real_nets.folders import Folders
from tests.conftest import ROOT, assert_one_line_error
from tests.images import write_images

Command = Callable[..., subprocess.CompletedProcess[str]]
NETWORK = "T20-seed0/weights.safetensors"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, classes=4, train=30, test=10)
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ood") / "others"
    write_images(folder, classes=3, train=12, test=6, size=12)
    return folder


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = train.Settings(
        data=str(images), temperature=(20.0,), width=32, depth=3, epochs=6, batch_size=16, lr=0.1,
        device="cpu", out=tmp_path_factory.mktemp("trained") / "run",
    )  # fmt: skip
    return train.run(settings)


FREE: dict[str, None] = {"width": None, "depth": None}
"""A network of its own size."""


def asked(**options: Any) -> Settings:
    return Settings(**{"device": "cpu", "detectors": ("msp",)} | options)


def quick(**options: Any) -> Settings:
    return asked(**{"probes": False, "alignment": False, "gradients": False} | options)


def by_name(trained: Path, images: Path, **options: Any) -> Settings:
    network = {"model": "mlp", "width": 32, "depth": 3, "checkpoint": trained / NETWORK}
    return quick(**network | {"data": images, "temperature": 20.0} | options)


def report(settings: Settings) -> Report:
    folder = diagnose.run(settings)
    assert folder is not None
    return Report.from_json(folder / "report.json")


def numbers(found: Report) -> dict[str, Any]:
    record = {k: v for k, v in found.record.items() if k != "notes"}
    return record | {"conditions": {**record["conditions"], "seconds": None, "processes": None}}


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
    assert "3 layers, 4 classes, penultimate width 32, T = 20" in output
    assert "others resized from 12 x 12 (its first image) to 8 x 8" in output
    assert "give --temperature" not in output
    assert output.endswith(f"Figures and records are in {out}.\n")
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
        data="glyphs:2", temperature=(5.0,), width=16, depth=3, epochs=2, device="cpu",
        label_smoothing=0.1, out=tmp_path / "run",
    )  # fmt: skip
    run = train.run(settings)
    (summary,) = runs.read_json(run / "summary.json")["runs"]
    out = tmp_path / "report"
    found = report(asked(trained=run / "T5-seed0", ood=(others,), out=out))
    for name in ("accuracy", "loss"):
        assert found[f"train.{name}"] == pytest.approx(summary[name], rel=1e-6)
        assert found[f"test.{name}"] == pytest.approx(summary[f"test_{name}"], rel=1e-6)
    streamed = report(asked(trained=run / "T5-seed0", stream=True, out=tmp_path / "streamed"))
    assert streamed["train.logits"] == found["train.logits"]
    (note,) = (note for note in found["notes"] if note.startswith("gradient ranks"))
    assert note.endswith("of the loss it was trained with, cross-entropy with label smoothing 0.1")
    other = report(quick(trained=run / "T5-seed0", data=others, image_size=32, out=tmp_path / "o"))
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
    assert any("temperature taken to be 1" in note for note in hot["notes"])


def test_streamed_images_give_the_same_report(
    trained: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = asked(trained=trained, ood=(others,), batch_size=7)
    whole = report(replace(settings, out=tmp_path / "whole"))
    streamed = report(replace(settings, stream=True, out=tmp_path / "streamed"))
    monkeypatch.setattr(folders, "IN_MEMORY", 214 * 3 * 8 * 8 - 1)
    large = report(replace(settings, out=tmp_path / "large"))
    assert numbers(whole) == numbers(streamed) == numbers(large)
    told = ["images decoded while they were used" in found["notes"] for found in (streamed, large)]
    assert all(told)
    assert "images decoded while they were used" not in whole["notes"]


def test_a_limit_takes_other_images_with_another_seed_but_not_another_normalisation(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    prepared = [
        diagnose.prepare(by_name(trained, images, limit=9, seed=seed), torch.device("cpu"))
        for seed in (0, 0, 1)
    ]
    paths = [each.folders.train.files.paths for each in prepared]
    assert [len(p) for p in paths] == [9, 9, 9]
    assert paths[0] == paths[1] != paths[2]
    expected = Normalisation.of(load_splits(images)[0])
    for each in prepared:
        assert torch.equal(each.normalise.mean, expected.mean)
        assert torch.equal(each.normalise.std, expected.std)
    found = report(by_name(trained, images, limit=9, out=tmp_path / "run"))
    assert (found["train.samples"], found["test.samples"]) == (9, 9)
    assert any("at most 9 images of each split" in note for note in found["notes"])


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
            monkeypatch.setattr(folders, "rank_and_size", lambda process=process: (process, 3))
            share = whole.share(limit, seed=0).train.files.paths
            assert abs(len(share) - total / 3) < 1
            taken += share
        assert len(taken) == len(set(taken)) == total
    with pytest.raises(ValueError, match="has 2 images for 3 processes"):
        whole.share(2, seed=0)


def test_ood_folders_with_test_images_alone_or_classes_at_their_top(
    trained: Path, others: Path, tmp_path: Path
) -> None:
    held_out, flat = tmp_path / "held-out", tmp_path / "flat"
    shutil.copytree(others / "test", held_out / "val")
    shutil.copytree(others / "test", flat)
    found = report(asked(trained=trained, ood=(others, held_out, flat), out=tmp_path / "report"))
    scores = found.record["detection"]
    assert scores["others"] == scores["held-out"] == scores["flat"]
    assert set(found.record["ood_drop"]) == {"others"}
    assert "no probes of flat: it has no train folder" in found["notes"]


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        ({"normalisation": "imagenet"}, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ({"normalisation": "none"}, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        ({"mean": (0.5, 0.25, 0.0), "std": (0.5, 1.0, 2.0)}, [0.5, 0.25, 0.0], [0.5, 1.0, 2.0]),
    ],
    ids=["imagenet", "none", "own"],
)
def test_normalisations(
    options: dict[str, Any], mean: list[float], std: list[float], trained: Path, images: Path
) -> None:
    settings = by_name(trained, images, **options)
    found = diagnose.prepare(settings, torch.device("cpu"))
    assert found.normalise.mean.flatten().tolist() == pytest.approx(mean)
    assert found.normalise.std.flatten().tolist() == pytest.approx(std)
    assert any(f"mean {mean[0]:.4g} " in note for note in found.assumptions)


WITH_OTHERS = ", not of those that it was trained with ("
AS_TRAINED = ", those of all train images that it was trained with"


@pytest.fixture(scope="module")
def dark(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images at a third of their brightness."""
    folder = tmp_path_factory.mktemp("dark") / "dark"
    shutil.copytree(images, folder)
    for path in folder.rglob("*.png"):
        Image.open(path).point(lambda level: level // 3).save(path)
    return folder


def statistics(settings: Settings) -> tuple[Normalisation, str]:
    """Of a diagnosis, and what its note says of where they are from."""
    prepared = diagnose.prepare(complete(settings), torch.device("cpu"))
    (note,) = (note for note in prepared.assumptions if note.startswith("images normalised"))
    return prepared.normalise, note


def assert_normalises_as(found: Normalisation, expected: Normalisation) -> None:
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.std, expected.std)


@pytest.mark.parametrize(
    "options", [{}, {"limit": 7}, {"stream": True}, {"image_size": 8, "crop": 0.6}], ids=str
)
def test_a_network_sees_other_images_normalised_as_in_its_training(
    options: dict[str, Any], trained: Path, images: Path, dark: Path
) -> None:
    own = Normalisation.of(load_splits(images)[0])
    for data in (dark, images, None):
        found, note = statistics(quick(trained=trained, data=data, **options))
        assert_normalises_as(found, own)
        assert note.endswith(AS_TRAINED)
    found, note = statistics(quick(trained=trained, data=dark, normalisation="none", **options))
    assert found.mean.tolist() == [[[0.0]]] * 3
    assert note.endswith("deviation 1 1 1")


def test_where_the_data_of_the_training_are_gone_others_are_taken_and_told(
    images: Path, dark: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "own")
    run = train.run(train.Settings(
        data=str(tmp_path / "own"), temperature=(1.0,), width=8, depth=2, epochs=0, device="cpu",
        out=tmp_path / "run",
    ))  # fmt: skip
    settings = quick(trained=run, data=dark)
    assert statistics(settings)[1].endswith(AS_TRAINED)
    others = Normalisation.of(load_splits(dark)[0])
    image = tmp_path / "own" / "train" / "class0" / "0.png"
    image.unlink()
    found, note = statistics(settings)
    assert_normalises_as(found, others)
    assert f"{dark}{WITH_OTHERS}data own has 119 train images, where there were 120)" in note
    assert note.endswith("restore these, or give --mean and --std")
    found, note = statistics(quick(trained=run))
    assert WITH_OTHERS in note
    shutil.rmtree(tmp_path / "own")
    found, note = statistics(settings)
    assert_normalises_as(found, others)
    assert f"{WITH_OTHERS}data {tmp_path / 'own'} must hold folders train and test" in note


def test_glyphs_and_images_left_out_count_for_the_normalisation_as_in_training(
    images: Path, dark: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "own")
    (tmp_path / "own" / "train" / "class0" / "0.png").write_text("no image")
    kept = list_splits(tmp_path / "own")[0].load_readable()[0]
    drawn = open_dataset("glyphs:2", None, image_size=8).train
    assert isinstance(drawn, ImageSet)
    for name, expected in (("glyphs:2", drawn), (str(tmp_path / "own"), kept)):
        run = train.run(train.Settings(
            data=name, temperature=(1.0,), width=8, depth=2, epochs=0, image_size=8, device="cpu",
            on_corrupt="skip", out=tmp_path / "runs" / name.replace("/", "-"),
        ))  # fmt: skip
        found, note = statistics(quick(trained=run, data=dark))
        assert_normalises_as(found, Normalisation.of(expected))
        assert note.endswith(AS_TRAINED)


def test_a_run_without_a_root_has_no_folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = networks.trained_run(trained)
    assert run.root is not None
    assert run.folder == run.root / run.job.data
    monkeypatch.chdir(run.root)
    assert replace(run, root=None).folder is None


def test_a_network_with_more_classes_than_folders(images: Path, tmp_path: Path) -> None:
    settings = quick(model="mlp", width=16, depth=2, data=images, untrained=True, classes=7)
    found = report(replace(settings, out=tmp_path / "run"))
    assert found["network.classes"] == 7
    assert any("to be classes 0 to 3 of the network's 7" in note for note in found["notes"])
    assert any(note.endswith("untrained: random weights of seed 0") for note in found["notes"])


def test_untrained_batchnorm_is_named(images: Path) -> None:
    settings = quick(model="resnet20", width=4, untrained=True, data=images)
    notes = diagnose.prepare(settings, torch.device("cpu")).assumptions
    assert any("seed 0, and BatchNorm with the statistics that it starts" in note for note in notes)


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


def test_runs_that_name_no_network(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no settings.json"):
        networks.trained_run(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    shutil.copytree(copy / "T20-seed0", copy / "T1-seed0")
    with pytest.raises(ValueError, match=r"one of .*T1-seed0, .*T20-seed0"):
        networks.trained_run(copy)
    with pytest.raises(
        ValueError, match=r"accuracy-0\.123.* does not exist; the job kept .*-0\.9\."
    ):
        networks.trained_run(copy / "T1-seed0" / "accuracy-0.123.safetensors")
    (copy / "T1-seed0" / "weights.safetensors").unlink()
    assert networks.trained_run(copy).job.temperature == 20
    written = json.loads((copy / "T20-seed0" / "settings.json").read_text())
    options = written["settings"]["job"]
    for broken in (
        {"program": "other"},
        {"settings": {"job": {**options, "new": 1}, "root": None}},
    ):
        (copy / "T20-seed0" / "settings.json").write_text(json.dumps(written | broken))
        with pytest.raises(ValueError, match=r"no folder of a trained network|another version"):
            networks.trained_run(copy)


def test_why_a_job_has_no_weights_is_said(trained: Path, tmp_path: Path) -> None:
    job, copy = tmp_path / "run" / "T20-seed0", tmp_path / "run"
    shutil.copytree(trained, copy)
    for file in job.glob("*.safetensors"):
        file.unlink()
    left_out = (
        r"T20-seed0\S* holds no weights, though .*an export .*leaves them out; name the folder"
    )
    for path in (job, copy, job / "weights.safetensors"):
        with pytest.raises(ValueError, match=left_out):
            networks.trained_run(path)
    summary = json.loads((job / "summary.json").read_text())
    (job / "summary.json").write_text(json.dumps(summary | {"outcome": "diverged"}))
    with pytest.raises(ValueError, match="T20-seed0 diverged and left no weights; name another"):
        networks.trained_run(job)
    (job / "summary.json").unlink()
    for path in (job, copy):
        with pytest.raises(ValueError, match="holds no weights yet; wait for it to end"):
            networks.trained_run(path)
    shutil.rmtree(job)
    with pytest.raises(ValueError, match="run holds no trained network; wait for it to end"):
        networks.trained_run(copy)


def test_what_is_wrong_with_an_ood_folder_is_said_of_it(
    trained: Path, others: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(others / "train", tmp_path / "half" / "train")
    shutil.copytree(others, tmp_path / "uneven")
    shutil.rmtree(tmp_path / "uneven" / "test" / "class2")
    for name, word in (
        ("empty", "has no classes to load"),
        ("half", r"must hold folders train and test \(or val\)"),
        ("uneven", "train and test have different classes"),
    ):
        settings = quick(trained=trained, ood=(tmp_path / name,), out=tmp_path / "report")
        with pytest.raises(ValueError, match=rf"^ood \S+{name}:? {word}"):
            diagnose.run(settings)
    assert not (tmp_path / "report").exists()


def test_the_examples_of_the_help_name_what_is_there(trained: Path) -> None:
    (named,) = re.findall(r"--trained runs/train-DATE/(\S+)", diagnose.__doc__ or "")
    assert re.fullmatch(r"T\d+-seed\d+", named)
    assert (trained / re.sub(r"T\d+", "T20", named)).is_dir()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model": None}, "model is missing"),
        ({"model": "resnt18"}, "must be one of mlp, resnet18, .*, torchvision:NAME, timm:NAME"),
        ({"model": "torchvision:resnt18", **FREE}, "close names are resnet18"),
        ({"model": "timm:resnt18", **FREE}, "resnet18|timm.* not installed"),
        ({"model": "resnet18", "width": 4}, "depth is 3, but resnet18 has none to choose"),
        ({"model": "torchvision:resnet18", **FREE}, r"it lacks conv1.weight.* unknown 1.bias"),
        ({"model": "torchvision:vgg11", **FREE, "checkpoint": None, "untrained": True, "stem": "cifar"},
         "no ResNet with conv1 and maxpool"),
        ({"head_rank": 2}, r"unknown 5.bias, 5.weight; give the --width, --depth, --norm, --head-rank"),
        ({"width": 16}, r"1.weight is \[32, 192\] where .*give the --width, --depth"),
        ({"checkpoint": None}, "checkpoint is missing.*--untrained"),
        ({"checkpoint": Path("nowhere.pt")}, "nowhere.pt does not exist"),
        ({"untrained": True}, "exclude each other"),
        ({"trained": Path("nowhere")}, "leave out --model"),
        ({"data": None}, "data is missing"),
        ({"data": Path("nowhere")}, "nowhere must hold"),
        ({"ood": (Path("nowhere"),)}, "nowhere does not exist"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"classes": 3}, "classes is 3; it must be at least 4"),
        ({"classes": 5}, "it is for data of 4 classes"),
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": 6}, "does not fit mlp: 1.weight"),
        ({"crop": 0.5}, "crop is 0.5; it needs an --image-size"),
        ({"crop": 1.5, "image_size": 8}, "crop is 1.5"),
        ({"mean": (0.5, 0.5, 0.5)}, "--mean and --std belong together"),
        ({"mean": (0.5, 0.5, 0.5), "std": (1.0, 0.0, 1.0)}, "std is .*positive"),
        ({"mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0), "normalisation": "none"},
         "exclude each other"),
        ({"limit": -1}, "limit is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"probe_l2": (1.0, -1.0)}, "probe_l2 is -1.0"),
        ({"detectors": ("mps",)}, "msp"),
        ({"layers": ("convolution",)}, "'convolution', which matches no module"),
        ({"gamma": 1e-9}, "gamma is 1e-09"),
        ({"grid": 0}, "grid is 0"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
    ids=lambda value: str(value),
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_leave_nothing(
    change: dict[str, Any], word: str, trained: Path, images: Path, tmp_path: Path
) -> None:
    settings = by_name(trained, images, out=tmp_path / "report")
    with pytest.raises(ValueError, match=word):
        diagnose.run(replace(settings, **change))
    assert not (tmp_path / "report").exists()


def test_ood_names_that_clash(trained: Path, others: Path, tmp_path: Path) -> None:
    settings = quick(trained=trained, out=tmp_path / "report")
    with pytest.raises(ValueError, match="two folders called others"):
        diagnose.run(replace(settings, ood=(others, others)))
    with pytest.raises(ValueError, match=r"test is one split; name the folder .*others"):
        diagnose.run(replace(settings, ood=(others / "test",)))
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("stream", [False, True])
def test_an_unreadable_image_is_named_and_leaves_nothing(
    stream: bool, trained: Path, others: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(others, broken)
    (broken / "test" / "class2" / "1.png").write_bytes(b"not an image")
    settings = quick(trained=trained, ood=(broken,), stream=stream, out=tmp_path / "report")
    with pytest.raises(ValueError, match=r"1 of 18 images cannot be read.*test/class2/1\.png"):
        diagnose.run(settings)
    assert not (tmp_path / "report").exists()


def test_results_are_not_written_over(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("precious")
    with pytest.raises(ValueError, match="is not empty; name a new folder"):
        diagnose.run(quick(trained=trained, out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_network_that_cannot_take_such_images(images: Path, tmp_path: Path) -> None:
    settings = quick(model="torchvision:alexnet", untrained=True, data=images)
    with pytest.raises(ValueError, match=r"alexnet cannot take images of 8 x 8 .*--image-size"):
        diagnose.run(replace(settings, out=tmp_path / "report"))


def test_images_of_uneven_sizes_ask_for_one(images: Path, trained: Path, tmp_path: Path) -> None:
    uneven = tmp_path / "uneven"
    shutil.copytree(images, uneven)
    Image.new("RGB", (9, 5)).save(uneven / "train" / "class3" / "odd.png")
    for stream in (False, True):
        settings = by_name(trained, uneven, stream=stream, batch_size=10, out=tmp_path / "report")
        with pytest.raises(ValueError, match=r"different sizes .*--image-size"):
            diagnose.run(settings)
    resized = by_name(trained, uneven, image_size=8, crop=1.0, out=tmp_path / "report")
    assert report(resized)["train.samples"] == 121


def test_bad_input_is_one_line(tmp_path: Path, command: Command) -> None:
    result = command(
        "real_nets.diagnose", "--model", "mlp", "--untrained", "--data", tmp_path,
        "--out", tmp_path / "report", "--device", "cpu",
    )  # fmt: skip
    assert_one_line_error(result, "must hold folders train and test")
    assert not (tmp_path / "report").exists()


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
        assert result.stdout.count("Figures and records are in") == 1
    one, two = (Report.from_json(tmp_path / name / "report.json") for name in ("one", "two"))
    assert (one["conditions.processes"], two["conditions.processes"]) == (1, 2)
    assert_close(numbers(one), numbers(two))
    assert any(note.endswith(AS_TRAINED) for note in two["notes"])


def assert_close(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        one, two = list(one.values()), list(two.values())
    if isinstance(one, list):
        for a, b in zip(one, two, strict=True):
            assert_close(a, b)
    else:
        assert one == (pytest.approx(two, rel=1e-10, abs=1e-10) if isinstance(two, float) else two)
