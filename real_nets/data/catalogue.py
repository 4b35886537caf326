"""Data sets by name: folders of images, published archives, and letters drawn on the spot."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torchvision.datasets import CIFAR10, CIFAR100

from rankdeficit.image_files import square
from rankdeficit.images import MEASURED_BATCH, Images, Normalisation, held_out_folder, list_splits
from real_nets.data import archives
from real_nets.data.archives import Archive, read_archive
from real_nets.data.glyphs import LETTERS, OTHER_FONTS, OTHER_LETTERS, Typeface
from real_nets.data.glyphs import glyphs as draw_glyphs
from real_nets.data.images import (
    Dataset,
    OnCorrupt,
    measured_normalisation,
    read_splits,
)

GLYPHS_PER_CLASS = 100
"""Train images of each letter, unless the name says otherwise; a fifth as many are for testing."""
LEAST_TESTED = 5
GLYPH_SEED = 0


@dataclass(frozen=True)
class Request:
    """What is asked of a data set that is no folder of images."""

    name: str
    number: str | None
    """What follows a colon in the name."""
    root: Path | None
    download: bool


Framed = tuple[str, int | None, float | None]
"""Name of a data set, size of its images, share of them that is kept."""

Load = Callable[[], tuple[Images, Images]]
Definition = Callable[[Request], Load]

DEFINITIONS: dict[str, Definition] = {}
"""Data sets that are no folders of images, by name."""


def dataset(definition: Definition) -> Definition:
    """Register a data set under its function's name, with hyphens for underscores.

    The function looks whether the data are there and raises ValueError that says how to get them;
    what it returns reads them.
    """
    DEFINITIONS[definition.__name__.replace("_", "-")] = definition
    return definition


@dataset
def glyphs(request: Request) -> Load:
    """A hundred letters."""
    return drawn(request, LETTERS)


@dataset
def glyph_letters(request: Request) -> Load:
    """Letters of other alphabets."""
    return drawn(request, OTHER_LETTERS)


@dataset
def glyph_fonts(request: Request) -> Load:
    """The hundred letters in another font."""
    return drawn(request, OTHER_FONTS)


@dataset
def cifar10(request: Request) -> Load:
    """CIFAR-10."""
    return published(request, archives.cifar(CIFAR10))


@dataset
def cifar100(request: Request) -> Load:
    """CIFAR-100 with its fine classes."""
    return published(request, archives.cifar(CIFAR100))


@dataset
def svhn(request: Request) -> Load:
    """Street View House Numbers, cropped digits."""
    return published(request, archives.svhn())


def drawn(request: Request, typeface: Typeface) -> Load:
    """Letters, as many train images of each as the name says after a colon."""
    per_class = GLYPHS_PER_CLASS
    if request.number is not None:
        if not (request.number.isdecimal() and int(request.number)):
            raise ValueError(
                f"data set {request.name!r} must have a number of images per class after the colon"
            )
        per_class = int(request.number)
    tested = max(LEAST_TESTED, per_class // 5)
    return lambda: (
        draw_glyphs("train", per_class, GLYPH_SEED, typeface),
        draw_glyphs("test", tested, GLYPH_SEED, typeface),
    )


def published(request: Request, archive: Archive) -> Load:
    """An archive unpacked in ROOT or ROOT/NAME, or one to be downloaded to the latter."""
    name, root = request.name, request.root
    if request.number is not None:
        raise ValueError(f"data set {name!r} must have no number; only glyphs do")
    if root is None:
        raise ValueError(
            f"data set {name!r} needs a folder that it is in, or is downloaded to; name it with --root"
        )
    place = archive.place([root, root / name])
    if place is None and not request.download:
        raise ValueError(
            f"data set {name!r} is not in {root}, which lacks {archive.files[0]}; unpack {archive.url} "
            f"there, let it be downloaded with --download, or put images into {root / name}/train/CLASS "
            "and test/CLASS"
        )
    return lambda: read_archive(archive, name, place or root / name, request.download)


def find(name: str, root: Path | None, download: bool) -> tuple[Images, Images] | Load:
    """The files of the image folder ROOT/NAME, or what reads a built-in data set.

    Raises ValueError that says how to get what is not there.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(
            f"data set {name!r} must be a name, not a path; name a folder within that of all data sets"
        )
    if root is not None and (root / name / "train").is_dir() and held_out_folder(root / name):
        return list_splits(root / name)
    base, colon, number = name.partition(":")
    if base in DEFINITIONS:
        return DEFINITIONS[base](Request(name, number if colon else None, root, download))
    if root is None:
        raise ValueError(
            f"data set {name!r} is none of {', '.join(DEFINITIONS)}; for a folder of images, name one "
            "that exists, or the folder that it is in with --root"
        )
    return list_splits(root / name)


def why_missing(name: str, root: Path | None, download: bool) -> str | None:
    """Why a data set cannot be opened and what to do, or None if it is there or may be downloaded.

    Nothing is decoded or downloaded.
    """
    try:
        find(name, root, download)
    except ValueError as error:
        return str(error)
    return None


def check_folder(folder: Path) -> None:
    """Raise ValueError for a folder without images that has the name of a set drawn on the spot.

    That set would be taken in its place.
    """
    if why_missing(folder.name, None, download=False) is not None:
        return
    try:
        list_splits(folder)
    except ValueError as error:
        raise ValueError(
            f"{error}; for the set that is drawn, take --data {folder.name} where no folder has this name"
        ) from error


def open_dataset(
    name: str,
    root: Path | None,
    *,
    image_size: int | None = None,
    crop: float | None = None,
    download: bool = False,
    on_corrupt: OnCorrupt = "stop",
    in_memory: bool | None = None,
) -> Dataset:
    """The image folder ROOT/NAME/{train,test}/CLASS/* (or val for test), or a built-in data set.

    image_size: resize all images to so many pixels squared; without it all must have one size.
    crop: resize this share of the largest centred square, instead of squeezing the whole image.
    Both are as `Framing` has it: equal images get equal pixels from a folder and from an archive.
    on_corrupt: unreadable images of a folder are an error, or left out. in_memory: images of a folder
    are decoded now, or only looked at [default: decoded if they take no more than IN_MEMORY bytes].
    In several processes all must call this.

    Raises ValueError that says what is missing, unreadable or uneven, or why a download failed.
    """
    framing = square(image_size, crop)
    found = find(name, root, download)
    if callable(found):
        train, test = (
            replace(images, memory=framing.of_pixels(images.pixels)) for images in found()
        )
        return Dataset(name, train, test)
    listed = [replace(files, framing=framing) for files in found]
    return Dataset(name, *read_splits(listed[0], listed[1], in_memory, on_corrupt))


@dataclass(frozen=True)
class DataSource:
    """Where data sets are opened from, and how. Each is opened once, and its mean measured once."""

    root: Path | None = None
    download: bool = False
    on_corrupt: OnCorrupt = "stop"
    workers: int = 4
    """Processes that decode images of sets too large for memory."""
    opened: dict[Framed, Dataset] = field(default_factory=dict, repr=False)
    normalisations: dict[Framed, Normalisation] = field(default_factory=dict, repr=False)

    def open(self, name: str, image_size: int | None = None, crop: float | None = None) -> Dataset:
        """The data set of that name. Raises ValueError as `open_dataset`."""
        if (name, image_size, crop) not in self.opened:
            self.opened[name, image_size, crop] = open_dataset(
                name,
                self.root,
                image_size=image_size,
                crop=crop,
                download=self.download,
                on_corrupt=self.on_corrupt,
            )
        return self.opened[name, image_size, crop]

    def normalisation(
        self, name: str, image_size: int | None = None, crop: float | None = None
    ) -> Normalisation:
        """By mean and deviation of all its train images."""
        if (name, image_size, crop) not in self.normalisations:
            train = self.open(name, image_size, crop).train
            self.normalisations[name, image_size, crop] = (
                Normalisation.of(train)
                if train.in_memory
                else measured_normalisation(train.share(), MEASURED_BATCH)
            )
        return self.normalisations[name, image_size, crop]

    def __getstate__(self) -> dict[str, object]:
        """Without the images: another process opens its own."""
        return self.__dict__ | {"opened": {}, "normalisations": {}}
