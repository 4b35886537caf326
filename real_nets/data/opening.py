"""Opening a data set by name: locating, reading, resizing and subsampling its images."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rankdeficit.experiments.image_splits import OnCorrupt, measured_normalisation, read_splits
from rankdeficit.image_files import square
from rankdeficit.images import MEASURED_BATCH, Normalisation, held_out_folder, list_splits
from real_nets.data import catalogue
from real_nets.data.catalogue import CATALOGUE, Definition, Load, Request, definition_of, folder
from real_nets.data.images import Dataset


def find(name: str, root: Path | None, download: bool) -> Load:
    """The reader of the image folder ROOT/NAME if it exists, else of the defined data set of that name.

    Raises ValueError for missing data, with the way to get them.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(
            f"data set {name!r} must be a name, not a path; give the name of a folder within ROOT"
        )
    as_folder = Request(name, None, root, download)
    definition = None if is_folder(name, root) else definition_of(name)
    if definition is None:
        return folder(as_folder)
    return definition.find(replace(as_folder, number=_number(name, definition)))


def is_folder(name: str, root: Path | None) -> bool:
    """Whether there is an image folder ROOT/NAME, which replaces the defined data set of that name."""
    own = root and root / name
    return own is not None and (own / "train").is_dir() and held_out_folder(own) is not None


def is_archive(name: str, root: Path | None) -> bool:
    """Whether the data set is read from an archive, which may be downloaded."""
    own = definition_of(name)
    return own is not None and own.downloadable and not is_folder(name, root)


def _number(name: str, definition: Definition) -> int | None:
    """The number after the colon of a name. Raises ValueError if it is malformed or not allowed."""
    _, colon, number = name.partition(":")
    if not colon:
        return None
    if not definition.numbered:
        numbered = ", ".join(each.name for each in CATALOGUE.values() if each.numbered)
        raise ValueError(f"data set {name!r} must have no number; only {numbered} may have one")
    if not (number.isdecimal() and int(number)):
        raise ValueError(
            f"data set {name!r} must have a number of images per class after the colon"
        )
    return int(number)


def why_missing(name: str, root: Path | None, download: bool) -> str | None:
    """The reason why a data set cannot be opened, with the remedy; None if it can.

    Data that may be downloaded count as available. Nothing is decoded or downloaded here.
    """
    try:
        find(name, root, download)
    except ValueError as error:
        return str(error)
    return None


def check_folder(path: Path) -> None:
    """Raise ValueError for a folder without images whose name is that of a synthetic data set.

    Otherwise the synthetic data set would be opened in place of the folder.
    """
    if why_missing(path.name, None, download=False) is not None:
        return
    try:
        list_splits(path)
    except ValueError as error:
        raise ValueError(
            f"{error}; for the synthetic set, take --data {path.name} where no folder has this name"
        ) from error


def open_dataset(
    name: str,
    root: Path | None,
    *,
    image_size: int | None = None,
    crop: float | None = None,
    per_class: int | None = None,
    test_per_class: int | None = None,
    download: bool = False,
    on_corrupt: OnCorrupt = "stop",
    in_memory: bool | None = None,
) -> Dataset:
    """Open the image folder ROOT/NAME/{train,test}/CLASS/* (or val for test), or a defined data set.

    image_size: side in pixels to which all images are resized; without it all must have one size.
    crop: fraction of the largest centred square to resize, instead of squeezing the whole image.
    Both are as in `Framing`: equal images get equal pixels from a folder and from an archive.
    per_class, test_per_class: number of train and test images kept of each class, the first ones.
    on_corrupt: whether unreadable images of a folder raise an error or are left out.
    in_memory: whether images of a folder are decoded now [default: if they fit in IN_MEMORY bytes].
    A collective call: all processes of the group must make it.

    Raises ValueError for missing, unreadable or unequally sized images, and failed downloads.
    """
    framing = square(image_size, crop)
    train, test = (
        images if count is None else images.first_of_each_class(count)
        for images, count in zip(
            find(name, root, download)(), (per_class, test_per_class), strict=True
        )
    )
    if train.in_memory:
        train, test = (
            replace(images, memory=framing.of_pixels(images.pixels)) for images in (train, test)
        )
        return Dataset(name, train, test)
    listed = [replace(images, framing=framing) for images in (train, test)]
    return Dataset(name, *read_splits(listed[0], listed[1], in_memory, on_corrupt))


@dataclass(frozen=True)
class Selection:
    """A data set with the framing and number of its images; for the fields see `open_dataset`."""

    name: str
    image_size: int | None = None
    crop: float | None = None
    per_class: int | None = None
    test_per_class: int | None = None


@dataclass(frozen=True)
class DataSource:
    """Source of data sets: their root folder and how they are read. Opened data sets are cached."""

    root: Path | None = None
    download: bool = False
    on_corrupt: OnCorrupt = "stop"
    workers: int = 4
    """Number of processes that decode images of data sets too large for memory."""
    opened: dict[Selection, Dataset] = field(default_factory=dict, repr=False)
    normalisations: dict[Selection, Normalisation] = field(default_factory=dict, repr=False)

    def open(self, selected: Selection) -> Dataset:
        """The selected data set, opened once. Raises ValueError as `open_dataset`."""
        if selected not in self.opened:
            self.opened[selected] = open_dataset(
                root=self.root,
                download=self.download,
                on_corrupt=self.on_corrupt,
                **asdict(selected),
            )
        return self.opened[selected]

    def normalisation(self, selected: Selection) -> Normalisation:
        """Normalisation by mean and standard deviation of the selected train images, measured once."""
        if selected not in self.normalisations:
            train = self.open(selected).train
            self.normalisations[selected] = (
                Normalisation.of(train.pixels)
                if train.in_memory
                else measured_normalisation(train.share(), MEASURED_BATCH)
            )
        return self.normalisations[selected]

    def __getstate__(self) -> dict[str, object]:
        """Leave out images, which another process opens itself; include definitions that it may lack."""
        added = {k: v for k, v in CATALOGUE.items() if v.find.__module__ != catalogue.__name__}
        return self.__dict__ | {"opened": {}, "normalisations": {}, "added": added}

    def __setstate__(self, state: dict[str, object]) -> None:
        added = state.pop("added")
        assert isinstance(added, dict)
        CATALOGUE.update(added)
        self.__dict__.update(state)
