"""Synthetic images of letters, drawn with the fonts that come with matplotlib: no download.

A hundred classes to learn, and two out-of-distribution sets of the same make: letters of other
alphabets, and the same letters in a font never seen in training.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from rankdeficit.batches import stream
from rankdeficit.checks import check_at_least
from rankdeficit.images import Images

SIZE = 32
"""Height and width of an image in pixels."""
EM, MASK = 32, 56
"""Font size and side of the masks that letters are drawn to before they are transformed."""
EM_SIZES = 17.0, 28.0
"""Font sizes in the images, in pixels; capitals are three quarters as tall."""
ROTATION = math.radians(15)
SHEAR = 0.3
SHIFT = 3.5
"""Largest rotation, shear (tangent) and shift (pixels), to either side."""
DARKEST_LIGHT, LIGHTEST_DARK = 0.55, 0.45
"""Letter and ground: one is darker than the second in each channel, the other lighter than the first."""
NOISE = 0.25
"""Largest amplitude of the noise, which is uniform, on the scale of 0..1."""
AT_ONCE = 1000
"""Images that are drawn together."""

LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghijkmnpqrtuÆŒæþðß"
GREEK = "ΓΔΘΛΞΠΣΦΨΩαβγδεζηλμξπστφως"
CYRILLIC = "БДЖЗИЙЛУЦЧШЩЪЫЬЭЮЯбфЂЋЉЊЇ"
GEORGIAN = "ადეზთლოჟსტუფქჩცჭჯჰ"
ARMENIAN = "ԴԹԾԸԽՀՁՇՉՋՎՔՖըթխձ"


@dataclass(frozen=True)
class Typeface:
    """Letters, one per class, and the font files they are drawn with."""

    letters: str
    fonts: tuple[str, ...]


SANS = "DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold"
LETTERS = Typeface(LATIN + GREEK + CYRILLIC, (*SANS, "STIXGeneral", "STIXGeneralBol"))
"""What networks learn: of letters that look alike (A of all three alphabets, c and C) there is one."""
OTHER_LETTERS = Typeface(GEORGIAN + ARMENIAN, SANS)
"""Letters that look like none of these."""
OTHER_FONTS = Typeface(LETTERS.letters, ("DejaVuSerif", "DejaVuSerif-Bold"))
"""The same letters with slab serifs."""


def glyphs(
    split: Literal["train", "test"], per_class: int, seed: int, typeface: Typeface = LETTERS
) -> Images:
    """So many 32 x 32 RGB images of each letter, class after class.

    Font, size, place, rotation, shear, colours and noise are random. The two splits of a seed, and
    typefaces, have streams of random numbers of their own. Raises ValueError where a font is missing.
    """
    check_at_least(1, per_class=per_class)
    generator = stream("glyphs", typeface.letters, *typeface.fonts, split, seed)
    masks = torch.stack([letter_masks(typeface.letters, font) for font in typeface.fonts])
    labels = torch.arange(len(typeface.letters)).repeat_interleave(per_class)
    fonts = torch.randint(len(typeface.fonts), labels.shape, generator=generator)
    parts = [
        draw(masks[font, letter], generator)
        for font, letter in zip(fonts.split(AT_ONCE), labels.split(AT_ONCE), strict=True)
    ]
    return Images(labels, list(typeface.letters), torch.cat(parts))


def letter_masks(letters: str, font: str) -> UInt8[Tensor, "letters mask mask"]:
    """Each letter white on black at its font size EM, the middle of its ink in the middle."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    try:
        typeface = ImageFont.truetype(str(path), EM, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise ValueError(
            f"font {path} cannot be read ({error}); install matplotlib with its fonts, as pip does"
        ) from error
    masks = []
    for letter in letters:
        paper = Image.new("L", (2 * MASK, 2 * MASK))
        ImageDraw.Draw(paper).text((MASK // 2, MASK // 2), letter, fill=255, font=typeface)
        left, top, right, bottom = paper.getbbox() or (0, 0, 0, 0)
        x, y = (left + right - MASK) // 2, (top + bottom - MASK) // 2
        masks.append(np.asarray(paper.crop((x, y, x + MASK, y + MASK))))
    return torch.from_numpy(np.stack(masks))


def draw(
    masks: UInt8[Tensor, "n mask mask"], generator: torch.Generator
) -> UInt8[Tensor, "n 3 size size"]:
    """One image of each mask."""
    n = len(masks)
    grid = functional.affine_grid(
        random_poses(n, generator), [n, 1, SIZE, SIZE], align_corners=False
    )
    ink = functional.grid_sample(masks[:, None].float() / 255, grid, align_corners=False)
    dark, light = torch.rand(2, n, 3, 1, 1, generator=generator)
    dark, light = LIGHTEST_DARK * dark, DARKEST_LIGHT + (1 - DARKEST_LIGHT) * light
    swap = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    ground, letter = torch.where(swap, light, dark), torch.where(swap, dark, light)
    amplitude = NOISE * torch.rand(n, 1, 1, 1, generator=generator)
    noise = torch.rand(n, 3, SIZE, SIZE, generator=generator).mul_(2).sub_(1).mul_(amplitude)
    pixels = noise.add_(torch.lerp(ground, letter, ink)).clamp_(0, 1)
    return pixels.mul_(255).round_().to(torch.uint8)


def random_poses(n: int, generator: torch.Generator) -> Float[Tensor, "n 2 3"]:
    """Maps from places in the image to places in the mask, both on axes from -1 to 1.

    A letter of font size s that is sheared by k, turned by an angle and shifted by t pixels has at x
    what the mask has at (EM / s) shear(-k) turn(-angle) (x - t).
    """
    size, angle, shear, *shifts = torch.rand(5, n, generator=generator)
    smallest, largest = EM_SIZES
    scale = EM / (smallest + (largest - smallest) * size) * (SIZE / MASK)
    angle, shear = ROTATION * (2 * angle - 1), SHEAR * (2 * shear - 1)
    shift = SHIFT * (2 * torch.stack(shifts, dim=-1) - 1) / (SIZE / 2)
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack((cos + shear * sin, sin - shear * cos)), torch.stack((-sin, cos))
    turned = torch.stack(rows).permute(2, 0, 1) * scale[:, None, None]
    return torch.cat((turned, -turned @ shift[:, :, None]), dim=-1)
