import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from real_nets import models
from real_nets.data import (
    CROP_PADDING,
    ImageSet,
    Normalisation,
    augment,
    load_splits,
    shuffled_batches,
)
from tests.real_nets.images import write_images


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


def image_set(n: int, size: int = 8) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(n) % 2, ["a", "b"])


def test_normalised_images_have_mean_zero_and_deviation_one() -> None:
    data = image_set(50)
    x = Normalisation.of(data)(data.images)
    torch.testing.assert_close(x.mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        x.std(dim=(0, 2, 3), correction=0), torch.ones(3), rtol=1e-5, atol=1e-5
    )


def test_flips_are_flips() -> None:
    images = image_set(64).images
    out = augment(images, "flip", torch.Generator().manual_seed(0))
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(out, images, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(out, images, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True))
    assert 16 < sum(flipped) < 48
    assert augment(images, "none", torch.Generator()) is images


def test_crops_are_shifted_images_with_black_borders() -> None:
    images = image_set(200).images
    out = augment(images, "crop-flip", torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (CROP_PADDING,) * 4)
    places = set()
    for a, b in zip(out, padded, strict=True):
        matches = [
            (dy, dx, flip)
            for flip in (False, True)
            for dy in range(2 * CROP_PADDING + 1)
            for dx in range(2 * CROP_PADDING + 1)
            if torch.equal(a.flip(-1) if flip else a, b[:, dy : dy + 8, dx : dx + 8])
        ]
        assert len(matches) == 1
        places.add(matches[0][:2])
    assert len(places) > 60  # of 81


def test_batches_cover_the_set_once_in_an_order_of_the_seed() -> None:
    data = image_set(23)

    def epoch(seed: int) -> list[Any]:
        generator = torch.Generator().manual_seed(seed)
        return list(shuffled_batches(data, 5, "none", generator))

    batches = epoch(0)
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    seen = torch.cat([images for images, _ in batches]).flatten(1)
    original = data.images.flatten(1)
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, original.tolist()))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, epoch(0), strict=True))
    assert not torch.equal(batches[0][0], epoch(1)[0][0])


def test_the_mlp_has_its_depth_and_keeps_the_norm() -> None:
    model = models.build("mlp", inputs=(3, 8, 8), classes=5, width=256, depth=8)
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [
        (192, 256), *[(256, 256)] * 6, (256, 5)
    ]  # fmt: skip
    with torch.no_grad():
        logits = model(torch.randn(200, 3, 8, 8))
    assert 0.3 < logits.square().mean().sqrt() < 5


@pytest.mark.usefixtures("unchecked")
def test_unknown_models() -> None:
    with pytest.raises(ValueError, match="model is 'gpt'; it must be one of mlp"):
        models.build("gpt", inputs=(3, 8, 8), classes=5, width=256, depth=8)
    with pytest.raises(ValueError, match="width is 0"):
        models.build("mlp", inputs=(3, 8, 8), classes=5, width=0, depth=8)
