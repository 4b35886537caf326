"""CIFAR and SVHN as published: read, refused when damaged, downloaded."""

import hashlib
import pickle
import shutil
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import CIFAR10, CIFAR100, SVHN, utils

from rankdeficit.images import Images
from real_nets.data.images import Dataset
from real_nets.data.opening import open_dataset, why_missing
from tests.images import write_images

Install = Callable[[Path, str], None]


def in_memory(found: Dataset) -> tuple[Images, Images]:
    assert found.train.in_memory
    assert found.test.in_memory
    return found.train, found.test


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def fake_rows(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Writes small archives in the published formats, and has torchvision expect their sums."""

    def batch(path: Path, field: str, seed: int, classes: int) -> list[str]:
        labels = [(seed + i) % classes for i in range(4)]
        path.write_bytes(pickle.dumps({"data": fake_rows(4, seed), field: labels}, protocol=2))
        return [path.name, md5(path)]

    def cifar(
        folder: Path, kind: type[CIFAR10], names: list[str], field: str, classes: int
    ) -> None:
        folder = folder / kind.base_folder
        folder.mkdir(parents=True)
        listed = [batch(folder / name, field, i, classes) for i, name in enumerate(names)]
        meta = folder / kind.meta["filename"]
        meta.write_bytes(pickle.dumps({kind.meta["key"]: [f"c{i}" for i in range(classes)]}))
        monkeypatch.setattr(kind, "train_list", listed[:-1])
        monkeypatch.setattr(kind, "test_list", listed[-1:])
        monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(meta)})

    def install(folder: Path, name: str) -> None:
        if name == "svhn":
            folder.mkdir(parents=True, exist_ok=True)
            changed = {}
            for seed, (split, (url, file, _)) in enumerate(SVHN.split_list.items()):
                pixels = fake_rows(4, seed).reshape(4, 3, 32, 32).transpose(2, 3, 1, 0)
                savemat(folder / file, {"X": pixels, "y": np.array([[10], [1], [9], [10]])})
                changed[split] = [url, file, md5(folder / file)]
            monkeypatch.setattr(SVHN, "split_list", changed)
        elif name == "cifar10":
            names = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
            cifar(folder, CIFAR10, names, "labels", 10)
        else:
            cifar(folder, CIFAR100, ["train", "test"], "fine_labels", 100)

    return install


@pytest.mark.parametrize("inside", [".", "name"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_archives_are_read_from_the_folder_or_one_of_their_name(
    name: str, inside: str, tmp_path: Path, install: Install
) -> None:
    assert why_missing(name, tmp_path, False) is not None
    install(tmp_path / name if inside == "name" else tmp_path, name)
    assert why_missing(name, tmp_path, False) is None
    found = open_dataset(name, tmp_path)
    train, test = in_memory(found)
    parts = {"cifar10": 5, "cifar100": 1, "svhn": 1}[name]
    expected = np.concatenate([fake_rows(4, seed) for seed in range(parts)])
    assert torch.equal(train.pixels.flatten(1), torch.from_numpy(expected))
    assert torch.equal(test.pixels.flatten(1), torch.from_numpy(fake_rows(4, parts)))
    assert found.size == (32, 32)
    if name == "svhn":
        assert train.labels.tolist() == test.labels.tolist() == [0, 1, 9, 0]
        assert found.classes == list("0123456789")
    else:
        classes = len(found.classes)
        assert found.classes == [f"c{i}" for i in range(10 if name == "cifar10" else 100)]
        assert train.labels.tolist() == [(s + i) % classes for s in range(parts) for i in range(4)]


@pytest.mark.parametrize("size", [7, 32, 48])
@pytest.mark.parametrize("crop", [None, 0.6, 1.0])
@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_images_of_archives_are_resized_as_those_of_folders(
    name: str, crop: float | None, size: int, tmp_path: Path, install: Install
) -> None:
    install(tmp_path / name, name)
    for split, images in zip(
        ("train", "test"), in_memory(open_dataset(name, tmp_path)), strict=True
    ):
        for k in "ab":
            (tmp_path / "files" / split / k).mkdir(parents=True)
        for i, image in enumerate(images.pixels):
            file = tmp_path / "files" / split / "ab"[i % 2] / f"{i:02}.png"
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(file)
    archive, folder = (
        in_memory(open_dataset(each, tmp_path, image_size=size, crop=crop))
        for each in (name, "files")
    )
    for ours, theirs in zip(archive, folder, strict=True):
        assert ours.pixels.shape[2:] == (size, size)
        assert torch.equal(torch.cat([ours.pixels[::2], ours.pixels[1::2]]), theirs.pixels)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("victim", ["data_batch_3", "test_batch", "batches.meta"])
def test_damaged_archives_are_refused_before_anything_is_unpickled(
    victim: str, tmp_path: Path, install: Install
) -> None:
    install(tmp_path, "cifar10")
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    (tmp_path / "cifar-10-batches-py" / victim).write_bytes(bomb)
    with pytest.raises(ValueError, match=r"cifar10 .*damaged: .*MD5.*delete"):
        open_dataset("cifar10", tmp_path)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(bomb)
    assert (tmp_path / "exploded").exists()


def test_image_folders_go_before_archives_and_letters(tmp_path: Path, install: Install) -> None:
    install(tmp_path / "cifar10", "cifar10")
    for name in ("cifar10", "glyphs"):
        (tmp_path / name / "train").mkdir(parents=True)
        assert open_dataset(name, tmp_path).classes != ["class0", "class1"]
        write_images(tmp_path / name, classes=2, train=1, test=1)
        assert open_dataset(name, tmp_path).classes == ["class0", "class1"]
    assert len(open_dataset("glyphs:1", tmp_path).classes) == 100


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_a_failed_download_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def unreachable(request: Any, *_: Any, **__: Any) -> None:
        asked.append(request if isinstance(request, str) else request.full_url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(ValueError, match="--download"):
        open_dataset(name, tmp_path)
    assert not asked
    with pytest.raises(ValueError, match=f"{name} .*downloaded.*no route to host") as e:
        open_dataset(name, tmp_path, download=True)
    assert "\n" not in str(e.value)
    assert asked


def test_a_download_is_checked_and_then_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Install
) -> None:
    install(tmp_path / "server", "svhn")
    served: list[str] = []

    def fetch(url: str, path: str | Path, **_: Any) -> None:
        served.append(Path(url).name)
        shutil.copy(tmp_path / "server" / Path(url).name, path)

    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr(utils, "_urlretrieve", fetch)
    root = tmp_path / "data"
    expected = open_dataset("svhn", tmp_path / "server").card()
    for _ in range(2):
        assert open_dataset("svhn", root, download=True).card() == expected
        assert served == ["train_32x32.mat", "test_32x32.mat"]
        assert {path.suffix for path in (root / "svhn").iterdir()} == {".mat", ".lock"}
    assert open_dataset("svhn", root).card() == expected
    shutil.rmtree(root)
    (tmp_path / "server" / "test_32x32.mat").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"svhn .*downloaded .*corrupted"):
        open_dataset("svhn", root, download=True)
