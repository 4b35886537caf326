"""Small folders of images that a network can tell apart."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rankdeficit.images import Images


def write_images(root: Path, classes: int, train: int, test: int, size: int = 8) -> None:
    """Noisy images with a bright square whose place is the class, as ROOT/{train,test}/classK/*.png."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for k in range(classes):
            folder = root / split / f"class{k}"
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                image = generator.integers(0, 90, (size, size, 3), dtype=np.uint8)
                row, column = divmod(2 * k, size)
                image[2 * row : 2 * row + 2, column : column + 2] += 120
                Image.fromarray(image).save(folder / f"{i}.png")


def image_set(n: int, size: int = 8) -> Images:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)
    return Images(torch.arange(n) % 2, ["a", "b"], images)
