"""Checkpoints of every form, and what is said of those that do not fit."""

import argparse
import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from real_nets.models import Architecture, Stem, checkpoint


def resnet(stem: Stem = "cifar", classes: int = 3) -> Architecture:
    return Architecture("torchvision:resnet18", classes, (3, 32, 32), stem=stem)


FREE: dict[str, None] = {"width": None, "depth": None}
WEIGHTS = {"1.weight": torch.eye(2), "1.bias": torch.ones(2)}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3, "best": 0.5},
        {"model": WEIGHTS, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {f"module.{name}": value for name, value in WEIGHTS.items()},
        {**WEIGHTS, "epoch": 3, "note": "plain values beside", "best": np.float64(0.5)},
        {"weights": WEIGHTS, "args": argparse.Namespace(lr=0.1), "best": np.float32(0.5)},
        {
            "model": WEIGHTS,
            "files": Path("a/b"),
            "log": np.arange(3),
            "names": np.array(["a", "b"]),
        },
        {"net": WEIGHTS, "made": datetime.datetime(2025, 1, 1)},
        {"model": {f"_orig_mod.module.{name}": value for name, value in WEIGHTS.items()}},
    ],
    ids=[
        "plain",
        "state_dict",
        "model",
        "module",
        "beside",
        "other key",
        "arrays",
        "dates",
        "compiled",
    ],
)
def test_checkpoints_of_every_form_hold_the_same_weights(
    content: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "network.pth")
    found, notes = checkpoint.read_weights(tmp_path / "network.pth")
    assert not notes
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


def test_safetensors_and_half_precision(tmp_path: Path) -> None:
    architecture = Architecture("mlp", 2, (1, 2, 2), width=4, depth=2)
    saved, model = architecture.build(1), architecture.build(0)
    halves = {f"module.{name}": value.half() for name, value in saved.state_dict().items()}
    safetensors.torch.save_file(halves, tmp_path / "network.safetensors")
    checkpoint.load_weights(model, tmp_path / "network.safetensors", architecture)
    for ours, theirs in zip(model.parameters(), saved.parameters(), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_checkpoints_without_batch_counts_fit(tmp_path: Path) -> None:
    weights = resnet().build(1).state_dict()
    kept = {n: v for n, v in weights.items() if not n.endswith("num_batches_tracked")}
    torch.save(dict(kept), tmp_path / "network.pt")
    model = resnet().build(0)
    checkpoint.load_weights(model, tmp_path / "network.pt", resnet())
    assert all(torch.equal(model.state_dict()[name], kept[name]) for name in kept)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": 5}, ("fc.weight is [5, 512]", "[3, 512]", "--classes 5")),
        ({"classes": 2}, ("fc.bias is [2]", "2 classes")),
        ({"stem": "imagenet"}, ("conv1.weight is [64, 3, 7, 7]", "--stem imagenet")),
        ({"name": "torchvision:resnet34"}, ("layer1.2.conv1", "--model")),
    ],
    ids=str,
)
def test_a_checkpoint_that_does_not_fit(
    change: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    torch.save(replace(resnet(), **change).build(0).state_dict(), tmp_path / "network.pt")
    with pytest.raises(ValueError, match=r"network\.pt.* torchvision:resnet18") as error:
        checkpoint.load_weights(resnet().build(0), tmp_path / "network.pt", resnet())
    for word in words:
        assert word in str(error.value)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "network.pt"
    with pytest.raises(ValueError, match=r"network\.pt.* exist"):
        checkpoint.read_weights(file)
    torch.save(nn.Linear(2, 2), file)
    with pytest.raises(ValueError, match=r"Linear.*model.state_dict"):
        checkpoint.read_weights(file)
    torch.save({"epoch": 3, "weights": [1.0]}, file)
    with pytest.raises(ValueError, match=r"state dict .*epoch, weights"):
        checkpoint.read_weights(file)
    file.write_text("import torch\n")
    with pytest.raises(ValueError, match="no file of weights"):
        checkpoint.read_weights(file)
    (tmp_path / "network.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="is damaged"):
        checkpoint.read_weights(tmp_path / "network.safetensors")


OTHER = {"loss.weight": torch.ones(1)}


@pytest.mark.parametrize("prefix", ["model.", "net.encoder.", "a.b."])
def test_any_prefix_is_stripped_and_what_is_not_of_the_network_is_told(
    prefix: str, tmp_path: Path
) -> None:
    saved, model = resnet().build(1), resnet().build(0)
    weights = {f"{prefix}{name}": value for name, value in saved.state_dict().items()}
    torch.save({"state_dict": weights | OTHER}, tmp_path / "network.ckpt")
    (note,) = checkpoint.load_weights(model, tmp_path / "network.ckpt", resnet())
    assert note == "1 weights of the checkpoint are not of the network (loss.weight)"
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), saved.parameters(), strict=True)
    )


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_network_in_a_wrapper_takes_weights_with_its_prefix_and_without(
    prefix: str, tmp_path: Path
) -> None:
    saved, model = resnet().build(1), resnet().build(0)
    weights = {f"{prefix}{name}": value for name, value in saved.state_dict().items()}
    torch.save(weights, tmp_path / "network.pt")
    assert not checkpoint.load_weights(nn.DataParallel(model), tmp_path / "network.pt", resnet())
    assert torch.equal(model.fc.weight, saved.fc.weight)


@pytest.mark.parametrize(
    ("taken", "other"), [("state_dict", "state_dict_ema"), ("model", "ema_model")]
)
def test_averaged_weights_beside_those_taken_are_told(
    taken: str, other: str, tmp_path: Path
) -> None:
    saved, averaged, model = (resnet().build(seed) for seed in (1, 2, 0))
    content = {
        other: {f"module.{name}": own for name, own in averaged.state_dict().items()},
        taken: saved.state_dict(),
        "optimizer": {"state": {}},
    }
    torch.save(content, tmp_path / "network.pt")
    (note,) = checkpoint.load_weights(model, tmp_path / "network.pt", resnet())
    assert f"{taken}, not of {other} " in note
    assert torch.equal(model.fc.weight, saved.fc.weight)


def test_one_of_several_networks_is_not_guessed(tmp_path: Path) -> None:
    weights = resnet().build(1).state_dict()
    torch.save(
        {f"{who}.{name}": own for who in ("teacher", "student") for name, own in weights.items()},
        tmp_path / "network.ckpt",
    )
    with pytest.raises(ValueError, match=r"teacher\..*student\."):
        checkpoint.load_weights(resnet().build(0), tmp_path / "network.ckpt", resnet())


def test_shortcuts_that_differ_are_told(tmp_path: Path) -> None:
    weights = resnet().build(1).state_dict()
    plain = {name: own for name, own in weights.items() if "downsample" not in name}
    torch.save(plain, tmp_path / "network.pt")
    with pytest.raises(ValueError, match=r"shortcuts.*file.py:NAME") as error:
        checkpoint.load_weights(resnet().build(0), tmp_path / "network.pt", resnet())
    assert "--width" not in str(error.value)


def test_small_networks_are_not_found_within_large_ones(tmp_path: Path) -> None:
    torch.save(resnet().build(1).state_dict(), tmp_path / "network.pt")
    names = ["weight", "bias"]
    weights, _ = checkpoint.read_weights(tmp_path / "network.pt")
    assert checkpoint.under_prefix(weights, names, tmp_path) == (weights, [])
