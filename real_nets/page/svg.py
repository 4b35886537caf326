"""Figures as SVG within an HTML page: names of their own, nothing from outside, drawn alike each time."""

import io
import re
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

LEFT_OUT = ("metadata", "style", "title")
"""Elements that would say when the figure was made, style the whole page, or name it twice."""
URL = re.compile(r"url\(\s*['\"]?(.*?)['\"]?\s*\)")
LONG_NUMBER = re.compile(r'(?<=[ "]-)(\d+\.\d\d)\d+|(?<=[ "])(\d+\.\d\d)\d+')
"""Hundredths of a point are enough; factors, which follow a bracket, keep their digits."""
POINTS = {"": 0.75, "px": 0.75, "pt": 1.0, "in": 72.0, "cm": 72 / 2.54, "mm": 72 / 25.4}
"""Points per unit of length."""


def inline_svg(figure: Figure | str, prefix: str, alt: str) -> Markup:
    """An `svg` element that scales with its box, as wide as drawn at most (--width, in CSS).

    figure: of matplotlib, or the text of an SVG file; its style elements are left out. prefix: starts
    every id, so that figures on one page do not refer to each other's parts. alt: what a reader hears
    who does not see it.
    Raises ValueError for text that is no SVG, has no size, or holds scripts or references to
    anything outside of it.
    """
    root = _parse(figure if isinstance(figure, str) else _drawn(figure))
    for parent in root.iter():
        for child in [c for c in parent if _local(c.tag) in LEFT_OUT]:
            parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(k): v for k, v in element.attrib.items()}
        _check_harmless(element)
    _rename_ids(root, prefix)
    width, height = _length(root, "width"), _length(root, "height")
    root.attrib.setdefault("viewBox", f"0 0 {width / POINTS['']:g} {height / POINTS['']:g}")
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": alt, "style": f"--width: {width:.0f}pt"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _drawn(figure: Figure) -> str:
    """With letters as outlines, which look alike everywhere."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg")
    return LONG_NUMBER.sub(lambda found: found[1] or found[2], buffer.getvalue())


def _parse(text: str) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"figure is no SVG: {error}") from error
    if _local(root.tag) != "svg":
        raise ValueError(f"figure is no SVG: its root is {_local(root.tag)!r}")
    return root


def _local(name: str) -> str:
    """A name without its namespace, which HTML knows by itself."""
    return name.rpartition("}")[2]


def _references(name: str, value: str) -> list[str]:
    """What an attribute refers to: #id, or something outside."""
    return [value] if name in ("href", "src") else URL.findall(value)


def _check_harmless(element: ElementTree.Element) -> None:
    bad = [
        name
        for name, value in element.attrib.items()
        if name.startswith("on")
        or any(not to.startswith(("#", "data:image/")) for to in _references(name, value))
    ]
    if element.tag in ("script", "foreignObject") or bad:
        what = " ".join([element.tag, *bad])
        raise ValueError(
            f"figure holds {what!r}; it must hold no scripts and refer to nothing outside"
        )


def _rename_ids(root: ElementTree.Element, prefix: str) -> None:
    """Number the ids that something refers to; drop the others."""
    attributes = [(element, *item) for element in root.iter() for item in element.attrib.items()]
    used = dict.fromkeys(to for _, name, value in attributes for to in _references(name, value))
    names = {to: f"#{prefix}{number}" for number, to in enumerate(used, 1) if to.startswith("#")}
    for element, name, value in attributes:
        if name == "id":
            del element.attrib[name]
            if f"#{value}" in names:
                element.set(name, names[f"#{value}"][1:])
        elif name == "href":
            element.set(name, names.get(value, value))
        else:
            element.set(name, URL.sub(lambda found: f"url({names.get(found[1], found[1])})", value))


def _length(root: ElementTree.Element, name: str) -> float:
    """Width or height in points, from the attribute or else the view box."""
    found = re.fullmatch(r"([\d.]+)\s*([a-z]*)", root.get(name, ""))
    if found and found[2] in POINTS:
        return float(found[1]) * POINTS[found[2]]
    box = root.get("viewBox", "").replace(",", " ").split()
    if len(box) != 4:
        raise ValueError("figure has neither width and height nor a viewBox; give it a size")
    return float(box[2 if name == "width" else 3]) * POINTS[""]
