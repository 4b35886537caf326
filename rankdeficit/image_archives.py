"""Archives of CIFAR and SVHN, which torchvision reads and downloads.

torchvision compares every file with its published MD5 sum before unpickling it.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from typing import Literal

import numpy as np
import torch
from filelock import FileLock
from torchvision.datasets import CIFAR10, SVHN

from rankdeficit.images import Images


@dataclass(frozen=True)
class Archive:
    """A published archive: its URL, its files, and a function that reads one split.

    `read` takes the folder, the split, and whether missing files may be downloaded.
    """

    url: str
    files: list[str]
    read: Callable[[Path, Literal["train", "test"], bool], Images]

    def locate(self, folders: list[Path]) -> Path | None:
        """The first folder that holds all files; None if there is none."""
        complete = (f for f in folders if all((f / file).is_file() for file in self.files))
        return next(complete, None)


def cifar(kind: type[CIFAR10]) -> Archive:
    """CIFAR-10 or CIFAR-100 (Krizhevsky, 2009) in its Python version."""

    def read(folder: Path, split: Literal["train", "test"], download: bool) -> Images:
        with warnings.catch_warnings():  # NumPy dislikes the old pickles
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            found = kind(folder, train=split == "train", download=download)
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        return Images(torch.tensor(found.targets), list(found.classes), images)

    parts = [name for name, _ in (*kind.train_list, *kind.test_list)]
    files = [f"{kind.base_folder}/{name}" for name in (*parts, kind.meta["filename"])]
    return Archive(kind.url, files, read)


def svhn() -> Archive:
    """The cropped digits of Street View House Numbers (Netzer et al., 2011), without the extra set."""

    def read(folder: Path, split: Literal["train", "test"], download: bool) -> Images:
        found = SVHN(folder, split=split, download=download)
        images = torch.from_numpy(np.ascontiguousarray(found.data))
        return Images(torch.from_numpy(found.labels), [str(digit) for digit in range(10)], images)

    url, file, _ = SVHN.split_list["train"]
    return Archive(url.removesuffix(file), [file, SVHN.split_list["test"][1]], read)


def read_archive(
    archive: Archive, name: str, folder: Path, download: bool
) -> tuple[Images, Images]:
    """The train and test images. Raises ValueError for damaged files and failed downloads."""
    if not download:
        try:
            return archive.read(folder, "train", False), archive.read(folder, "test", False)
        except RuntimeError as error:
            raise ValueError(
                f"{name} in {folder} is damaged: its files do not match their published MD5 sums; delete "
                f"them and fetch them again from {archive.url}, or with --download"
            ) from error
    try:
        with download_lock(folder):
            return archive.read(folder, "train", True), archive.read(folder, "test", True)
    except (OSError, HTTPException, RuntimeError, TarError, EOFError) as error:
        raise ValueError(
            f"{name} cannot be downloaded to {folder} ({error}); fetch {archive.url} by other means and "
            "put its content there"
        ) from error


@contextmanager
def download_lock(folder: Path) -> Iterator[None]:
    """Lets one process at a time download to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "download.lock"):
        yield
