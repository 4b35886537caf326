"""Catalogue of data sets by name.

A data set is one function under `@dataset(...)`, in any module, also outside this package (the README has
an example). It checks that the data are available, raises ValueError with the way to get them if not, and
returns their reader. Folders of images need no definition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec

from torchvision.datasets import CIFAR10, CIFAR100

from rankdeficit import image_archives as archives
from rankdeficit.glyphs import LETTERS, OTHER_FONTS, OTHER_LETTERS, Typeface
from rankdeficit.glyphs import glyphs as draw_glyphs
from rankdeficit.image_archives import Archive, read_archive
from rankdeficit.images import Images, list_splits

GLYPHS_PER_CLASS = 100
"""Default number of train images of each letter; there are a fifth as many test images."""
LEAST_TEST_GLYPHS = 5
"""Minimum number of test images of each letter."""
GLYPH_SEED = 0


@dataclass(frozen=True)
class Request:
    """Argument of a data set's function."""

    name: str
    number: int | None
    """Train images per class from the name, 50 for glyphs:50; None where the name has no number."""
    root: Path | None
    """Folder that holds all data sets."""
    download: bool
    """Whether missing files may be downloaded."""


Load = Callable[[], tuple[Images, Images]]
"""Reads train and test images, as pixels in memory or as files not decoded yet."""
Find = Callable[[Request], Load]
P = ParamSpec("P")


@dataclass(frozen=True)
class Definition:
    """Properties of a data set."""

    find: Find
    name: str
    about: str
    """Description for the help of commands."""
    paper_name: str | None = None
    """Name in the paper, if the paper trains networks on it."""
    pixels: int | None = None
    """Side of the images in pixels; of photographs, the usual side of the network's input."""
    classes: int | None = None
    images: tuple[int, int] | None = None
    """Numbers of train and test images, if the publication fixes them."""
    crop: float | None = None
    """Usual fraction of the largest centred square that is cropped; None if all images have one size."""
    ood: tuple[str, ...] = ("cifar100",)
    """OOD sets of networks trained on it: generalisation is measured on the first, detection on all."""
    synthetic: bool = False
    """Whether the images are drawn by a program."""
    downloadable: bool = False
    """Whether it is read from an archive, which may be downloaded."""
    numbered: bool = False
    """Whether NAME:N stands for N train images per class."""


CATALOGUE: dict[str, Definition] = {}
"""Definitions by name."""


def _decorator(
    define: Callable[Concatenate[Find, P], Definition],
) -> Callable[P, Callable[[Find], Find]]:
    def dataset(*arguments: P.args, **options: P.kwargs) -> Callable[[Find], Find]:
        def add(find: Find) -> Find:
            own = define(find, *arguments, **options)
            known = CATALOGUE.setdefault(own.name, own)
            if known.find.__qualname__ != find.__qualname__:
                raise ValueError(
                    f"data set {own.name!r} is defined twice; give the second another name"
                )
            CATALOGUE[own.name] = own
            return find

        return add

    return dataset


dataset = _decorator(Definition)
"""Decorator that adds a data set to the catalogue; its arguments are the fields of `Definition` after
`find`. Raises ValueError for a name that another function has taken.
"""


def definition_of(name: str) -> Definition | None:
    """The definition of a name such as cifar10 or glyphs:50; None for a folder of images."""
    return CATALOGUE.get(name.partition(":")[0])


def data_of_paper() -> dict[str, str]:
    """Names of the data sets that the paper trains on, by their names in the paper."""
    return {own.paper_name: own.name for own in CATALOGUE.values() if own.paper_name}


def listing() -> str:
    """Help text that lists the defined data sets."""
    lines = [f"{name}: {definition.about}" for name, definition in CATALOGUE.items()]
    return "\n\n".join(["Data sets by name, besides folders of images:", *lines])


@dataset(
    "glyphs", "drawn letters of three alphabets, 100 classes, with N train images of each in glyphs:N",
    pixels=32, classes=100, ood=("glyph-letters", "glyph-fonts"), synthetic=True, numbered=True,
)  # fmt: skip
def glyphs(request: Request) -> Load:
    """Letters of three alphabets."""
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
    """The letters of `glyphs` in another font."""
    return drawn(request, OTHER_FONTS)


@dataset(
    "cifar10", "CIFAR-10, from its archive", paper_name="CIFAR-10",
    pixels=32, classes=10, images=(50_000, 10_000), ood=("svhn", "cifar100"), downloadable=True,
)  # fmt: skip
def cifar10(request: Request) -> Load:
    """CIFAR-10 (Krizhevsky, 2009)."""
    return published(request, archives.cifar(CIFAR10))


@dataset(
    "cifar100", "CIFAR-100 with its fine classes, from its archive", paper_name="CIFAR-100",
    pixels=32, classes=100, images=(50_000, 10_000), ood=("svhn", "cifar10"), downloadable=True,
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
    pixels=32, classes=10, images=(73_257, 26_032), downloadable=True,
)  # fmt: skip
def svhn(request: Request) -> Load:
    """SVHN (Netzer et al., 2011), without its extra images."""
    return published(request, archives.svhn())


def drawn(request: Request, typeface: Typeface) -> Load:
    """The reader of drawn letters, `request.number` train images of each."""
    per_class = GLYPHS_PER_CLASS if request.number is None else request.number
    tested = max(LEAST_TEST_GLYPHS, per_class // 5)
    return lambda: (
        draw_glyphs("train", per_class, GLYPH_SEED, typeface),
        draw_glyphs("test", tested, GLYPH_SEED, typeface),
    )


def published(request: Request, archive: Archive) -> Load:
    """The reader of an archive unpacked in ROOT or ROOT/NAME, or downloaded to the latter."""
    name, root = request.name, request.root
    if root is None:
        raise ValueError(
            f"data set {name!r} needs the folder that holds it or receives its download; give --root"
        )
    place = archive.locate([root, root / name])
    if place is None and not request.download:
        raise ValueError(
            f"data set {name!r} is not in {root}, which lacks {archive.files[0]}; unpack {archive.url} "
            f"there, let it be downloaded with --download, or put images into {root / name}/train/CLASS "
            "and test/CLASS"
        )
    return lambda: read_archive(archive, name, place or root / name, request.download)


def folder(request: Request) -> Load:
    """The reader of the folder of images ROOT/NAME/{train,test}/CLASS/* (or val for test)."""
    if request.root is None:
        raise ValueError(
            f"data set {request.name!r} needs a folder of images; name one that exists, or give the "
            f"folder that holds it with --root, or take one of {', '.join(CATALOGUE)}"
        )
    found = list_splits(request.root / request.name)
    return lambda: found
