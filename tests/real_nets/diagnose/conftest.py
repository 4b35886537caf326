"""Folders of images, and a run trained on one of them, for all of these tests."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from real_nets import train
from tests.images import write_images


@pytest.fixture(scope="package")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, classes=4, train=30, test=10)
    return folder


@pytest.fixture(scope="package")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ood") / "others"
    write_images(folder, classes=3, train=12, test=6, size=12)
    return folder


@pytest.fixture(scope="package")
def dark(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images at a third of their brightness."""
    folder = tmp_path_factory.mktemp("dark") / "dark"
    shutil.copytree(images, folder)
    for path in folder.rglob("*.png"):
        Image.open(path).point(lambda level: level // 3).save(path)
    return folder


@pytest.fixture(scope="package")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = train.Settings(
        data=str(images), temperature=(20.0,), width=32, depth=3, epochs=6, batch_size=16, lr=0.1,
        device="cpu", out=tmp_path_factory.mktemp("trained") / "run",
    )  # fmt: skip
    return train.run(settings)
