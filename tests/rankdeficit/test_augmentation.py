"""Augmentation against oracles."""

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import v2

from rankdeficit.augmentation import (
    Augmentation,
    Views,
    apply_views,
    draw_views,
    padding,
)
from tests.images import image_set

AUGMENTATIONS: list[Augmentation] = ["none", "flip", "crop-flip", "resized-crop"]


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    height, width = images.shape[2:]
    views = draw_views(len(images), (height, width), augmentation, generator)
    return apply_views(images, views, augmentation)


def test_flips_are_flips() -> None:
    images = image_set(64).pixels
    out = augment(images, "flip", stream(0))
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(out, images, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(out, images, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True))
    assert 16 < sum(flipped) < 48
    assert augment(images, "none", stream(0)) is images


@pytest.mark.parametrize("size", [(32, 32), (8, 16), (3, 28)])
def test_crops_are_shifted_images_with_black_borders(size: tuple[int, int]) -> None:
    height, width = size
    images = torch.randint(1, 256, (200, 3, height, width), generator=stream(0)).byte()
    out = augment(images, "crop-flip", stream(1))
    tall, wide = padding(size)
    padded = torch.nn.functional.pad(images, (wide, wide, tall, tall))
    places = set()
    for a, b in zip(out, padded, strict=True):
        matches = [
            (dy, dx, flip)
            for flip in (False, True)
            for dy in range(2 * tall + 1)
            for dx in range(2 * wide + 1)
            if torch.equal(a.flip(-1) if flip else a, b[:, dy : dy + height, dx : dx + width])
        ]
        assert len(matches) == 1
        places.add(matches[0])
    possible = 2 * (2 * tall + 1) * (2 * wide + 1)
    assert len(places) > 0.6 * min(possible, 200)
    assert {flip for *_, flip in places} == {False, True}


def test_padding_is_an_eighth_of_the_size() -> None:
    assert [padding((size, 32)) for size in (32, 64, 28, 8, 2)] == [
        (4, 4), (8, 4), (4, 4), (1, 4), (1, 4)
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(32, 32), (20, 31)])
def test_resized_crops_are_those_of_torchvision(size: tuple[int, int]) -> None:
    images = torch.randint(256, (100, 3, *size), generator=stream(0)).byte()
    views = draw_views(100, size, "resized-crop", stream(1))
    seen = apply_views(images, views, "resized-crop")
    for image, box, mirrored, ours in zip(images, views.boxes, views.mirrored, seen, strict=True):
        top, left, height, width = box.tolist()
        cropped = image[:, top : top + height, left : left + width].float()
        expected = v2.functional.resize(cropped, list(size), antialias=False)
        expected = expected.flip(-1) if mirrored else expected
        torch.testing.assert_close(ours.float(), expected, rtol=0, atol=0.51)


def test_a_box_of_the_whole_image_changes_nothing() -> None:
    images = image_set(5, size=9).pixels
    whole = Views(torch.tensor([0, 0, 9, 9]).repeat(5, 1), torch.zeros(5, dtype=torch.bool))
    for augmentation in AUGMENTATIONS:
        assert torch.equal(apply_views(images, whole, augmentation), images)


@pytest.mark.parametrize("size", [(224, 224), (60, 200)])
def test_boxes_are_distributed_as_those_of_torchvision(size: tuple[int, int]) -> None:
    n = 2000
    boxes = draw_views(n, size, "resized-crop", stream(0)).boxes
    crop = v2.RandomResizedCrop(size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [crop.make_params([torch.empty(3, *size)]) for _ in range(n)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn])
    for measure in (
        lambda b: b[:, 2],
        lambda b: b[:, 3],
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 3] / b[:, 2],
        lambda b: b[b[:, 2] < size[0], 0],  # the largest box is in the middle there, anywhere here
        lambda b: b[b[:, 2] < size[0], 1],
    ):
        assert ks_2samp(measure(boxes), measure(theirs)).pvalue > 1e-3
