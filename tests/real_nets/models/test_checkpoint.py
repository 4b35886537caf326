"""Checkpoints of every form, and what is said of those that do not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

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
        {"model": {f"_orig_mod.module.{name}": value for name, value in WEIGHTS.items()}},
    ],
    ids=["plain", "state_dict", "model", "module", "compiled"],
)
def test_checkpoints_of_every_form_hold_the_same_weights(
    content: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "network.pth")
    found = checkpoint.read_weights(tmp_path / "network.pth")
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
        ({"classes": 5}, ("fc.weight is [5, 512] where the network has [3, 512]", "--classes 5")),
        ({"classes": 2}, ("fc.bias is [2] where", "it is for data of 2 classes")),
        ({"stem": "imagenet"}, ("conv1.weight is [64, 3, 7, 7]", "try --stem imagenet")),
        ({"name": "torchvision:resnet34"}, ("unknown layer1.2.conv1", "saved from with --model")),
    ],
    ids=str,
)
def test_a_checkpoint_that_does_not_fit(
    change: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    torch.save(replace(resnet(), **change).build(0).state_dict(), tmp_path / "network.pt")
    with pytest.raises(ValueError, match="does not fit torchvision:resnet18") as error:
        checkpoint.load_weights(resnet().build(0), tmp_path / "network.pt", resnet())
    for word in words:
        assert word in str(error.value)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "network.pt"
    with pytest.raises(ValueError, match="does not exist"):
        checkpoint.read_weights(file)
    torch.save(nn.Linear(2, 2), file)
    with pytest.raises(ValueError, match=r"Linear.*model.state_dict"):
        checkpoint.read_weights(file)
    torch.save({"epoch": 3, "weights": [1.0]}, file)
    with pytest.raises(ValueError, match=r"no state dict .*keys: epoch, weights"):
        checkpoint.read_weights(file)
    (tmp_path / "network.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="is damaged"):
        checkpoint.read_weights(tmp_path / "network.safetensors")
