"""What cannot be diagnosed is refused in one line, and nothing is left or written over."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from real_nets import diagnose
from real_nets.jobs.trained import find_trained
from tests.conftest import assert_one_line_error
from tests.real_nets.diagnose.asking import (
    FREE,
    Command,
    by_name,
    quick,
    report,
)


def test_runs_that_name_no_network(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"settings\.json"):
        find_trained(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    shutil.copytree(copy / "T20-seed0", copy / "T1-seed0")
    with pytest.raises(ValueError, match=r"one of .*T1-seed0, .*T20-seed0"):
        find_trained(copy)
    with pytest.raises(ValueError, match=r"accuracy-0\.123.* exist.*-0\.9\."):
        find_trained(copy / "T1-seed0" / "accuracy-0.123.safetensors")
    (copy / "T1-seed0" / "weights.safetensors").unlink()
    assert find_trained(copy).job.temperature == 20
    written = json.loads((copy / "T20-seed0" / "settings.json").read_text())
    options = written["settings"]["job"]
    for broken in (
        {"program": "other"},
        {"settings": {"job": {**options, "new": 1}, "root": None}},
    ):
        (copy / "T20-seed0" / "settings.json").write_text(json.dumps(written | broken))
        with pytest.raises(ValueError, match=r"trained network|version"):
            find_trained(copy)


def test_why_a_job_has_no_weights_is_said(trained: Path, tmp_path: Path) -> None:
    job, copy = tmp_path / "run" / "T20-seed0", tmp_path / "run"
    shutil.copytree(trained, copy)
    for file in job.glob("*.safetensors"):
        file.unlink()
    left_out = r"T20-seed0\S* .*no weights, .*export .*folder"
    for path in (job, copy, job / "weights.safetensors"):
        with pytest.raises(ValueError, match=left_out):
            find_trained(path)
    summary = json.loads((job / "summary.json").read_text())
    (job / "summary.json").write_text(json.dumps(summary | {"outcome": "diverged"}))
    with pytest.raises(ValueError, match=r"T20-seed0 diverged.* no weights"):
        find_trained(job)
    (job / "summary.json").unlink()
    for path in (job, copy):
        with pytest.raises(ValueError, match=r"no weights.*wait"):
            find_trained(path)
    shutil.rmtree(job)
    with pytest.raises(ValueError, match=r"run .*wait"):
        find_trained(copy)


def test_what_is_wrong_with_an_ood_folder_is_said_of_it(
    trained: Path, others: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(others / "train", tmp_path / "half" / "train")
    shutil.copytree(others, tmp_path / "uneven")
    shutil.rmtree(tmp_path / "uneven" / "test" / "class2")
    for name, word in (
        ("empty", "classes"),
        ("half", "train.*test.*val"),
        ("uneven", "train.*test.*classes"),
    ):
        settings = quick(trained=trained, ood=(tmp_path / name,), out=tmp_path / "report")
        with pytest.raises(ValueError, match=rf"^ood \S+{name}\b.*{word}"):
            diagnose.run(settings)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model": None}, "model.*--model"),
        ({"model": "resnt18"}, "mlp, .*resnet18, .*torchvision:NAME, timm:NAME"),
        ({"model": "torchvision:resnt18", **FREE}, "resnt18.* resnet18"),
        ({"model": "timm:resnt18", **FREE}, "resnet18|timm.* not installed"),
        ({"model": "resnet18", "width": 4}, "depth is 3.*resnet18"),
        ({"model": "torchvision:resnet18", **FREE}, r"conv1\.weight.* 1\.bias"),
        ({"model": "torchvision:vgg11", **FREE, "checkpoint": None, "untrained": True, "stem": "cifar"},
         "conv1.*maxpool"),
        ({"head_rank": 2}, "5.bias, 5.weight.*--head-rank"),
        ({"width": 16}, r"1.weight is \[32, 192\].*--width"),
        ({"checkpoint": None}, "checkpoint.*--untrained"),
        ({"checkpoint": Path("nowhere.pt")}, "nowhere.pt .*exist"),
        ({"untrained": True}, "--checkpoint.*--untrained"),
        ({"trained": Path("nowhere")}, "nowhere"),
        ({"data": None}, "data.*--data"),
        ({"data": Path("nowhere")}, "nowhere .*train.*test"),
        ({"ood": (Path("nowhere"),)}, "nowhere .*exist"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"classes": 3}, "classes is 3.*4"),
        ({"classes": 5}, "data of 4 classes"),
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": 6}, "mlp: 1.weight"),
        ({"crop": 0.5}, "crop is 0.5.*--image-size"),
        ({"crop": 1.5, "image_size": 8}, "crop is 1.5"),
        ({"mean": (0.5, 0.5, 0.5)}, "--mean.*--std"),
        ({"mean": (0.5, 0.5, 0.5), "std": (1.0, 0.0, 1.0)}, "std is .*positive"),
        ({"mean": (125.3, 123.0, 113.9), "std": (63.0, 62.1, 66.7)}, "mean is .*divide.* by 255"),
        ({"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 62.0)}, "std is .*divide.* by 255"),
        ({"limit": -1}, "limit is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"probe_l2": (1.0, -1.0)}, "probe_l2 is -1.0"),
        ({"detectors": ("mps",)}, "msp"),
        ({"measures": ("calibratoin",)}, "'calibratoin'.* calibration"),
        ({"measures": ("effective_depth",)}, "probes is False.* need probes"),
        ({"layers": ("convolution",)}, "'convolution'.*module"),
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
    with pytest.raises(ValueError, match=r"two .*others"):
        diagnose.run(replace(settings, ood=(others, others)))
    with pytest.raises(ValueError, match=r"test is .*split.*others"):
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
    with pytest.raises(ValueError, match=r"1 of 18 images.*test/class2/1\.png"):
        diagnose.run(settings)
    assert not (tmp_path / "report").exists()


def test_results_are_not_written_over(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"not empty"):
        diagnose.run(quick(trained=trained, out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_network_that_cannot_take_such_images(images: Path, tmp_path: Path) -> None:
    settings = quick(model="torchvision:alexnet", untrained=True, data=images)
    with pytest.raises(ValueError, match=r"alexnet.* 8 x 8 .*--image-size"):
        diagnose.run(replace(settings, out=tmp_path / "report"))


def test_a_network_of_fewer_logits_than_classes_named(images: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4))\n"
    )
    settings = quick(model=f"{file}:net", untrained=True, data=images, classes=100)
    with pytest.raises(ValueError, match=r"makes 4 logits for 100 classes; .*--classes"):
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
    assert_one_line_error(result, "train", "test")
    assert not (tmp_path / "report").exists()
