"""Images that cannot be read: named and counted, or left out and told."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from rankdeficit.experiments import image_splits
from rankdeficit.experiments.image_splits import check_images
from rankdeficit.images import Images
from real_nets.data.images import Dataset
from real_nets.data.opening import open_dataset
from tests.images import write_images


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


def damage(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes((folder / name).read_bytes()[:40])


DAMAGED = "train/class0/0.png", "train/class2/1.png", "train/class2/4.png", "test/class1/1.png"


@pytest.mark.parametrize("decoded", [True, False], ids=["in memory", "streamed"])
def test_unreadable_images_of_both_splits_are_named_and_counted(root: Path, decoded: bool) -> None:
    damage(root / "squares", *DAMAGED[1:])
    expected = r"3 of 21 images.* \(.*class2/1\.png, .*class2/4\.png, .*test/class1/1\.png\)"
    mend = ".*--on-corrupt skip"
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
        loaded = split.load()
        assert torch.equal(loaded.pixels, expected.pixels[chosen])
        assert torch.equal(loaded.labels, expected.labels[chosen])


@pytest.mark.parametrize("decoded", [True, False], ids=["in memory", "streamed"])
def test_what_is_left_out_is_told_in_one_line(
    root: Path, decoded: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_dataset("squares", root, in_memory=decoded, on_corrupt="skip")
    assert capsys.readouterr().err == ""
    damage(root / "squares", *DAMAGED)
    open_dataset("squares", root, in_memory=decoded, on_corrupt="skip")
    named = ", ".join(str(root / "squares" / name) for name in DAMAGED[:3])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"data {root / 'squares'}: 4 of 21 images ")
    assert line.endswith(f"({named}, ...)")
    monkeypatch.setattr(image_splits, "is_first", lambda: False)
    image_splits.tell_skipped(["a"], 2, root)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("decoded", [True, False], ids=["in memory", "streamed"])
def test_hidden_files_and_exif_orientations_are_told_with_their_number(
    root: Path, decoded: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, exif = root / "squares" / "train" / "class0", Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name in ("0.png", "1.png"):
        with Image.open(folder / name) as image:
            image.save(folder / name, exif=exif)
    (folder / "._0.png").write_bytes(b"resource fork")
    open_dataset("squares", root, in_memory=decoded)
    hidden, turned = capsys.readouterr().err.splitlines()
    assert hidden.endswith(f"1 ({folder / '._0.png'})")
    assert "2 of 15 images" in turned


@pytest.mark.parametrize("decoded", [True, False], ids=["in memory", "streamed"])
def test_a_class_without_train_images_is_refused(root: Path, decoded: bool) -> None:
    damage(root / "squares", *(f"train/class1/{i}.png" for i in range(4)))
    assert open_dataset("squares", root, in_memory=decoded, on_corrupt="skip").skipped == 4
    damage(root / "squares", "train/class1/4.png")
    expected = r"squares/train: .*1 of 3 classes \(class1\).*replace"
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
    named = r"class0/0\.png \(.* 8 bits.*\), .*, \.\.\."
    expected = rf"squares/{split}: none .*{len(paths)} images.* \(.*{named}\).*replace"
    with pytest.raises(ValueError, match=expected):
        open_dataset("squares", root, in_memory=decoded, on_corrupt=on_corrupt)


def test_the_reason_is_told_of_streamed_images_too(root: Path) -> None:
    victim = root / "squares" / "train" / "class1" / "2.png"
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(victim)
    with pytest.raises(ValueError, match=r"1 of 21 .*2\.png \(.* 8 bits"):
        open_dataset("squares", root, in_memory=False)


def test_checks_are_shared_among_processes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(root / "squares", *DAMAGED[:3])
    files = Images.of_folder(root / "squares" / "train")
    expected = [files.paths.index(str(root / "squares" / name)) for name in DAMAGED[:3]]
    assert check_images(files).unreadable == expected
    shares = []
    for process in range(2):
        monkeypatch.setattr(image_splits, "rank_and_size", lambda process=process: (process, 2))
        shares.append(check_images(files).unreadable)
    assert shares == [[expected[0], expected[2]], [expected[1]]]
