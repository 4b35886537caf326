"""What batches and letters cost, on an idle machine: pytest tests/benchmarks -m benchmark -s."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from torchvision.transforms import v2

from rankdeficit.augmentation import Augmentation
from rankdeficit.batches import Batches
from rankdeficit.glyphs import EM, LETTERS, SIZE, glyphs
from rankdeficit.images import Images, Normalisation
from tests.benchmarks.timing import THREADS, meet, seconds, size

pytestmark = pytest.mark.benchmark
BATCH, CLASSES = 128, 10


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(THREADS)


@pytest.fixture(scope="module")
def images() -> Images:
    """As many as CIFAR-10 has."""
    count = size(50_000, 1_000)
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    return Images(torch.arange(count) % CLASSES, [str(k) for k in range(CLASSES)], pixels)


def draws(images: Images, augmentation: Augmentation) -> Callable[[], object]:
    """Draws a batch per call."""
    inputs = images.on(images.device, Normalisation.of(images.pixels))
    batches = Batches(inputs, batch_size=BATCH, augmentation=augmentation, seed=0)

    def endless() -> Iterator[object]:
        for epoch in range(100):
            yield from batches.epoch(epoch)

    drawn = endless()
    return lambda: next(drawn)


def mlp_step() -> Callable[[], None]:
    """A training step of the MLP with eight layers of width 512."""
    widths = [3072, *[512] * 7, CLASSES]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(nn.Flatten(), *layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    inputs, labels = torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % CLASSES

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def test_batches_cost_little_beside_the_step_of_a_small_network(images: Images) -> None:
    kinds: list[Augmentation] = ["none", "flip", "crop-flip", "resized-crop"]
    step, *drawing = seconds(mlp_step(), *(draws(images, kind) for kind in kinds), repetitions=100)
    shares = dict(zip(kinds, (took / step for took in drawing), strict=True))
    shown = ", ".join(
        f"{kind} {took * 1e3:.2f} ms ({took / step:.0%})"
        for kind, took in zip(kinds, drawing, strict=True)
    )
    print(f"\na step of the MLP takes {step * 1e3:.1f} ms; a batch of {BATCH}: {shown}")
    meet(shares["none"] < 0.1)
    meet(shares["crop-flip"] < 0.3)


def test_whole_batches_against_transforms_of_each_image(images: Images) -> None:
    """Against torchvision's transforms on single tensors, as data sets usually apply them."""
    transform = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])
    chosen = torch.randperm(len(images))[:BATCH].tolist()

    def single() -> None:
        torch.stack([transform(images.pixels[i]) for i in chosen])

    ours, theirs = seconds(draws(images, "crop-flip"), single)
    print(f"\ncrop-flip of a batch: {theirs / ours:.0f}x transforms image by image (goal 5x)")
    meet(theirs / ours >= 5)


def test_letters_against_drawing_each_with_pillow() -> None:
    """Each letter drawn, transformed, coloured and made noisy on its own."""
    font, generator = ImageFont.load_default(EM), np.random.default_rng(0)

    def pillow() -> None:
        for letter in LETTERS.letters:
            image = Image.new("L", (2 * SIZE, 2 * SIZE))
            ImageDraw.Draw(image).text((SIZE // 2, SIZE // 2), letter, fill=255, font=font)
            pose = tuple(generator.normal([1, 0, SIZE / 2, 0, 1, SIZE / 2], 0.1))
            moved = image.transform(
                (SIZE, SIZE), Image.Transform.AFFINE, pose, Image.Resampling.BILINEAR
            )
            ground, colour = generator.random((2, 3))
            pixels = ground + (colour - ground) * (np.asarray(moved)[:, :, None] / 255)
            pixels += generator.uniform(-0.1, 0.1, pixels.shape)
            np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)

    each = size(100, 2)
    ours, theirs = seconds(lambda: glyphs("train", each, 0), pillow, repetitions=5)
    rate = each * len(LETTERS.letters) / ours
    print(f"\nletters: {rate:,.0f} images a second, {each * theirs / ours:.1f}x Pillow (goal 2x)")
    meet(each * theirs / ours >= 2)
