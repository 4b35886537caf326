"""What training costs beside its bare steps, and diagnoses beside training, as ratios in one run."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from rankdeficit.augmentation import Augmentation
from rankdeficit.batches import Batches
from rankdeficit.images import Images, Normalisation
from real_nets.data.opening import DataSource
from real_nets.jobs.data import JobData
from real_nets.jobs.job import Job
from real_nets.jobs.run import diagnose_job, train_job
from real_nets.models import Architecture
from real_nets.training.loop import Training
from real_nets.training.recipe import Precision, Recipe
from tests.benchmarks.timing import THREADS, meet, size

pytestmark = pytest.mark.benchmark

CPU = torch.device("cpu")
ROUNDS = 5


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


def random_images(n: int) -> Images:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Images(torch.arange(n) % 10, list("abcdefghij"), images)


def our_training(name: str, images: Images, recipe: Recipe, device: torch.device = CPU) -> Training:
    model = Architecture(name, 10, (3, 32, 32)).build(0)
    batches = Batches(
        images.on(device, Normalisation.of(images.pixels)), batch_size=recipe.batch_size,
        augmentation=recipe.augmentation, seed=0,
    )  # fmt: skip
    return Training(model, batches, recipe, temperature=1.0, seed=0, device=device)


class Bare:
    """Nothing but steps, on whatever batches it is given, or on one that is in memory."""

    def __init__(
        self, name: str, recipe: Recipe, device: torch.device = CPU, *, fused: bool | None = True
    ) -> None:
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        model = Architecture(name, 10, (3, 32, 32)).build(0).train()
        model = model.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=recipe.lr, momentum=recipe.momentum,
            weight_decay=recipe.weight_decay, nesterov=recipe.nesterov, fused=fused,
        )  # fmt: skip
        self.model = torch.compile(model) if recipe.compile else model
        self.autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=recipe.precision == "bf16"
        )
        inputs = torch.randn(recipe.batch_size, 3, 32, 32, device=device)
        labels = torch.arange(recipe.batch_size, device=device) % 10
        self.batch = inputs.contiguous(memory_format=layout), labels

    def steps(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        for inputs, labels in batches:
            self.optimizer.zero_grad()
            with self.autocast:
                logits = self.model(inputs)
            nn.functional.cross_entropy(logits.float(), labels).backward()
            self.optimizer.step()

    def seconds(self, steps: int) -> float:
        return seconds(lambda: self.steps([self.batch] * steps))


def seconds(work: Callable[[], object]) -> float:
    synchronise()
    start = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of_ours(ours: Training, steps: int) -> float:
    end = ours.step + steps
    return seconds(lambda: ours.run_until(end, lambda step: None))


def shares_of_bare(ours: Training, bare: Bare, steps: int) -> list[float]:
    """Rate of training over that of bare steps, after a round that compiles."""
    seconds_of_ours(ours, 3)
    bare.seconds(3)
    rounds = range(size(ROUNDS, 1))
    return [bare.seconds(steps) / seconds_of_ours(ours, steps) for _ in rounds]


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


@pytest.mark.parametrize("channels_last", [False, True])
def test_training_runs_at_the_rate_of_bare_steps(channels_last: bool) -> None:
    recipe = Recipe(
        epochs=100, lr=0.1, nesterov=True, weight_decay=5e-4, clip_norm=None,
        augmentation="crop-flip", channels_last=channels_last,
    )  # fmt: skip
    ours = our_training("resnet20", random_images(size(10_000, 512)), recipe)
    shares = shares_of_bare(ours, Bare("resnet20", recipe), size(25, 1))
    print(f"\nResNet-20, channels_last {channels_last}: {spread(shares)} of bare steps")
    meet(median(shares) >= 0.9)


@pytest.mark.cuda
def test_a_gpu_trains_at_the_rate_of_compiled_steps(cuda: torch.device) -> None:
    recipe = Recipe(
        epochs=100, batch_size=512, lr=0.1, nesterov=True, weight_decay=5e-4, clip_norm=None,
        augmentation="crop-flip", channels_last=True, precision="bf16", compile=True,
    )  # fmt: skip
    ours = our_training("resnet18", random_images(50_000), recipe, cuda)
    epoch = ours.batches.steps_per_epoch
    shares = shares_of_bare(ours, Bare("resnet18", recipe, cuda), epoch)
    print(f"\nResNet-18 on {torch.cuda.get_device_name(cuda)}: {spread(shares)} of compiled steps; "
          f"{50_000 / seconds_of_ours(ours, epoch):.0f} images/s")  # fmt: skip
    meet(median(shares) >= 0.8)


@pytest.mark.parametrize("augmentation", ["none", "crop-flip"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("precision", "of_bare", "of_plain"), [("float32", 0.85, 1), ("bf16", 0.75, 3)]
)
def test_an_mlp_trains_near_its_bare_rate_and_so_faster_than_with_a_loader(
    precision: Precision,
    of_bare: float,
    of_plain: float,
    workers: int,
    augmentation: Augmentation,
    tmp_path: Path,
) -> None:
    if precision == "bf16" and not torch.cpu.get_capabilities().get("avx512_bf16"):
        pytest.skip("this processor has no products of bfloat16 numbers")
    images = random_images(size(6400, 256))
    loader = plain_loader(images, augmentation, workers, tmp_path)
    plain = Recipe(epochs=100, clip_norm=None, augmentation=augmentation)
    recipe = replace(plain, precision=precision)
    ours, bare = our_training("mlp", images, recipe), Bare("mlp", recipe)
    tutorial = Bare("mlp", plain, fused=None)
    epoch = ours.batches.steps_per_epoch
    tutorial.steps(loader)  # workers start
    ratios, ceilings, shares = [], [], []
    for _ in range(size(ROUNDS, 1)):
        own, bound = seconds_of_ours(ours, epoch), bare.seconds(epoch)
        theirs = seconds(lambda: tutorial.steps(loader))
        ratios.append(theirs / own)
        ceilings.append(theirs / bound)
        shares.append(bound / own)
    print(
        f"\nMLP in {precision}, augmentation {augmentation}: {spread(ratios)} times a DataLoader of "
        f"{workers} workers; bare steps: {spread(ceilings)} times; of bare: {spread(shares)}"
    )
    meet(median(shares) >= of_bare)
    meet(median(ratios) > of_plain)


def plain_loader(
    images: Images, augmentation: Augmentation, workers: int, folder: Path
) -> DataLoader[tuple[Tensor, Tensor]]:
    """What a torchvision tutorial has, on a folder of JPEG files."""
    for k in range(10):
        (folder / str(k)).mkdir()
    for i, image in enumerate(images.pixels):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        picture.save(folder / str(i % 10) / f"{i}.jpg")
    changes = [transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip()]
    normalise = transforms.Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    chain = [*(changes if augmentation == "crop-flip" else []), transforms.ToTensor(), normalise]
    files = ImageFolder(str(folder), transforms.Compose(chain))
    return DataLoader(files, 128, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def test_a_diagnosis_costs_little_beside_training(tmp_path: Path) -> None:
    job = Job(
        data=f"glyphs:{size(100, 5)}", ood=(f"glyph-letters:{size(100, 5)}",), model="resnet20",
        width=size(16, 4), epochs=size(10, 1),
        optimizer="adamw", lr=3e-3, clip_norm=None, channels_last=True, diagnosed_images=5000,
        followed_images=2000,
    )  # fmt: skip
    data = JobData(job, DataSource(), CPU)
    training = seconds(lambda: train_job(job, data, tmp_path / "job"))
    diagnosing = seconds(lambda: diagnose_job(job, data, tmp_path / "job"))
    per_image = training / (job.epochs * len(data.train))
    small = per_image * 10 * 50_000  # what ten epochs of CIFAR's 50,000 images would take
    print(f"\ndiagnosis: {diagnosing:.0f} s, training {training:.0f} s on {len(data.train)} images: "
          f"{diagnosing / small:.1%} of ten epochs on 50,000")  # fmt: skip
    meet(diagnosing < 0.15 * small)
