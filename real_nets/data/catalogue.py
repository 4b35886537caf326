"""Data sets by name: one definition holds all that is known of each.

A data set is one function under `@dataset(...)`, in any module, also outside this package:

    @dataset("stripes", "ten classes of stripes", pixels=32, classes=10)
    def stripes(request: Request) -> Load:
        return lambda: (draw_stripes(5000, seed=0), draw_stripes(1000, seed=1))

The function checks that the data are there and raises ValueError telling how to get them; what it returns
reads them. Folders of images need no definition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets import CIFAR10, CIFAR100

from rankdeficit.glyphs import LETTERS, OTHER_FONTS, OTHER_LETTERS, Typeface
from rankdeficit.glyphs import glyphs as draw_glyphs
from rankdeficit.images import Images, list_splits
from real_nets.data import archives
from real_nets.data.archives import Archive, read_archive

GLYPHS_PER_CLASS = 100
"""Train images of each letter, unless the name says otherwise; a fifth as many are for testing."""
LEAST_TESTED = 5
GLYPH_SEED = 0


@dataclass(frozen=True)
class Request:
    """Arguments of a data set's function."""

    name: str
    number: int | None
    """Train images per class, where the name ends with a colon and a number."""
    root: Path | None
    """Folder of all data sets."""
    download: bool
    """Whether missing files may be downloaded."""


Load = Callable[[], tuple[Images, Images]]
"""Reads train and test images: pixels in memory, or files that are not decoded yet."""
Find = Callable[[Request], Load]


@dataclass(frozen=True)
class Definition:
    """A data set that is known by name."""

    name: str
    about: str
    """Half a sentence for the help of commands."""
    find: Find
    paper_name: str | None = None
    """The paper's name of the data set, where the paper trains on it."""
    pixels: int | None = None
    """Height and width of its images, or those that networks usually see of photographs."""
    classes: int | None = None
    images: tuple[int, int] | None = None
    """Numbers of train and test images, where they are fixed by the publication."""
    crop: float | None = None
    """Share of the largest centred square that networks usually see; None for images of one size."""
    ood: tuple[str, ...] = ("cifar100",)
    """OOD sets of networks trained on it. Generalisation is measured on the first, detection on all."""
    synthetic: bool = False
    """Whether images are drawn by a program, not photographed."""
    numbered: bool = False
    """Whether NAME:N is the same data set with N train images per class."""


CATALOGUE: dict[str, Definition] = {}
"""All definitions by name."""


def dataset(
    name: str,
    about: str,
    *,
    paper_name: str | None = None,
    pixels: int | None = None,
    classes: int | None = None,
    images: tuple[int, int] | None = None,
    crop: float | None = None,
    ood: tuple[str, ...] = Definition.ood,
    synthetic: bool = False,
    numbered: bool = False,
) -> Callable[[Find], Find]:
    """Decorator that adds a data set to the catalogue; for the arguments see `Definition`.

    Raises ValueError for a name that another function has taken.
    """

    def add(find: Find) -> Find:
        known = CATALOGUE.get(name)
        if known is not None and known.find.__qualname__ != find.__qualname__:
            raise ValueError(f"data set {name!r} is defined twice; give the second another name")
        CATALOGUE[name] = Definition(
            name, about, find, paper_name, pixels, classes, images, crop, ood, synthetic, numbered
        )
        return find

    return add


def known(name: str) -> Definition | None:
    """The definition of a name such as cifar10 or glyphs:50, None for a folder of images."""
    return CATALOGUE.get(name.partition(":")[0])


def listing() -> str:
    """All data sets that have a definition, for the help of commands."""
    lines = [f"{name}: {definition.about}" for name, definition in CATALOGUE.items()]
    return "\n\n".join(["Data sets, besides folders of images:", *lines])


@dataset(
    "glyphs", "drawn letters of three alphabets, 100 classes, with N train images of each in glyphs:N",
    pixels=32, classes=100, ood=("glyph-letters", "glyph-fonts"), synthetic=True, numbered=True,
)  # fmt: skip
def glyphs(request: Request) -> Load:
    """Letters to learn."""
    return drawn(request, LETTERS)


@dataset(
    "glyph-letters", "drawn letters of other alphabets, as OOD set of glyphs",
    pixels=32, classes=35, ood=("glyphs", "glyph-fonts"), synthetic=True, numbered=True,
)  # fmt: skip
def glyph_letters(request: Request) -> Load:
    """Letters of other alphabets."""
    return drawn(request, OTHER_LETTERS)


@dataset(
    "glyph-fonts", "the letters of glyphs in another font, as OOD set of glyphs",
    pixels=32, classes=100, ood=("glyph-letters", "glyphs"), synthetic=True, numbered=True,
)  # fmt: skip
def glyph_fonts(request: Request) -> Load:
    """The letters to learn in another font."""
    return drawn(request, OTHER_FONTS)


@dataset(
    "cifar10", "CIFAR-10, from its archive", paper_name="CIFAR-10",
    pixels=32, classes=10, images=(50_000, 10_000), ood=("svhn", "cifar100"),
)  # fmt: skip
def cifar10(request: Request) -> Load:
    """CIFAR-10 (Krizhevsky, 2009)."""
    return published(request, archives.cifar(CIFAR10))


@dataset(
    "cifar100", "CIFAR-100 with its fine classes, from its archive", paper_name="CIFAR-100",
    pixels=32, classes=100, images=(50_000, 10_000), ood=("svhn", "cifar10"),
)  # fmt: skip
def cifar100(request: Request) -> Load:
    """CIFAR-100 (Krizhevsky, 2009)."""
    return published(request, archives.cifar(CIFAR100))


@dataset(
    "imagenet100", "a hundred classes of ImageNet, chosen by whoever makes the folder of images",
    paper_name="ImageNet-100", pixels=224, classes=100, crop=0.875,
)  # fmt: skip
def imagenet100(request: Request) -> Load:
    """A hundred classes of ImageNet."""
    return folder(request)


@dataset(
    "imagenet", "ImageNet-1k, a folder of images", paper_name="ImageNet-1k",
    pixels=224, classes=1000, images=(1_281_167, 50_000), crop=0.875,
)  # fmt: skip
def imagenet(request: Request) -> Load:
    """ImageNet-1k (Deng et al., 2009)."""
    return folder(request)


@dataset(
    "svhn", "Street View House Numbers, cropped digits, from its archive",
    pixels=32, classes=10, images=(73_257, 26_032),
)  # fmt: skip
def svhn(request: Request) -> Load:
    """SVHN (Netzer et al., 2011), without its extra images."""
    return published(request, archives.svhn())


def drawn(request: Request, typeface: Typeface) -> Load:
    """Letters, `request.number` train images of each."""
    per_class = GLYPHS_PER_CLASS if request.number is None else request.number
    tested = max(LEAST_TESTED, per_class // 5)
    return lambda: (
        draw_glyphs("train", per_class, GLYPH_SEED, typeface),
        draw_glyphs("test", tested, GLYPH_SEED, typeface),
    )


def published(request: Request, archive: Archive) -> Load:
    """An archive unpacked in ROOT or ROOT/NAME, or one to be downloaded to the latter."""
    name, root = request.name, request.root
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


def folder(request: Request) -> Load:
    """The folder of images ROOT/NAME/{train,test}/CLASS/* (or val for test)."""
    if request.root is None:
        raise ValueError(
            f"data set {request.name!r} needs a folder of images; name one that exists, or the folder "
            f"that it is in with --root, or take one of {', '.join(CATALOGUE)}"
        )
    found = list_splits(request.root / request.name)
    return lambda: found
