"""Images from folders: what comes back, and what is said of bad ones."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rankdeficit.images import Normalisation, load_splits
from tests.images import image_set, write_images


def test_folders_come_back_as_uint8(tmp_path: Path) -> None:
    write_images(tmp_path, classes=3, train=5, test=2)
    train, test = load_splits(tmp_path)
    assert train.images.shape == (15, 3, 8, 8)
    assert train.images.dtype == torch.uint8
    assert train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert train.classes == test.classes == ["class0", "class1", "class2"]
    first = np.asarray(Image.open(tmp_path / "train" / "class0" / "0.png"))
    assert torch.equal(train.images[0], torch.from_numpy(first.copy()).permute(2, 0, 1))


def test_a_val_folder_and_resizing(tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, train=2, test=2)
    (tmp_path / "test").rename(tmp_path / "val")
    Image.new("L", (5, 9)).save(tmp_path / "train" / "class0" / "odd.png")
    with pytest.raises(ValueError, match=r"different sizes .*--image-size"):
        load_splits(tmp_path)
    train, test = load_splits(tmp_path, image_size=6)
    assert train.images.shape == (5, 3, 6, 6)
    assert test.images.shape == (4, 3, 6, 6)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold folders train and test"):
        load_splits(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match="has no classes"):
        load_splits(tmp_path)
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no classes to load .*empty"):
        load_splits(tmp_path)
    (tmp_path / "train" / "empty").rmdir()
    write_images(tmp_path, classes=1, train=2, test=2)
    with pytest.raises(ValueError, match="one class, class0"):
        load_splits(tmp_path)
    write_images(tmp_path, classes=2, train=2, test=2)
    (tmp_path / "test" / "class1").rename(tmp_path / "test" / "other")
    with pytest.raises(ValueError, match="different classes"):
        load_splits(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "deep", "bomb"])
def test_unreadable_images_are_named_and_counted(tmp_path: Path, damage: str) -> None:
    write_images(tmp_path, classes=2, train=3, test=1)
    victim = tmp_path / "train" / "class1" / "1.png"
    if damage == "deep":
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(victim)
    else:
        whole = victim.read_bytes()
        huge = whole[:16] + (30_000).to_bytes(4, "big") * 2 + whole[24:]
        huge = huge[:29] + zlib.crc32(huge[12:29]).to_bytes(4, "big") + huge[33:]
        content = {"truncated": whole[:40], "empty": b"", "text": b"not an image", "bomb": huge}
        victim.write_bytes(content[damage])
    with pytest.raises(ValueError, match=r"1 of 6 images cannot be read.*class1/1\.png"):
        load_splits(tmp_path)


def test_normalised_images_have_mean_zero_and_deviation_one() -> None:
    data = image_set(50)
    x = Normalisation.of(data)(data.images)
    torch.testing.assert_close(x.mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        x.std(dim=(0, 2, 3), correction=0), torch.ones(3), rtol=1e-5, atol=1e-5
    )
