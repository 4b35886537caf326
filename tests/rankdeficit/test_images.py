"""Images from folders: what comes back, and what is said of bad ones."""

import os
import re
import shutil
import struct
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from torchvision.datasets import ImageFolder

from rankdeficit.image_files import Framing, check_readable, list_folder, read_image, square
from rankdeficit.images import Images, list_splits, load_splits
from rankdeficit.normalisation import Normalisation, level_counts
from tests.images import image_set, write_images


def test_folders_come_back_as_uint8(tmp_path: Path) -> None:
    write_images(tmp_path, classes=3, train=5, test=2)
    train, test = load_splits(tmp_path)
    assert train.pixels.shape == (15, 3, 8, 8)
    assert train.pixels.dtype == torch.uint8
    assert train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert train.classes == test.classes == ["class0", "class1", "class2"]
    first = np.asarray(Image.open(tmp_path / "train" / "class0" / "0.png"))
    assert torch.equal(train.pixels[0], torch.from_numpy(first.copy()).permute(2, 0, 1))


def test_a_val_folder_and_resizing(tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, train=2, test=2)
    (tmp_path / "test").rename(tmp_path / "val")
    Image.new("L", (5, 9)).save(tmp_path / "train" / "class0" / "odd.png")
    with pytest.raises(ValueError, match=r"sizes .*--image-size"):
        load_splits(tmp_path)
    train, test = load_splits(tmp_path, image_size=6)
    assert train.pixels.shape == (5, 3, 6, 6)
    assert test.pixels.shape == (4, 3, 6, 6)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train.*test"):
        load_splits(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match=r"train.*classes"):
        load_splits(tmp_path)
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no images.* 1 of 1 .*empty"):
        load_splits(tmp_path)
    (tmp_path / "train" / "empty").rmdir()
    write_images(tmp_path, classes=1, train=2, test=2)
    with pytest.raises(ValueError, match=r"one.*class0"):
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
    with pytest.raises(ValueError, match=r"1 of 6 images.*class1/1\.png"):
        load_splits(tmp_path)


def test_errors_name_the_first_unreadable_images_and_count_all() -> None:
    check_readable([], 9)
    for count, named in ((1, r"\(0\)"), (3, r"\(0, 1, 2\)"), (4, r"\(0, 1, 2, \.\.\.\)")):
        with pytest.raises(ValueError, match=rf"{count} of 9 images.*{named}.*replace"):
            check_readable([str(i) for i in range(count)], 9)


def test_what_can_be_read_is_told_from_what_cannot(tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, train=3, test=1)
    files = Images.of_folder(tmp_path / "train")
    whole = files.load()
    lost = [files.paths[i] for i in (0, 4)]
    (tmp_path / lost[0]).unlink()
    (tmp_path / lost[1]).write_bytes(b"not an image")
    heard: list[int] = []
    assert files.check(heard.append).unreadable == [0, 4]
    assert heard == [1, 2, 3, 4, 5, 6]
    loaded, unreadable = files.load_readable()
    assert unreadable == lost
    assert torch.equal(loaded.pixels, whole.pixels[[1, 2, 3, 5]])
    assert loaded.labels.tolist() == [0, 0, 1, 1]
    Image.new("RGB", (5, 9)).save(lost[0])
    with pytest.raises(ValueError, match=r"sizes.*8 x 8, 9 x 5"):
        files.check()
    assert Images.of_folder(tmp_path / "train", square(8)).check().unreadable == [4]
    nothing, both = files.part([4, 4]).load_readable()
    assert (len(nothing.pixels), len(nothing.labels), len(both)) == (0, 0, 2)


@pytest.mark.parametrize("pixels", [64, 65, 200])
def test_images_beyond_pillow_s_limit_are_named_with_it(
    pixels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow warns up to twice its limit and raises beyond."""
    write_images(tmp_path, classes=1, train=2, test=1)
    victim = tmp_path / "train" / "class0" / "1.png"
    Image.new("RGB", (pixels, 1)).save(victim)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    files = Images.of_folder(tmp_path / "train", square(8))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _, unreadable = files.load_readable()
    assert len(unreadable) == (pixels > 64)
    assert all(re.match(rf"{re.escape(str(victim))} \(.* 64 pixels", own) for own in unreadable)
    assert told == []


def test_an_image_is_read_in_rgb_or_spoken_of(tmp_path: Path) -> None:
    path = str(tmp_path / "image.png")
    assert read_image(path) == path
    Image.new("L", (3, 2), 7).save(path)
    found = read_image(path)
    assert not isinstance(found, str)
    assert (found.mode, found.size, found.getpixel((2, 1))) == ("RGB", (3, 2), (7, 7, 7))
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(path)
    found = read_image(path)
    assert isinstance(found, str)
    assert re.match(rf"{re.escape(path)} \(.* 8 bits", found)


@pytest.mark.parametrize(
    "kind", [TypeError, struct.error, KeyError, MemoryError, KeyboardInterrupt]
)
def test_whatever_pillow_raises_speaks_of_the_file_unless_memory_or_patience_ran_out(
    kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise kind

    path = str(tmp_path / "image.png")
    Image.new("L", (3, 2)).save(path)
    monkeypatch.setattr(Image.Image, "convert", fail)
    if kind in (MemoryError, KeyboardInterrupt):
        with pytest.raises(kind):
            read_image(path)
    else:
        assert read_image(path) == path


def test_a_tiff_whose_tags_are_damaged_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    Image.new("RGB", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(bytes([0x11, 1, 4, 0])) + 2] = 2  # where the pixels start is text now
    path.write_bytes(content)
    assert read_image(str(path)) == str(path)


def test_normalised_images_have_mean_zero_and_deviation_one() -> None:
    data = image_set(50)
    x = Normalisation.of(data.pixels)(data.pixels)
    torch.testing.assert_close(x.mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        x.std(dim=(0, 2, 3), correction=0), torch.ones(3), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("size", [1, 4, 7, 15, 99])
def test_batches_are_the_loaded_images_in_order(tmp_path: Path, size: int) -> None:
    write_images(tmp_path, classes=3, train=5, test=1)
    files = Images.of_folder(tmp_path / "train")
    whole = files.load()
    batches = list(files.decoded(size))
    assert [len(labels) for _, labels in batches[:-1]] == [size] * ((15 - 1) // size)
    assert torch.equal(torch.cat([images for images, _ in batches]), whole.pixels)
    assert torch.equal(torch.cat([labels for _, labels in batches]), whole.labels)
    part = files.part([11, 0, 7])
    assert torch.equal(part.load().pixels, whole.pixels[[11, 0, 7]])
    assert part.labels.tolist() == [2, 0, 1]


def test_an_image_of_another_size_is_found_in_a_later_batch(tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, train=4, test=1)
    Image.new("RGB", (5, 9)).save(tmp_path / "train" / "class1" / "3.png")
    files = Images.of_folder(tmp_path / "train")
    batches = files.decoded(1)
    assert len([next(batches) for _ in range(7)]) == 7
    with pytest.raises(ValueError, match=r"sizes.*8 x 8, 9 x 5.*--image-size"):
        next(batches)
    assert files.part([7]).size_in_file() == (9, 5)


def test_progress_is_told_image_by_image(tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, train=2, test=1)
    heard: list[int] = []
    Images.of_folder(tmp_path / "train").load(heard.append)
    assert heard == [1, 2, 3, 4]


def test_a_crop_keeps_the_centre_and_its_proportions() -> None:
    pixels = np.zeros((8, 20, 3), dtype=np.uint8)
    pixels[2:6, 8:12] = 200
    image = Image.fromarray(pixels)
    half = np.asarray(Framing((4, 4), crop=0.5)(image))
    assert half.shape == (4, 4, 3)
    assert (half == 200).all()
    whole = np.asarray(Framing((8, 8), crop=1.0)(image))
    np.testing.assert_array_equal(whole, pixels[:, 6:14])
    wide = np.asarray(Framing((4, 10), crop=0.5)(image))
    np.testing.assert_array_equal(wide, pixels[2:6, 5:15])
    assert Framing((3, 7))(image).size == (7, 3)


def test_files_are_resized_bicubically() -> None:
    step = np.repeat(np.array([[100] * 4 + [200] * 4], dtype=np.uint8), 8, axis=0)
    image = Image.fromarray(np.stack([step] * 3, axis=2))
    large, plain = np.asarray(Framing((8, 32))(image)), np.asarray(Framing((8, 8))(image))
    assert large.min() < 100 < 200 < large.max()  # bilinear pixels lie between their neighbours
    assert np.array_equal(plain, np.asarray(image))


def test_images_in_memory_that_have_their_size_stay_as_they_are() -> None:
    images = image_set(3).pixels
    assert Framing().of_pixels(images) is images
    assert Framing((8, 8)).of_pixels(images) is images
    assert not torch.equal(Framing((8, 8), 0.5).of_pixels(images), images)
    assert Framing((4, 6)).of_pixels(images[:0]).shape == (0, 3, 4, 6)


def test_bad_framings() -> None:
    for size in (0, -3):
        with pytest.raises(ValueError, match=f"image_size.* {size}"):
            square(size)
    for crop in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"crop is {crop}"):
            Framing((4, 4), crop=crop)
    with pytest.raises(ValueError, match=r"crop.*size"):
        Framing(crop=0.5)


def test_one_class_is_enough_where_it_is_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path, classes=1, train=2, test=2)
    assert [len(files) for files in list_splits(tmp_path, least_classes=1)] == [2, 2]


def test_levels_of_parts_add_up() -> None:
    data = image_set(50)
    parts = sum(level_counts(images) for images in data.pixels.split(7))
    assert isinstance(parts, torch.Tensor)
    found, expected = Normalisation.of_levels(parts), Normalisation.of(data.pixels)
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.std, expected.std)
    levels = level_counts(torch.tensor([[[[0, 255]], [[7, 7]]]], dtype=torch.uint8))
    assert [levels[0, 0], levels[0, 255], levels[1, 7], levels.sum()] == [1, 1, 2, 4]


def test_hidden_files_and_folders_and_what_is_no_file_are_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, train=3, test=1)
    expected = Images.of_folder(tmp_path / "train").paths
    one = tmp_path / "train" / "class0" / "0.png"
    for name in (".ipynb_checkpoints", "class0/.thumbnails", "class1/.AppleDouble"):
        (tmp_path / "train" / name).mkdir()
        shutil.copy(one, tmp_path / "train" / name / "a.png")
    (tmp_path / "train" / "class0" / "._0.png").write_bytes(b"resource fork")
    (tmp_path / "train" / "class1" / "notes.txt").write_text("no image")
    os.mkfifo(tmp_path / "train" / "class1" / "9.png")
    (tmp_path / "train" / ".DS_Store").write_bytes(b"not an image")
    found = Images.of_folder(tmp_path / "train")
    assert found.paths == expected
    assert found.classes == ["class0", "class1"]
    hidden = (".ipynb_checkpoints", "class0/._0.png", "class0/.thumbnails", "class1/.AppleDouble")
    assert found.hidden == [str(tmp_path / "train" / name) for name in hidden]
    assert len(found.load()) == 6


def test_folders_within_classes_and_links_count_and_a_dangling_link_is_named(
    tmp_path: Path,
) -> None:
    write_images(tmp_path, classes=2, train=2, test=1)
    train = tmp_path / "train"
    (train / "class0" / "b").mkdir()
    shutil.copy(train / "class0" / "0.png", train / "class0" / "b" / "0.PNG")
    (train / "class0" / "c.png").symlink_to(train / "class1" / "1.png")
    (train / "class1" / "more").symlink_to(train / "class0" / "b", target_is_directory=True)
    listing = ImageFolder(str(train))
    found = Images.of_folder(train)
    assert found.paths == [path for path, _ in listing.samples]
    assert found.labels.tolist() == listing.targets
    assert found.classes == listing.classes
    (train / "class1" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"1 of 8 images.*gone\.png"):
        Images.of_folder(train).load()


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("class0/loop", "class0"), ("class0/deep/loop", "class0"), ("class0/up", "."),
        ("again", "."), ("class1/root", ".."),
    ],
)  # fmt: skip
def test_a_link_to_a_folder_around_it_is_refused_by_name(
    link: str, target: str, tmp_path: Path
) -> None:
    write_images(tmp_path, classes=2, train=1, test=1)
    path = tmp_path / "train" / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to((tmp_path / "train" / target).resolve(), target_is_directory=True)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*link"):
        Images.of_folder(tmp_path / "train")


def test_links_that_lead_to_each_other_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, train=1, test=1)
    for own, other in ((0, 1), (1, 0)):
        link = tmp_path / "train" / f"class{own}" / "other"
        link.symlink_to(tmp_path / "train" / f"class{other}", target_is_directory=True)
    with pytest.raises(ValueError, match=r"class0/other/other.*link"):
        Images.of_folder(tmp_path / "train")


def test_links_in_a_circle_are_dangling_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "0.png")
    for name in ("self", "a/self", "a/.self", "a/.self.png"):
        (tmp_path / name).symlink_to(Path(name).name)
    assert len(list_folder(tmp_path).paths) == 1
    (tmp_path / "a" / "self.png").symlink_to("self.png")
    with pytest.raises(ValueError, match=r"self\.png"):
        Images.of_folder(tmp_path).load()


def test_a_folder_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(ValueError, match=f"data {tmp_path}.*Permission"):
        list_folder(tmp_path)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
def test_exif_orientation_is_noted_and_not_applied(tmp_path: Path, ending: str) -> None:
    """As in ImageFolder. Pillow itself turns TIFF files."""
    for name, orientation in (("a", None), ("b", 1), ("c", 6), ("d", 3)):
        exif = Image.Exif()
        if orientation is not None:
            exif[ExifTags.Base.Orientation] = orientation
        path = tmp_path / "own" / f"{name}.{ending}"
        path.parent.mkdir(exist_ok=True)
        pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
        Image.fromarray(pixels).save(path, exif=exif)
    files = Images.of_folder(tmp_path)
    turned = [] if ending == "tiff" else [2, 3]
    assert files.check().turned == turned
    loaded = files.load()
    assert (files.turned, loaded.turned) == (0, len(turned))
    expected = [np.asarray(image) for image, _ in ImageFolder(str(tmp_path))]
    assert np.array_equal(loaded.pixels.permute(0, 2, 3, 1), expected)


def test_images_in_files_have_no_pixels_until_they_are_loaded(tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, train=2, test=1)
    files = Images.of_folder(tmp_path / "train")
    with pytest.raises(ValueError, match="load"):
        _ = files.pixels
    assert (files.in_memory, files.load().in_memory) == (False, True)
    assert files.size == files.load().size == (8, 8)


@pytest.mark.parametrize("sort", [False, True])
def test_some_images_are_chosen_by_the_seed(sort: bool) -> None:
    images = Images(torch.arange(40), list("ab"), image_set(40).pixels)
    drawn = images.some(9, seed=3, sort=sort)
    assert torch.equal(drawn.pixels, images.pixels[drawn.labels])
    assert drawn.labels.tolist() == images.some(9, seed=3, sort=sort).labels.tolist()
    assert sorted(drawn.labels.tolist()) == images.some(9, seed=3, sort=True).labels.tolist()
    assert set(drawn.labels.tolist()) != set(images.some(9, seed=4).labels.tolist())
    assert images.some(0, sort=sort) is images.some(40, sort=sort) is images


def test_network_inputs_are_normalised_in_batches_of_the_size_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, train=4, test=1)
    files = Images.of_folder(tmp_path / "train")
    loaded = files.load()
    normalise = Normalisation.of(loaded.pixels)
    for images in (files, loaded):
        batches = list(images.on(images.device, normalise).batches(3))
        assert [len(labels) for _, labels in batches] == [3, 3, 2]
        assert torch.equal(torch.cat([x for x, _ in batches]), normalise(loaded.pixels))
        assert torch.equal(torch.cat([y for _, y in batches]), loaded.labels)
        plain = torch.cat([x for x, _ in images.batches(8)])
        assert torch.equal(plain, loaded.pixels.float() / 255)


def test_measured_batches_are_as_even_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankdeficit.images.MEASURED_BATCH", 4)
    images = image_set(10)
    assert [len(labels) for _, labels in images] == [4, 4, 2]
    assert [len(labels) for _, labels in images.evenly()] == [4, 4, 2]
    assert [len(labels) for _, labels in image_set(9).evenly()] == [3, 3, 3]


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    count=st.integers(1, 9),
)
def test_the_first_of_each_class_keep_their_order(labels: list[int], count: int) -> None:
    images = Images(torch.tensor(labels), list("abcd"), image_set(len(labels)).pixels)
    seen: Counter[int] = Counter()
    expected = []
    for place, label in enumerate(labels):
        seen[label] += 1
        if seen[label] <= count:
            expected.append(place)
    assert torch.equal(images.first_of_each_class(count).pixels, images.pixels[expected])
    assert images.first_of_each_class(count).labels.tolist() == [labels[i] for i in expected]
