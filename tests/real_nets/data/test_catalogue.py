"""Data sets by name: where they are found, what is read, what is said of missing and damaged ones."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rankdeficit.experiments import image_splits
from rankdeficit.image_files import Framing
from rankdeficit.images import Images, load_splits
from real_nets.data.catalogue import CATALOGUE
from real_nets.data.images import Dataset
from real_nets.data.opening import open_dataset, why_missing
from tests.images import image_set, write_images


def in_memory(found: Dataset) -> tuple[Images, Images]:
    assert found.train.in_memory
    assert found.test.in_memory
    return found.train, found.test


def streamed(found: Dataset) -> tuple[Images, Images]:
    assert not found.train.in_memory
    assert not found.test.in_memory
    return found.train, found.test


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the image folder "squares"."""
    write_images(tmp_path / "squares", classes=3, train=5, test=2)
    return tmp_path


def test_letters_need_no_folder() -> None:
    found = {name: open_dataset(name, None) for name in ("glyphs:30", "glyph-letters:5")}
    found["glyph-fonts"] = open_dataset("glyph-fonts", None)
    counts = {
        name: (len(each.classes), len(each.train.labels), len(each.test.labels))
        for name, each in found.items()
    }
    assert counts == {
        "glyphs:30": (100, 3000, 600), "glyph-letters:5": (35, 175, 175),
        "glyph-fonts": (100, 10_000, 2_000),
    }  # fmt: skip
    assert found["glyphs:30"].classes == found["glyph-fonts"].classes
    assert not set(found["glyphs:30"].classes) & set(found["glyph-letters:5"].classes)
    for each in found.values():
        train, test = in_memory(each)
        assert each.size == (32, 32)
        rows = {image.numpy().tobytes() for image in train.pixels}
        assert not rows & {image.numpy().tobytes() for image in test.pixels}


def test_image_folders_are_read_as_they_are(root: Path) -> None:
    train, test = in_memory(open_dataset("squares", root))
    for ours, theirs in zip((train, test), load_splits(root / "squares"), strict=True):
        assert torch.equal(ours.pixels, theirs.pixels)
        assert torch.equal(ours.labels, theirs.labels)
    (root / "squares" / "test").rename(root / "squares" / "val")
    files, held_out = streamed(open_dataset("squares", root, in_memory=False))
    assert (files.framing.size, held_out.framing.size) == ((8, 8), (8, 8))
    assert torch.equal(files.load().pixels, train.pixels)
    assert torch.equal(held_out.load().pixels, test.pixels)


def test_resizing(root: Path) -> None:
    for in_memory_ in (True, False):
        found = open_dataset("squares", root, image_size=5, in_memory=in_memory_)
        assert found.size == (5, 5)
        train = found.train.load()
        assert torch.equal(train.pixels, load_splits(root / "squares", 5)[0].pixels)
    large, small = (open_dataset("glyphs:1", None, image_size=n) for n in (64, 16))
    plain, _ = in_memory(open_dataset("glyphs:1", None))
    assert (large.size, small.size) == ((64, 64), (16, 16))
    halves = plain.pixels.float().unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(-2, -1))
    difference = (in_memory(small)[0].pixels.float() - halves)[:, :, 1:-1, 1:-1]
    assert difference.abs().mean() < 12
    assert torch.equal(
        in_memory(open_dataset("glyphs:1", None, image_size=32))[0].pixels, plain.pixels
    )


def test_what_fits_in_memory_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 21 * 3 * 8 * 8
    for limit, decoded in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(image_splits, "IN_MEMORY", limit)
        assert open_dataset("squares", root).train.in_memory == decoded
        assert open_dataset("squares", root, in_memory=True).train.in_memory
    assert open_dataset("squares", root, image_size=4).train.in_memory


@pytest.mark.parametrize("decoded", [True, False], ids=["in memory", "streamed"])
def test_sizes_that_differ(root: Path, decoded: bool) -> None:
    odd = root / "squares" / "train" / "class1" / "3.png"
    Image.new("RGB", (5, 9)).save(odd)
    with pytest.raises(ValueError, match=r"different sizes \(8 x 8, 9 x 5\).*--image-size"):
        open_dataset("squares", root, in_memory=decoded)
    assert open_dataset("squares", root, in_memory=decoded, image_size=8).size == (8, 8)
    odd.unlink()
    for path in (root / "squares" / "test").rglob("*.png"):
        Image.new("RGB", (5, 9)).save(path)
    with pytest.raises(ValueError, match=r"train .*8 x 8.*test .*9 x 5.*--image-size"):
        open_dataset("squares", root, in_memory=decoded)


@pytest.mark.parametrize("decoded", [True, False], ids=["in memory", "streamed"])
def test_cards_of_the_same_data_are_equal_anywhere(root: Path, decoded: bool) -> None:
    def card() -> dict[str, object]:
        return open_dataset("squares", root, in_memory=decoded).card()

    first = card()
    assert {k: v for k, v in first.items() if k != "fingerprint"} == {
        "name": "squares", "train_images": 15, "test_images": 6, "classes": 3,
        "image_size": [8, 8], "skipped": 0,
    }  # fmt: skip
    shutil.copytree(root / "squares", root / "elsewhere" / "squares")
    elsewhere = open_dataset("squares", root / "elsewhere", in_memory=decoded)
    assert elsewhere.card() == first
    image = root / "squares" / "test" / "class0" / "0.png"
    pixels = np.asarray(Image.open(image)).copy()
    pixels[0, 0, 0] += 1
    Image.fromarray(pixels).save(image)
    image.write_bytes(image.read_bytes() + b" ")
    assert card()["fingerprint"] != first["fingerprint"]
    for split in ("train", "test"):
        folder = root / "elsewhere" / "squares" / split
        (folder / "class0").rename(folder / "other")
    renamed = open_dataset("squares", root / "elsewhere", in_memory=decoded).card()
    assert renamed["fingerprint"] != first["fingerprint"]


def test_cards_of_streamed_data_tell_the_names_of_files(root: Path) -> None:
    first = open_dataset("squares", root, in_memory=False).card()
    folder = root / "squares" / "train" / "class0"
    (folder / "0.png").rename(folder / "00.png")
    assert open_dataset("squares", root, in_memory=False).card() != first


def test_fingerprints_tell_labels_order_and_pixels() -> None:
    images = image_set(6)
    changed = images.pixels.clone()
    changed[5, 2, 7, 7] ^= 1
    sets = [
        images,
        replace(images, labels=images.labels.flip(0)),
        replace(images, memory=images.pixels.flip(0)),
        replace(images, memory=changed),
        replace(images, classes=["a", "c"]),
        replace(images, memory=images.pixels.reshape(6, 3, 4, 16)),
    ]
    prints = [Dataset("x", each, images).card()["fingerprint"] for each in sets]
    assert len(set(prints)) == len(sets)
    assert Dataset("x", sets[1], images).card() != Dataset("x", images, sets[1]).card()
    assert Dataset("x", replace(images), images).card()["fingerprint"] == prints[0]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "..\\a", "../squares"])
def test_paths_are_no_names(name: str, root: Path) -> None:
    reason = why_missing(name, root, False)
    assert reason is not None
    assert repr(name) in reason
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        open_dataset(name, root)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "nowhere .*train.*test"),
        ("glyphs:", "'glyphs:'.*number"),
        ("glyphs:0", "'glyphs:0'.*number"),
        ("glyph-fonts:-3", "'glyph-fonts:-3'.*number"),
        ("cifar10:5", "'cifar10:5'.* no number"),
        ("cifar10", r"cifar-10-batches-py/data_batch_1.* https://.*--download"),
        ("svhn", r"train_32x32\.mat.* http.*--download"),
    ],
)
def test_what_is_missing_is_said_in_one_line(name: str, words: str, root: Path) -> None:
    with pytest.raises(ValueError, match=words) as error:
        open_dataset(name, root)
    reason = why_missing(name, root, False)
    assert reason == str(error.value)
    assert "\n" not in reason


def test_what_is_missing_without_a_folder(root: Path) -> None:
    reasons = [why_missing(name, None, True) for name in ("squares", "cifar100", "glyphs")]
    assert reasons[0] is not None
    assert all(name in reasons[0] for name in ("squares", "--root", *CATALOGUE))
    assert reasons[1] is not None
    assert "--root" in reasons[1]
    assert reasons[2] is None
    assert why_missing("squares", root, False) is None
    assert why_missing("cifar100", root, True) is None
    assert list(root.iterdir()) == [root / "squares"]


def test_streamed_files_are_cropped_like_those_in_memory(tmp_path: Path) -> None:
    write_images(tmp_path / "own", classes=2, train=3, test=2, size=12)
    splits = []
    for in_memory in (True, False):
        found = open_dataset("own", tmp_path, image_size=4, crop=0.5, in_memory=in_memory)
        for images in (found.train, found.test):
            splits.append(images.load().pixels)
    assert torch.equal(splits[0], splits[2])
    assert torch.equal(splits[1], splits[3])


def test_crops_keep_the_centre_of_files_and_of_images_in_memory(tmp_path: Path) -> None:
    frame = np.zeros((8, 8, 3), dtype=np.uint8)
    frame[2:6, 2:6] = 200
    for split in ("train", "test"):
        for k in "ab":
            folder = tmp_path / "framed" / split / k
            folder.mkdir(parents=True)
            Image.fromarray(frame).save(folder / "0.png")
    cropped = open_dataset("framed", tmp_path, image_size=4, crop=0.5).train
    assert bool((cropped.pixels == 200).all())
    whole = open_dataset("framed", tmp_path, image_size=4).train
    assert not bool((whole.pixels == 200).all())
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].contiguous()
    assert bool((Framing((4, 4), 0.5).of_pixels(pixels) == 200).all())
