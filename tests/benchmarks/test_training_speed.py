"""What training costs beside its bare steps, and diagnoses beside training, as ratios in one run."""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from rankdeficit.images import ImageSet, Normalisation
from real_nets.batches import Augmentation, InMemoryBatches
from real_nets.job import Job
from real_nets.job_data import JobData, Source
from real_nets.models import Architecture
from real_nets.training import Recipe, Training
from real_nets.work import diagnose_job, train_job

pytestmark = pytest.mark.benchmark

CPU = torch.device("cpu")
BATCH = 128
ROUNDS = 5


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def random_images(n: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(n) % 10, list("abcdefghij"))


def our_training(name: str, images: ImageSet, recipe: Recipe) -> Training:
    model = Architecture(name, 10, (3, 32, 32)).build(0)
    batches = InMemoryBatches(
        images, Normalisation.of(images), batch_size=BATCH,
        augmentation=recipe.augmentation, seed=0,
    )  # fmt: skip
    return Training(model, batches, recipe, temperature=1.0, seed=0, device=CPU)


def bare_step(name: str, recipe: Recipe) -> tuple[nn.Module, torch.optim.SGD, Tensor, Tensor]:
    model = Architecture(name, 10, (3, 32, 32)).build(0).train()
    inputs, labels = torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % 10
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum,
        weight_decay=recipe.weight_decay, nesterov=recipe.nesterov,
    )  # fmt: skip
    return model, optimizer, inputs, labels


def seconds(work: object, repeats: int) -> float:
    assert callable(work)
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / repeats


@pytest.mark.parametrize("channels_last", [False, True])
def test_training_runs_at_the_rate_of_bare_steps(channels_last: bool) -> None:
    steps = 25
    recipe = Recipe(
        epochs=100, lr=0.1, nesterov=True, weight_decay=5e-4, clip_norm=None,
        augmentation="crop-flip", channels_last=channels_last,
    )  # fmt: skip
    ours = our_training("resnet20", random_images(10_000), recipe)
    model, optimizer, inputs, labels = bare_step("resnet20", recipe)

    def bare() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()

    shares = []
    for _ in range(ROUNDS):
        end = ours.step + steps
        taken = seconds(lambda end=end: ours.run_until(end, lambda step: None), steps)  # type: ignore[misc]
        shares.append(seconds(bare, steps) / taken)
    print(f"\nResNet-20, channels_last {channels_last}: {median(shares):.1%} of bare steps "
          f"({min(shares):.1%}-{max(shares):.1%}, {ROUNDS} rounds)")  # fmt: skip
    assert median(shares) >= 0.9


@pytest.mark.parametrize("augmentation", ["none", "crop-flip"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_mlp_trains_near_its_bare_rate_and_so_faster_than_with_a_loader(
    workers: int, augmentation: Augmentation, tmp_path: Path
) -> None:
    images = random_images(6400)
    loader = plain_loader(images, augmentation, workers, tmp_path)
    recipe = Recipe(epochs=100, clip_norm=None, augmentation=augmentation)
    ours = our_training("mlp", images, recipe)
    model, optimizer, one_batch, their_labels = bare_step("mlp", recipe)

    def train_on(batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        for inputs, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()

    train_on(loader)  # workers start
    steps = ours.batches.steps_per_epoch
    ratios, ceilings, shares = [], [], []
    for _ in range(ROUNDS):
        end = ours.step + steps
        taken = seconds(lambda end=end: ours.run_until(end, lambda step: None), 1)  # type: ignore[misc]
        theirs = seconds(lambda: train_on(loader), 1)
        bare = seconds(lambda: train_on([(one_batch, their_labels)] * steps), 1)
        ratios.append(theirs / taken)
        ceilings.append(theirs / bare)
        shares.append(bare / taken)
    print(f"\nMLP, augmentation {augmentation}: {spread(ratios)} times a DataLoader of {workers} "
          f"workers; bare steps: {spread(ceilings)} times; ours of bare: {spread(shares)}")  # fmt: skip
    assert median(shares) >= 0.85
    assert median(ratios) > 1


def plain_loader(
    images: ImageSet, augmentation: Augmentation, workers: int, folder: Path
) -> DataLoader[tuple[Tensor, Tensor]]:
    """What a torchvision tutorial has, on a folder of JPEG files."""
    for k in range(10):
        (folder / str(k)).mkdir()
    for i, image in enumerate(images.images):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        picture.save(folder / str(i % 10) / f"{i}.jpg")
    changes = [transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip()]
    normalise = transforms.Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    chain = [*(changes if augmentation == "crop-flip" else []), transforms.ToTensor(), normalise]
    files = ImageFolder(str(folder), transforms.Compose(chain))
    return DataLoader(
        files, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def test_a_diagnosis_costs_little_beside_training(tmp_path: Path) -> None:
    job = Job(
        data="glyphs:100", ood=("glyph-letters:100",), model="resnet20", width=16, epochs=10,
        optimizer="adamw", lr=3e-3, clip_norm=None, channels_last=True, diagnosed_images=5000,
        followed_images=2000,
    )  # fmt: skip
    data = JobData(job, Source(), CPU)
    training = seconds(lambda: train_job(job, data, tmp_path / "job"), 1)
    diagnosing = seconds(lambda: diagnose_job(job, data, tmp_path / "job"), 1)
    per_image = training / (job.epochs * len(data.train))
    small = per_image * 10 * 50_000  # what ten epochs of CIFAR's 50,000 images would take
    print(f"\ndiagnosis: {diagnosing:.0f} s, training {training:.0f} s on {len(data.train)} images: "
          f"{diagnosing / small:.1%} of ten epochs on 50,000")  # fmt: skip
    assert diagnosing < 0.15 * small
