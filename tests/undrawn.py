"""Figures that are made but not rendered, since rendering takes most of a short run."""

import hashlib
from collections.abc import Iterator
from typing import IO, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image


def save_digest(figure: Figure, file: IO[bytes], **options: Any) -> None:
    """In place of `Figure.savefig`: an image whose content depends on what the panels show."""
    found = hashlib.sha256(repr([_shown(axes) for axes in figure.axes]).encode())
    if options["format"] == "svg":
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" id="{found.hexdigest()}"/>'.encode())
    else:
        Image.frombytes("L", (8, 4), found.digest()).save(file, options["format"])


def needs_latex(figure: Figure) -> bool:
    """Whether any text of a figure was made to be set by LaTeX."""
    return any(text.get_usetex() for text in figure.findobj(Text))  # type: ignore[attr-defined]


def _shown(axes: Axes) -> list[Any]:
    return [
        *(
            axes.get_title(),
            axes.get_xlabel(),
            axes.get_ylabel(),
            axes.get_xscale(),
            axes.get_yscale(),
        ),
        *([line.get_label(), line.get_color(), line.get_xydata().tobytes()] for line in axes.lines),
        *([text.get_text(), text.get_position()] for text in axes.texts),
        *(list(_vertices(collection)) for collection in axes.collections),
        *(patch.get_path().vertices.tobytes() for patch in axes.patches),
        *(image.get_array().tobytes() for image in axes.images),
    ]


def _vertices(collection: Any) -> Iterator[bytes]:
    yield collection.get_offsets().tobytes()
    for path in collection.get_paths():
        yield path.vertices.tobytes()
