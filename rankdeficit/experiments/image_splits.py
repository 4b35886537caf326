"""Train and test images from files, all checked to be readable before any of them is used."""

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from rankdeficit.distributed import gather_rows, is_first, rank_and_size
from rankdeficit.experiments.cli import progress, say
from rankdeficit.image_files import (
    NAMED,
    check_readable,
    no_bomb_warnings,
    read_image,
    spell_size,
    spell_some,
)
from rankdeficit.images import Checked, Images
from rankdeficit.normalisation import Normalisation, level_counts

OnCorrupt = Literal["stop", "skip"]

IN_MEMORY = 4 * 2**30
"""Bytes of decoded images up to which a process keeps all of them in memory."""


def fits_in_memory(images: int, size: tuple[int, int]) -> bool:
    """Whether this many decoded RGB images fit into IN_MEMORY bytes."""
    return images * 3 * size[0] * size[1] <= IN_MEMORY


def read_splits(
    train: Images, test: Images, in_memory: bool | None, on_corrupt: OnCorrupt
) -> tuple[Images, Images, int]:
    """Train and test images of files, decoded or as files of a known size, and the number left out.

    in_memory: decode all images now, or only check them [default: decode up to IN_MEMORY bytes].
    on_corrupt: stop at unreadable images, or leave them out. Several processes must all call this.
    Raises ValueError naming unreadable images, a class without readable train images, or sizes that
    differ.
    """
    total = len(train) + len(test)
    if in_memory is None:
        in_memory = fits_in_memory(total, train.framing.size or readable_size(train))
    read = load_images if in_memory else sieve_images
    (train_images, lost), (test_images, also_lost) = read(train), read(test)
    for files, unreadable in ((train, lost), (test, also_lost)):
        if len(unreadable) == len(files):
            raise none_readable(unreadable, files)
    if on_corrupt != "skip":
        refuse(lost + also_lost, total)
    check_classes(train_images)
    tell_skipped(lost + also_lost, total, train.folder.parent)
    tell_of_files(train_images, test_images)
    size = common_size(train_images, test_images)
    train_images, test_images = (
        replace(images, framing=replace(images.framing, size=size))
        for images in (train_images, test_images)
    )
    return train_images, test_images, len(lost + also_lost)


def load_images(files: Images) -> tuple[Images, list[str]]:
    """The readable images, decoded, and the paths of the others."""
    with progress(f"reading {files.name}", len(files), "images") as set_done:
        return files.load_readable(set_done)


def load_all(files: Images) -> Images:
    """All images, decoded. Raises ValueError naming the first unreadable ones."""
    if files.in_memory:
        return files
    with progress(f"reading {files.name}", len(files), "images") as set_done:
        loaded = files.load(set_done)
    tell_of_files(loaded)
    return loaded


def sieve_images(files: Images) -> tuple[Images, list[str]]:
    """The files that can be decoded, and the paths of the others, the first ones with the reason."""
    checked = check_images(files)
    lost = set(checked.unreadable)
    kept = files.part([i for i in range(len(files)) if i not in lost])
    unreadable = with_reasons([files.paths[i] for i in checked.unreadable])
    return replace(kept, turned=len(checked.turned)), unreadable


def check_images(files: Images) -> Checked:
    """The files that cannot be read or carry an EXIF orientation; each is decoded to find out.

    Several processes share the work, and all must call this. Raises ValueError where sizes differ
    and the files' framing does not make them equal.
    """
    process, processes = rank_and_size()
    mine = range(process, len(files), processes)
    with progress(f"checking {files.name}", len(mine), "images") as set_done:
        own = files.part(mine).check(set_done)
    unreadable, turned = (
        gather_rows(torch.tensor([mine[i] for i in places], dtype=torch.int64)) for places in own
    )
    assert unreadable is not None
    assert turned is not None
    return Checked(unreadable.sort().values.tolist(), turned.sort().values.tolist())


def with_reasons(unreadable: Sequence[str]) -> list[str]:
    """Names of unreadable files: the first NAMED with the reason, where it is known."""
    with no_bomb_warnings():
        named = [found for path in unreadable[:NAMED] if isinstance(found := read_image(path), str)]
    return [*named, *unreadable[len(named) :]]


def none_readable(unreadable: Sequence[str], files: Images) -> ValueError:
    """The error for files none of which can be read."""
    return ValueError(
        f"data {files.folder}: none of its {len(files)} images can be read "
        f"({spell_some(unreadable)}); replace them, or name another folder"
    )


def refuse(unreadable: list[str], total: int) -> None:
    """Raise ValueError if any of `total` images are unreadable, with the option to leave them out."""
    try:
        check_readable(unreadable, total)
    except ValueError as error:
        raise ValueError(f"{error}, or leave them out with --on-corrupt skip") from None


def check_classes(images: Images) -> None:
    """Raise ValueError if a class has no readable image."""
    counts = torch.bincount(images.labels, minlength=len(images.classes)).tolist()
    empty = [name for name, count in zip(images.classes, counts, strict=True) if not count]
    if empty:
        raise ValueError(
            f"data {images.folder}: no image can be read of {len(empty)} of {len(images.classes)} "
            f"classes ({spell_some(empty)}); replace their images, or delete their folders from all "
            "splits"
        )


def tell_skipped(unreadable: list[str], total: int, folder: Path) -> None:
    """Print the number of images left out, in the first process."""
    if unreadable and is_first():
        said = f"data {folder}: {len(unreadable)} of {total} images cannot be read and are left out"
        print(f"{said} ({spell_some(unreadable)})", file=sys.stderr, flush=True)


def tell_of_files(*splits: Images) -> None:
    """Print the number of hidden files left out and of EXIF orientations, in the first process."""
    for files in splits:
        if files.hidden:
            hidden = f"{len(files.hidden)} ({spell_some(files.hidden)})"
            say(f"data {files.folder}: hidden files and folders left out: {hidden}")
    tell_of_turned(*splits)


def tell_of_turned(*splits: Images) -> None:
    """Print the number of EXIF orientations, in the first process."""
    for files in splits:
        if files.turned:
            turned = f"{files.turned} of {len(files)} images"
            say(f"data {files.folder}: EXIF orientation of {turned} not applied, as in torchvision")


class Turned:
    """Counts EXIF orientations of streamed splits while they are read, and prints the counts on exit."""

    def __init__(self) -> None:
        self._found: list[tuple[Images, set[str]]] = []

    def noting(self, split: Images) -> Images:
        """The same split, with its orientations counted; splits in memory were reported when read."""
        if split.in_memory:
            return split
        self._found.append((split, set()))
        return replace(split, on_turned=self._found[-1][1].add)

    def __enter__(self) -> "Turned":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            tell_of_turned(*(replace(split, turned=len(paths)) for split, paths in self._found))


def readable_size(files: Images) -> tuple[int, int]:
    """Height and width of the first readable image. Raises ValueError if there is none."""
    for i in range(len(files)):
        with suppress(ValueError):
            return files.part([i]).size_in_file()
    raise none_readable(with_reasons(files.paths), files)


def common_size(train: Images, test: Images) -> tuple[int, int]:
    """Height and width of all images. Raises ValueError where the splits' differ."""
    own, other = train.size, test.size
    if own != other:
        raise ValueError(
            f"train images are {spell_size(own)} and test images {spell_size(other)}; resize all "
            "with --image-size"
        )
    return own


def measured_normalisation(train: Images, batch_size: int) -> Normalisation:
    """Mean and deviation over all processes' shares of the train images; all processes must call it."""
    counts = torch.zeros(3, 256, dtype=torch.int64)
    with progress("mean and deviation of train", len(train), "images") as set_done:
        done = 0
        for images, _ in train.decoded(batch_size):
            counts += level_counts(images).cpu()
            set_done(done := done + len(images))
    everywhere = gather_rows(counts[None])
    assert everywhere is not None
    return Normalisation.of_levels(everywhere.sum(dim=0))


def fingerprint(*splits: Images) -> str:
    """The first 16 hexadecimal digits of the SHA-256 sum over classes, labels and images.

    Images in memory contribute their pixels, others the relative path and size of their file.
    """
    digest = hashlib.sha256()
    for split in splits:
        digest.update(json.dumps(split.classes).encode())
        digest.update(split.labels.cpu().numpy().astype("<i8").tobytes())
        if split.in_memory:
            digest.update(json.dumps(split.pixels.shape).encode())
            digest.update(split.pixels.cpu().contiguous().numpy().data)
        else:
            for path in map(Path, split.paths):
                name = path.relative_to(split.folder).as_posix()
                digest.update(json.dumps([name, path.stat().st_size]).encode())
    return digest.hexdigest()[:16]
