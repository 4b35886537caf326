"""Data sets by name: where they are found, what is read, what is said of missing and damaged ones."""

import hashlib
import pickle
import shutil
import urllib.error
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import CIFAR10, CIFAR100, SVHN, utils

from rankdeficit.images import Framing, ImageFiles, ImageSet, load_splits
from real_nets import checked_images, folders
from real_nets.datasets import (
    SOURCES,
    Dataset,
    check_images,
    open_dataset,
    resized,
    why_missing,
)
from tests.images import image_set, write_images

Install = Callable[[Path, str], None]


def in_memory(found: Dataset) -> tuple[ImageSet, ImageSet]:
    assert isinstance(found.train, ImageSet)
    assert isinstance(found.test, ImageSet)
    return found.train, found.test


def streamed(found: Dataset) -> tuple[ImageFiles, ImageFiles]:
    assert isinstance(found.train, ImageFiles)
    assert isinstance(found.test, ImageFiles)
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
        rows = {image.numpy().tobytes() for image in train.images}
        assert not rows & {image.numpy().tobytes() for image in test.images}


def test_image_folders_are_read_as_they_are(root: Path) -> None:
    train, test = in_memory(open_dataset("squares", root))
    for ours, theirs in zip((train, test), load_splits(root / "squares"), strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
    (root / "squares" / "test").rename(root / "squares" / "val")
    files, held_out = streamed(open_dataset("squares", root, in_memory=False))
    assert (files.framing.size, held_out.framing.size) == ((8, 8), (8, 8))
    assert torch.equal(files.load().images, train.images)
    assert torch.equal(held_out.load().images, test.images)


def test_resizing(root: Path) -> None:
    for in_memory_ in (True, False):
        found = open_dataset("squares", root, image_size=5, in_memory=in_memory_)
        assert found.size == (5, 5)
        train = found.train if isinstance(found.train, ImageSet) else found.train.load()
        assert torch.equal(train.images, load_splits(root / "squares", 5)[0].images)
    large, small = (open_dataset("glyphs:1", None, image_size=n) for n in (64, 16))
    plain, _ = in_memory(open_dataset("glyphs:1", None))
    assert (large.size, small.size) == ((64, 64), (16, 16))
    halves = plain.images.float().unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(-2, -1))
    difference = (in_memory(small)[0].images.float() - halves)[:, :, 1:-1, 1:-1]
    assert difference.abs().mean() < 12
    assert torch.equal(
        in_memory(open_dataset("glyphs:1", None, image_size=32))[0].images, plain.images
    )


def test_what_fits_in_memory_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 21 * 3 * 8 * 8
    for limit, kind in ((needed, ImageSet), (needed - 1, ImageFiles)):
        monkeypatch.setattr(folders, "IN_MEMORY", limit)
        assert isinstance(open_dataset("squares", root).train, kind)
        assert isinstance(open_dataset("squares", root, in_memory=True).train, ImageSet)
    assert isinstance(open_dataset("squares", root, image_size=4).train, ImageSet)


def damage(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes((folder / name).read_bytes()[:40])


DAMAGED = "train/class0/0.png", "train/class2/1.png", "train/class2/4.png", "test/class1/1.png"


@pytest.mark.parametrize("decoded", [True, False], ids=["in memory", "streamed"])
def test_unreadable_images_of_both_splits_are_named_and_counted(root: Path, decoded: bool) -> None:
    damage(root / "squares", *DAMAGED[1:])
    expected = (
        r"3 of 21 images cannot be read \(.*class2/1\.png, .*class2/4\.png, .*test/class1/1\.png\)"
    )
    mend = r".*leave them out with --on-corrupt skip"
    with pytest.raises(ValueError, match=expected + mend):
        open_dataset("squares", root, in_memory=decoded)
    damage(root / "squares", DAMAGED[0])
    with pytest.raises(ValueError, match=r"4 of 21 .*class0/0\.png, .*class2/4\.png, \.\.\.\);"):
        open_dataset("squares", root, in_memory=decoded)


@pytest.mark.parametrize("decoded", [True, False, None])
def test_unreadable_images_are_left_out_and_counted(root: Path, decoded: bool | None) -> None:
    whole = in_memory(open_dataset("squares", root))
    damage(root / "squares", *DAMAGED)
    found = open_dataset("squares", root, in_memory=decoded, on_corrupt="skip")
    assert found.skipped == found.card()["skipped"] == 4
    kept = [i for i in range(15) if i not in (0, 11, 14)], [0, 1, 2, 4, 5]
    for split, expected, chosen in zip((found.train, found.test), whole, kept, strict=True):
        images = split if isinstance(split, ImageSet) else split.load()
        assert torch.equal(images.images, expected.images[chosen])
        assert torch.equal(images.labels, expected.labels[chosen])


@pytest.mark.parametrize("decoded", [True, False], ids=["in memory", "streamed"])
def test_what_is_left_out_is_told_in_one_line(
    root: Path, decoded: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_dataset("squares", root, in_memory=decoded, on_corrupt="skip")
    assert capsys.readouterr().err == ""
    damage(root / "squares", *DAMAGED)
    open_dataset("squares", root, in_memory=decoded, on_corrupt="skip")
    named = ", ".join(str(root / "squares" / name) for name in DAMAGED[:3])
    assert capsys.readouterr().err == (
        f"data {root / 'squares'}: 4 of 21 images cannot be read and are left out ({named}, ...)\n"
    )
    monkeypatch.setattr(checked_images, "is_first", lambda: False)
    checked_images.tell_skipped(["a"], 2, root)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("decoded", [True, False], ids=["in memory", "streamed"])
def test_a_class_without_train_images_is_refused(root: Path, decoded: bool) -> None:
    damage(root / "squares", *(f"train/class1/{i}.png" for i in range(4)))
    assert open_dataset("squares", root, in_memory=decoded, on_corrupt="skip").skipped == 4
    damage(root / "squares", "train/class1/4.png")
    expected = r"squares/train: no image can be read of 1 of 3 classes \(class1\); replace"
    with pytest.raises(ValueError, match=expected):
        open_dataset("squares", root, in_memory=decoded, on_corrupt="skip")


@pytest.mark.parametrize("decoded", [True, False, None])
@pytest.mark.parametrize("on_corrupt", ["stop", "skip"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_readable_images_is_refused_with_names_number_and_reason(
    root: Path, decoded: bool | None, on_corrupt: Literal["stop", "skip"], split: str
) -> None:
    paths = sorted((root / "squares" / split).rglob("*.png"))
    for path in paths:
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(path)
    named = r"class0/0\.png \(more than 8 bits per channel\), .*, \.\.\."
    expected = (
        rf"squares/{split}: none of its {len(paths)} images can be read \(.*{named}\); replace"
    )
    with pytest.raises(ValueError, match=expected):
        open_dataset("squares", root, in_memory=decoded, on_corrupt=on_corrupt)


def test_the_reason_is_told_of_streamed_images_too(root: Path) -> None:
    victim = root / "squares" / "train" / "class1" / "2.png"
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(victim)
    with pytest.raises(ValueError, match=r"1 of 21 .*2\.png \(more than 8 bits per channel\)"):
        open_dataset("squares", root, in_memory=False)


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
    with pytest.raises(
        ValueError, match=r"train images are 8 x 8 and test images 9 x 5.*--image-size"
    ):
        open_dataset("squares", root, in_memory=decoded)


def test_checks_are_shared_among_processes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(root / "squares", *DAMAGED[:3])
    files = ImageFiles.of(root / "squares" / "train")
    expected = [str(root / "squares" / name) for name in DAMAGED[:3]]
    assert check_images(files) == expected
    shares = []
    for process in range(2):
        monkeypatch.setattr(checked_images, "rank_and_size", lambda process=process: (process, 2))
        shares.append(check_images(files))
    assert shares == [[expected[0], expected[2]], [expected[1]]]


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
    changed = images.images.clone()
    changed[5, 2, 7, 7] ^= 1
    sets = [
        images,
        replace(images, labels=images.labels.flip(0)),
        replace(images, images=images.images.flip(0)),
        replace(images, images=changed),
        replace(images, classes=["a", "c"]),
        replace(images, images=images.images.reshape(6, 3, 4, 16)),
    ]
    prints = [Dataset("x", each, images).card()["fingerprint"] for each in sets]
    assert len(set(prints)) == len(sets)
    assert Dataset("x", sets[1], images).card() != Dataset("x", images, sets[1]).card()
    assert Dataset("x", replace(images), images).card()["fingerprint"] == prints[0]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "..\\a", "../squares"])
def test_paths_are_no_names(name: str, root: Path) -> None:
    reason = why_missing(name, root, False)
    assert reason is not None
    assert "must be a name, not a path" in reason
    with pytest.raises(ValueError, match="must be a name, not a path"):
        open_dataset(name, root)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "nowhere must hold folders train and test"),
        ("glyphs:", "'glyphs:' must have a number of images per class"),
        ("glyphs:0", "must have a number"),
        ("glyph-fonts:-3", "must have a number"),
        ("cifar10:5", "'cifar10:5' must have no number"),
        ("cifar10", r"lacks cifar-10-batches-py/data_batch_1; unpack https://.*--download"),
        ("svhn", r"lacks train_32x32\.mat; unpack http.*--download"),
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
    assert f"'squares' is none of {', '.join(SOURCES)}" in reasons[0]
    assert reasons[1] is not None
    assert "needs a folder" in reasons[1]
    assert reasons[2] is None
    assert why_missing("squares", root, False) is None
    assert why_missing("cifar100", root, True) is None
    assert list(root.iterdir()) == [root / "squares"]


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
    assert torch.equal(train.images.flatten(1), torch.from_numpy(expected))
    assert torch.equal(test.images.flatten(1), torch.from_numpy(fake_rows(4, parts)))
    assert found.size == (32, 32)
    if name == "svhn":
        assert train.labels.tolist() == test.labels.tolist() == [0, 1, 9, 0]
        assert found.classes == list("0123456789")
    else:
        classes = len(found.classes)
        assert found.classes == [f"c{i}" for i in range(10 if name == "cifar10" else 100)]
        assert train.labels.tolist() == [(s + i) % classes for s in range(parts) for i in range(4)]


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
    with pytest.raises(ValueError, match=r"cifar10 in .* is damaged: .*MD5 sums; delete them"):
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
    with pytest.raises(
        ValueError, match=rf"{name} cannot be downloaded to .*no route to host"
    ) as e:
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
    with pytest.raises(ValueError, match=r"svhn cannot be downloaded .*corrupted"):
        open_dataset("svhn", root, download=True)


def test_streamed_files_are_cropped_like_those_in_memory(tmp_path: Path) -> None:
    write_images(tmp_path / "own", classes=2, train=3, test=2, size=12)
    splits = []
    for in_memory in (True, False):
        found = open_dataset("own", tmp_path, image_size=4, crop=0.5, in_memory=in_memory)
        for images in (found.train, found.test):
            loaded = images.load() if isinstance(images, ImageFiles) else images
            splits.append(loaded.images)
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
    assert isinstance(cropped, ImageSet)
    assert bool((cropped.images == 200).all())
    whole = open_dataset("framed", tmp_path, image_size=4).train
    assert isinstance(whole, ImageSet)
    assert not bool((whole.images == 200).all())
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].contiguous()
    images = ImageSet(pixels, torch.zeros(1, dtype=torch.int64), ["a"])
    assert bool((resized(images, Framing((4, 4), 0.5)).images == 200).all())
