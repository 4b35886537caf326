from typing import Any

import pytest
import torch

from real_nets import models
from real_nets.data import CROP_PADDING, augment, shuffled_batches
from tests.images import image_set


def test_flips_are_flips() -> None:
    images = image_set(64).images
    out = augment(images, "flip", torch.Generator().manual_seed(0))
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(out, images, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(out, images, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True))
    assert 16 < sum(flipped) < 48
    assert augment(images, "none", torch.Generator()) is images


def test_crops_are_shifted_images_with_black_borders() -> None:
    images = image_set(200).images
    out = augment(images, "crop-flip", torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (CROP_PADDING,) * 4)
    places = set()
    for a, b in zip(out, padded, strict=True):
        matches = [
            (dy, dx, flip)
            for flip in (False, True)
            for dy in range(2 * CROP_PADDING + 1)
            for dx in range(2 * CROP_PADDING + 1)
            if torch.equal(a.flip(-1) if flip else a, b[:, dy : dy + 8, dx : dx + 8])
        ]
        assert len(matches) == 1
        places.add(matches[0][:2])
    assert len(places) > 60  # of 81


def test_batches_cover_the_set_once_in_an_order_of_the_seed() -> None:
    data = image_set(23)

    def epoch(seed: int) -> list[Any]:
        generator = torch.Generator().manual_seed(seed)
        return list(shuffled_batches(data, 5, "none", generator))

    batches = epoch(0)
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    seen = torch.cat([images for images, _ in batches]).flatten(1)
    original = data.images.flatten(1)
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, original.tolist()))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, epoch(0), strict=True))
    assert not torch.equal(batches[0][0], epoch(1)[0][0])


def test_the_mlp_has_its_depth_and_keeps_the_norm() -> None:
    model = models.build("mlp", inputs=(3, 8, 8), classes=5, width=256, depth=8)
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [
        (192, 256), *[(256, 256)] * 6, (256, 5)
    ]  # fmt: skip
    with torch.no_grad():
        logits = model(torch.randn(200, 3, 8, 8))
    assert 0.3 < logits.square().mean().sqrt() < 5


@pytest.mark.usefixtures("unchecked")
def test_unknown_models() -> None:
    with pytest.raises(ValueError, match="model is 'gpt'; it must be one of mlp"):
        models.build("gpt", inputs=(3, 8, 8), classes=5, width=256, depth=8)
    with pytest.raises(ValueError, match="width is 0"):
        models.build("mlp", inputs=(3, 8, 8), classes=5, width=0, depth=8)
