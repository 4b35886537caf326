"""Images of a folder, all of them seen to be readable before any is used."""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rankdeficit.distributed import gather_rows, is_first, rank_and_size
from rankdeficit.experiments.cli import progress
from rankdeficit.images import (
    NAMED,
    ImageFiles,
    ImageSet,
    check_readable,
    read_image,
    spell_size,
    spell_some,
)
from real_nets.data import folders

Images = ImageSet | ImageFiles
OnCorrupt = Literal["stop", "skip"]


def read_splits(
    train: ImageFiles, test: ImageFiles, in_memory: bool | None, on_corrupt: OnCorrupt
) -> tuple[Images, Images, int]:
    """Train and test images, decoded or as files of a known size, and how many were left out.

    in_memory: decode now, or only look [default: decode what takes no more than IN_MEMORY bytes].
    on_corrupt: stop at images that cannot be read, or leave them out. Several processes must all
    call this. Raises ValueError naming unreadable images, a class of which no train image is left, or
    sizes that differ.
    """
    total = len(train) + len(test)
    if in_memory is None:
        height, width = train.framing.size or readable_size(train)
        in_memory = total * 3 * height * width <= folders.IN_MEMORY
    read = load_images if in_memory else sieve_images
    (train_images, lost), (test_images, also_lost) = read(train), read(test)
    for files, unreadable in ((train, lost), (test, also_lost)):
        if len(unreadable) == len(files):
            raise none_readable(unreadable, files)
    if on_corrupt != "skip":
        refuse(lost + also_lost, total)
    check_classes(train_images.labels, train)
    tell_skipped(lost + also_lost, total, train.folder.parent)
    size = common_size(train_images, test_images)
    return framed(train_images, size), framed(test_images, size), len(lost + also_lost)


def load_images(files: ImageFiles) -> tuple[Images, list[str]]:
    """The images that can be read, decoded, and the paths of the others."""
    with progress(f"reading {files.folder.name}", len(files)) as set_done:
        return files.load_readable(set_done)


def sieve_images(files: ImageFiles) -> tuple[Images, list[str]]:
    """The files that can be decoded, and the paths of the others, the first ones with the reason."""
    unreadable = check_images(files)
    lost = set(unreadable)
    kept = files.part([i for i, p in enumerate(files.paths) if p not in lost])
    return kept, with_reasons(unreadable)


def check_images(files: ImageFiles) -> list[str]:
    """Paths of the images that cannot be read; all are decoded to see.

    Several processes share the work, and all must call this. Raises ValueError where sizes differ
    and the files' framing does not make them equal.
    """
    process, processes = rank_and_size()
    mine = range(process, len(files), processes)
    with progress(f"checking {files.folder.name}", len(mine)) as set_done:
        unreadable = files.part(mine).unreadable(set_done)
    found = gather_rows(torch.tensor([mine[i] for i in unreadable], dtype=torch.int64))
    assert found is not None
    return [files.paths[i] for i in found.sort().values.tolist()]


def with_reasons(unreadable: list[str]) -> list[str]:
    """How to speak of files that cannot be read: the first NAMED with the reason, where it is known."""
    named = [found for path in unreadable[:NAMED] if isinstance(found := read_image(path), str)]
    return [*named, *unreadable[len(named) :]]


def none_readable(unreadable: list[str], files: ImageFiles) -> ValueError:
    """What is wrong with files none of which can be read."""
    return ValueError(
        f"data {files.folder}: none of its {len(files)} images can be read "
        f"({spell_some(unreadable)}); replace them, or name another folder"
    )


def refuse(unreadable: list[str], total: int) -> None:
    """Raise ValueError if any of so many images are unreadable, and tell how to go on without them."""
    try:
        check_readable(unreadable, total)
    except ValueError as error:
        raise ValueError(f"{error}, or leave them out with --on-corrupt skip") from None


def check_classes(labels: Tensor, files: ImageFiles) -> None:
    """Raise ValueError if a class of the files has no image among those that were read."""
    counts = torch.bincount(labels, minlength=len(files.classes)).tolist()
    empty = [name for name, count in zip(files.classes, counts, strict=True) if not count]
    if empty:
        raise ValueError(
            f"data {files.folder}: no image can be read of {len(empty)} of {len(files.classes)} classes "
            f"({spell_some(empty)}); replace their images, or delete their folders from all splits"
        )


def tell_skipped(unreadable: list[str], total: int, folder: Path) -> None:
    """Tell, in the first process, how many images are left out."""
    if unreadable and is_first():
        said = f"data {folder}: {len(unreadable)} of {total} images cannot be read and are left out"
        print(f"{said} ({spell_some(unreadable)})", file=sys.stderr, flush=True)


def readable_size(files: ImageFiles) -> tuple[int, int]:
    """Height and width of the first image that can be read. Raises ValueError if there is none."""
    for i in range(len(files)):
        with suppress(ValueError):
            return files.part([i]).first_size()
    raise none_readable(with_reasons(files.paths), files)


def size_of(images: Images) -> tuple[int, int]:
    """Height and width of images that have one size."""
    if isinstance(images, ImageSet):
        return images.images.shape[2], images.images.shape[3]
    return images.framing.size or images.first_size()


def common_size(train: Images, test: Images) -> tuple[int, int]:
    """Height and width of all images. Raises ValueError where the splits' differ."""
    own, other = size_of(train), size_of(test)
    if own != other:
        raise ValueError(
            f"train images are {spell_size(own)} and test images {spell_size(other)}; resize all "
            "with --image-size"
        )
    return own


def framed(images: Images, size: tuple[int, int]) -> Images:
    """The same images; files know their size from now on."""
    if isinstance(images, ImageSet):
        return images
    return replace(images, framing=replace(images.framing, size=size))
