"""Letters as images: which letters, that no two look alike, and what is random about them."""

import math
from typing import Any

import pytest
import torch
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font
from torch import Tensor
from torch.nn import functional

from rankdeficit import glyphs as module
from rankdeficit.batches import stream
from rankdeficit.glyphs import (
    EM,
    LETTERS,
    MASK,
    OTHER_FONTS,
    OTHER_LETTERS,
    SIZE,
    Typeface,
    draw,
    glyphs,
    letter_masks,
)

TYPEFACES = {"letters": LETTERS, "other letters": OTHER_LETTERS, "other fonts": OTHER_FONTS}
each_typeface = pytest.mark.parametrize("typeface", TYPEFACES.values(), ids=TYPEFACES)


def outlines(masks: Tensor, side: int = 24) -> Tensor:
    """Letters enlarged until their longer extent is `side` pixels, in the middle of some more."""
    found = []
    for mask in masks.float() / 255:
        rows, columns = ((mask > 0.25).any(dim=axis).nonzero() for axis in (1, 0))
        ink = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        scale = side / max(ink.shape)
        height, width = (max(1, round(scale * length)) for length in ink.shape)
        ink = functional.interpolate(ink[None, None], (height, width), mode="area")[0, 0]
        top, left = (side + 4 - height) // 2, (side + 4 - width) // 2
        right, bottom = side + 4 - width - left, side + 4 - height - top
        found.append(functional.pad(ink, (left, right, top, bottom)))
    return torch.stack(found)


def likeness(ours: Tensor, theirs: Tensor) -> Tensor:
    """Largest correlation of each pair of outlines, shifted by up to two pixels."""

    def standardised(images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return functional.normalize(flat - flat.mean(dim=1, keepdim=True))

    shifts = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
    return torch.stack(
        [standardised(ours) @ standardised(theirs.roll(shift, (1, 2))).mT for shift in shifts]
    ).amax(dim=0)


def all_outlines(letters: str, fonts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Outlines in all fonts, with the numbers of the letters."""
    masks = torch.cat([letter_masks(letters, font) for font in fonts])
    return outlines(masks), torch.arange(len(letters)).repeat(len(fonts))


def test_no_two_letters_look_alike_in_any_two_fonts() -> None:
    ours, letters = all_outlines(LETTERS.letters, LETTERS.fonts + OTHER_FONTS.fonts)
    alike = likeness(ours, ours)
    different = letters[:, None] != letters
    assert alike[different].max() < 0.98
    for twins in ("AΑА", "PΡР", "oοо"):
        found, _ = all_outlines(twins, ("DejaVuSans", "DejaVuSans-Bold"))
        assert (likeness(found[:3], found[:3]) > 0.98).all()


def test_letters_of_other_alphabets_look_like_none_of_these() -> None:
    known, _ = all_outlines(LETTERS.letters, LETTERS.fonts)
    others, letters = all_outlines(OTHER_LETTERS.letters, OTHER_LETTERS.fonts)
    assert likeness(others, known).max() < 0.92
    assert likeness(others, others)[letters[:, None] != letters].max() < 0.92


def test_a_hundred_letters_and_others_in_fonts_that_have_them() -> None:
    assert len(LETTERS.letters) == len(set(LETTERS.letters)) == 100
    assert not set(LETTERS.letters) & set(OTHER_LETTERS.letters)
    assert OTHER_FONTS.letters == LETTERS.letters
    assert not set(OTHER_FONTS.fonts) & set(LETTERS.fonts)
    for typeface in TYPEFACES.values():
        for font in typeface.fonts:
            known = FT2Font(f"{get_data_path()}/fonts/ttf/{font}.ttf").get_charmap()
            assert {ord(letter) for letter in typeface.letters} <= set(known)


@each_typeface
def test_masks_hold_whole_letters_in_their_middle(typeface: Typeface) -> None:
    for font in typeface.fonts:
        masks = letter_masks(typeface.letters, font)
        for axis in (1, 2):
            ink = (masks > 0).any(dim=axis).float()
            first, last = ink.argmax(dim=1), MASK - 1 - ink.flip(1).argmax(dim=1)
            assert first.min() >= 5
            assert (first + last - (MASK - 1)).abs().max() <= 1


@each_typeface
def test_images_come_class_by_class_from_split_and_seed(typeface: Typeface) -> None:
    def images(split: Any, seed: int) -> Tensor:
        found = glyphs(split, 12, seed, typeface)
        assert found.labels.tolist() == [i for i in range(len(typeface.letters)) for _ in range(12)]
        assert found.classes == list(typeface.letters)
        return found.pixels

    first = images("train", 0)
    assert first.shape == (12 * len(typeface.letters), 3, SIZE, SIZE)
    assert torch.equal(first, images("train", 0))
    rows = {image.numpy().tobytes() for image in first}
    assert len(rows) == len(first)
    for other in (images("test", 0), images("train", 1)):
        assert not rows & {image.numpy().tobytes() for image in other}


def test_splits_and_typefaces_do_not_share_their_poses() -> None:
    def brightness(split: Any, typeface: Typeface) -> Tensor:
        images = glyphs(split, 2, 0, typeface).pixels[:70, :, 0, 0].double()
        return images.flatten()

    sets = [brightness(split, t) for split in ("train", "test") for t in TYPEFACES.values()]
    correlations = torch.corrcoef(torch.stack(sets)) - torch.eye(6, dtype=torch.float64)
    assert correlations.abs().max() < 0.3


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Letters drawn at the size of their masks, upright, in the middle, without noise."""
    for name in ("ROTATION", "SHEAR", "SHIFT", "NOISE"):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(module, "EM_SIZES", (float(EM), float(EM)))
    return monkeypatch


def ink(images: Tensor) -> Tensor:
    """How much of each pixel the letter covers: distance from the colour of a corner."""
    distance = (images.float() - images[:, :, :1, :1].float()).norm(dim=1)
    return distance / distance.amax(dim=(1, 2), keepdim=True)


@pytest.mark.usefixtures("plain")
def test_a_plain_letter_is_its_mask() -> None:
    masks = letter_masks("ABCDEFGHIJ", "DejaVuSans-Bold")
    edge = (MASK - SIZE) // 2
    drawn = ink(draw(masks, stream(0)))
    expected = masks[:, edge:-edge, edge:-edge].float() / 255
    torch.testing.assert_close(drawn, expected, rtol=0, atol=0.03)


@pytest.mark.usefixtures("plain")
def test_every_image_shows_its_letter_in_one_of_the_fonts() -> None:
    found = glyphs("train", 3, 0)
    masks = torch.stack([letter_masks(LETTERS.letters, font) for font in LETTERS.fonts])
    edge = (MASK - SIZE) // 2
    known = masks[:, :, edge:-edge, edge:-edge].flatten(0, 1).flatten(1).float() / 255
    distances = torch.cdist(ink(found.pixels).flatten(1), known).view(-1, len(LETTERS.fonts), 100)
    nearest = distances.amin(dim=1).argmin(dim=1)
    assert torch.equal(nearest, found.labels)
    fonts = distances[torch.arange(300), :, found.labels].argmin(dim=1)
    assert (torch.bincount(fonts, minlength=6) > 30).all()


def test_rotation_and_shear_keep_the_ink_and_its_size_scales_it(plain: pytest.MonkeyPatch) -> None:
    masks = letter_masks("O", "DejaVuSans-Bold").repeat(200, 1, 1)
    upright = ink(draw(masks, stream(0))).sum(dim=(1, 2))
    for name, value in (("ROTATION", 0.5), ("SHEAR", 0.3), ("SHIFT", 2.0)):
        plain.setattr(module, name, value)
    turned = ink(draw(masks, stream(0))).sum(dim=(1, 2))
    torch.testing.assert_close(turned, upright, rtol=0.05, atol=0)
    plain.setattr(module, "EM_SIZES", (16.0, 16.0))
    halved = ink(draw(masks, stream(0))).sum(dim=(1, 2))
    torch.testing.assert_close(halved, upright / 4, rtol=0.15, atol=0)


def test_letters_shift_and_turn_as_far_as_they_may(plain: pytest.MonkeyPatch) -> None:
    plain.setattr(module, "EM_SIZES", (24.0, 24.0))
    axis = torch.arange(SIZE) - (SIZE - 1) / 2

    def centres(covered: Tensor) -> Tensor:
        total = covered.sum(dim=(1, 2))
        return torch.stack([(covered.sum(dim=d) @ axis) / total for d in (2, 1)])

    masks = letter_masks("I", "DejaVuSans-Bold").repeat(400, 1, 1)
    unmoved = centres(ink(draw(masks, stream(0))))
    plain.setattr(module, "SHIFT", 3.0)
    y, x = centres(ink(draw(masks, stream(0)))) - unmoved
    for place in (x, y):
        assert 2.8 < place.abs().max() < 3.05
        assert abs(place.std() - 3 / math.sqrt(3)) < 0.2
    assert abs(torch.corrcoef(torch.stack((x, y)))[0, 1]) < 0.2
    plain.setattr(module, "SHIFT", 0.0)
    for name, most in (("ROTATION", 0.25), ("SHEAR", math.tan(0.25))):
        plain.setattr(module, name, most)
        covered = ink(draw(masks, stream(1)))
        rows = covered.sum(dim=2)
        slope = ((covered @ axis) * axis).sum(dim=1) / (rows * axis.square()).sum(dim=1)
        tilt = slope.atan()
        assert 0.2 < tilt.max() < 0.28
        assert -0.28 < tilt.min() < -0.2
        plain.setattr(module, name, 0.0)


def test_letters_stand_out_in_every_channel(plain: pytest.MonkeyPatch) -> None:
    masks = letter_masks("O", "DejaVuSans-Bold").repeat(300, 1, 1)
    images = draw(masks, stream(0)).float()
    ground, letter = images[:, :, 0, 0], images[:, :, 16, 7]
    contrast = letter - ground
    assert contrast.abs().min() >= 0.1 * 255 - 1
    assert ((contrast > 0).all(dim=1) | (contrast < 0).all(dim=1)).all()
    assert 100 < (contrast > 0).all(dim=1).sum() < 200
    plain.setattr(module, "NOISE", 0.2)
    noisy = draw(masks, stream(0)).float()[:, :, :4]
    unclipped = (ground > 60) & (ground < 195)
    assert (noisy - ground[:, :, None, None])[unclipped].mean().abs() < 0.5
    deviation = noisy.std(dim=(2, 3)).amax(dim=1)
    assert deviation.max() < 0.2 * 255 / math.sqrt(3) * 1.1
    assert deviation.max() > 3 * deviation.min()


@pytest.mark.usefixtures("unchecked")
def test_bad_numbers_and_missing_fonts() -> None:
    with pytest.raises(ValueError, match="per_class is 0"):
        glyphs("train", 0, 0)
    with pytest.raises(ValueError, match=r"font .*Nowhere\.ttf.*install matplotlib"):
        glyphs("train", 1, 0, Typeface("A", ("Nowhere",)))
