"""Data sets for training, and folders of images for a diagnosis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from rankdeficit.experiments.image_splits import (
    fingerprint,
    fits_in_memory,
    load_all,
    tell_of_files,
)
from rankdeficit.image_files import Framing, spell_size
from rankdeficit.images import Images, held_out_folder, list_splits

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation per channel with which ImageNet networks are usually trained."""


class Card(TypedDict):
    """Identity of a data set: equal cards mean equal data."""

    name: str
    train_images: int
    test_images: int
    classes: int
    image_size: list[int]
    skipped: int
    """Number of unreadable images, which were left out."""
    fingerprint: str


@dataclass(frozen=True)
class Dataset:
    """Train and test images of the same classes, all of one size."""

    name: str
    train: Images
    test: Images
    skipped: int = 0
    """Number of unreadable images, which were left out."""

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.train.classes

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of all images."""
        return self.train.size

    def card(self) -> "Card":
        """Record that identifies the data, without paths."""
        return {
            "name": self.name,
            "train_images": len(self.train),
            "test_images": len(self.test),
            "classes": len(self.classes),
            "image_size": list(self.size),
            "skipped": self.skipped,
            "fingerprint": fingerprint(self.train, self.test),
        }


@dataclass(frozen=True)
class Folders:
    """The images of a diagnosis: ID data, and OOD sets by name, which may lack train images."""

    train: Images
    test: Images
    ood: dict[str, tuple[Images | None, Images]]
    size: tuple[int, int]
    """Height and width of all images."""
    resized: dict[str, tuple[int, int]]
    """OOD sets that were resized: height and width of their first image in its file."""

    @classmethod
    def of(
        cls, own: tuple[Images, Images], ood: Sequence[Path], framing: Framing, with_ood_train: bool
    ) -> "Folders":
        """List the OOD folders; their images are resized to the size of the ID train images.

        Raises ValueError for missing or empty folders, and for two OOD folders of the same name.
        """
        train, test = own
        size = train.size
        others: dict[str, tuple[Images | None, Images]] = {}
        resized = {}
        for folder in map(Path.resolve, ood):
            name = folder.name
            if name in others:
                raise ValueError(f"ood has two folders called {name}; rename one")
            if name in ("train", "test", "val"):
                raise ValueError(f"ood {folder} is one split; name the folder {folder.parent}")
            own_train, own_test = _ood_splits(folder, replace(framing, size=size))
            if own_test.size_in_file() != size:
                resized[name] = own_test.size_in_file()
            fitted = None
            if own_train is not None and with_ood_train:
                fitted = replace(own_train, name=f"{name} train")
            others[name] = fitted, replace(own_test, name=name)
        named = replace(train, name="train"), replace(test, name="test")
        return cls(*named, others, size, resized)

    @property
    def splits(self) -> list[Images]:
        """All splits."""
        pairs = [split for pair in self.ood.values() for split in pair if split is not None]
        return [self.train, self.test, *pairs]

    def notes(self, classes: int, probed: bool) -> list[str]:
        """Notes on the order of classes, and on OOD sets that were resized or get no probes.

        classes: number of the network's. probed: whether probes of OOD sets are measured.
        """
        names = self.train.classes
        notes = [
            f"the {len(names)} class folders taken, in alphabetical order ({', '.join(names[:3])}, ...), "
            f"to be classes 0 to {len(names) - 1} of the network's {classes}"
        ]
        for name, size in self.resized.items():
            before, after = spell_size(size), spell_size(self.size)
            notes.append(f"{name} resized from {before} (its first image) to {after}")
        without = [name for name, (train, _) in self.ood.items() if train is None]
        return notes + [
            f"no probes of {name}: it has no train folder" for name in without if probed
        ]

    def map(self, change: Callable[[Images], Images]) -> "Folders":
        """Apply a function to every split."""
        return replace(
            self,
            train=change(self.train),
            test=change(self.test),
            ood={
                name: (None if fitted is None else change(fitted), change(test))
                for name, (fitted, test) in self.ood.items()
            },
        )

    def share(self, limit: int, seed: int) -> "Folders":
        """The shard of this process of at most `limit` images of every split, chosen by the seed."""
        return self.map(lambda split: split.some(limit, seed, sort=True).share())

    def fits_in_memory(self) -> bool:
        """Whether the decoded images take no more than IN_MEMORY bytes."""
        return fits_in_memory(sum(map(len, self.splits)), self.size)

    def load(self, streamed: bool = False) -> "Folders":
        """Decode all images unless streamed. Raises ValueError naming the first unreadable one."""
        if streamed:
            tell_of_files(*self.splits)
            return self
        return self.map(load_all)


def _ood_splits(folder: Path, framing: Framing) -> tuple[Images | None, Images]:
    """Train split (if any) and test split; FOLDER/test, or FOLDER without it, may lack classes."""
    held_out = held_out_folder(folder)
    if not folder.is_dir():
        raise ValueError(f"ood {folder} does not exist; name a folder of images")
    if (folder / "train").is_dir():
        return list_splits(folder, framing, least_classes=1, option="ood")
    return None, Images.of_folder(held_out or folder, framing, "ood", unlabelled=True)
