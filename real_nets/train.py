"""Train a network at several softmax temperatures and measure what became of its logits.

    python -m real_nets.train --model mlp --data FOLDER --temperature 1 50

Every temperature uses the same hyper-parameters (the "matched" rule of the paper) and, seed by
seed, the same initial weights and batches.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from rich.table import Table
from torch import nn

from rankdeficit import GAMMAS, cli, plots, reporting
from rankdeficit.checks import check_at_least
from rankdeficit.experiment import CommonSettings, Row, check_values, conduct
from rankdeficit.images import ImageSet, Normalisation, load_splits
from rankdeficit.runs import RunFolder, read_json, read_rows, write_atomically
from real_nets import models
from real_nets.data import Augmentation
from real_nets.measure import evaluate, layer_ranks
from real_nets.training import Recipe, Training

PROGRAM = "real_nets.train"

LEAST_GAMMA = 1e-6
INTERPOLATION = 0.999
"""Train accuracy from which a network counts as interpolating its images."""


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Train a network at several softmax temperatures on a folder of images."""

    data: Path | None = None
    """Folder with train/CLASS/* and test/CLASS/* (or val/CLASS/*) images; required."""
    model: str = "mlp"
    """Network: mlp."""
    temperature: tuple[float, ...] = (1.0, 50.0)
    """Softmax temperatures T; logits are divided by T."""
    seeds: int = 1
    """Runs per temperature, each with its own seed."""
    epochs: int = 25
    """Passes over the train images."""
    batch_size: int = 128
    """Images per step."""
    lr: float = 0.05
    """Peak learning rate of SGD, the same at every temperature; falls to 0 along a cosine."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 0.0
    """L2 penalty of SGD."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; longer ones are shortened to it."""
    width: int = 512
    """Width of the hidden layers."""
    depth: int = 8
    """Weight layers, classifier included."""
    augmentation: Augmentation = "none"
    """Random flips, or shifted crops and flips, of the train images."""
    image_size: int | None = None
    """Resize images to so many pixels squared [default: leave them as they are]."""
    measured_images: int = 10_000
    """Train images on which accuracy and ranks are followed; the summary takes all of them."""


@dataclass(frozen=True)
class Splits:
    """The images of a run on its device: all, and the train images followed during training."""

    train: ImageSet
    test: ImageSet
    followed: ImageSet
    normalise: Normalisation


def run(settings: Settings) -> Path:
    """Train all jobs, write the run folder, print the table; returns the folder."""
    if settings.data is not None:
        settings = replace(settings, data=settings.data.resolve())
    return conduct(settings, PROGRAM, prepare, work, draw, report)


def prepare(settings: Settings) -> Splits:
    """Check the settings, then load the images. Raises ValueError for what makes no sense."""
    if not LEAST_GAMMA <= settings.gamma < 1:
        raise ValueError(
            f"gamma is {settings.gamma}; it must lie in [{LEAST_GAMMA:g}, 1): ranks of layers come "
            "from streamed Gram matrices, which resolve no less"
        )
    settings.check_common()
    check_at_least(1, measured_images=settings.measured_images)
    recipe_of(settings)
    check_values(temperature=settings.temperature)
    if settings.data is None:
        raise ValueError("data is missing; name a folder of images with --data")
    device = cli.resolve_device(settings.device)
    build_model(settings, inputs=(1, 1, 1), classes=2)
    train, test = load_splits(settings.data, settings.image_size)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(train.labels), generator=generator)[: settings.measured_images]
    followed = ImageSet(train.images[chosen], train.labels[chosen], train.classes)
    train, test, followed = train.to(device), test.to(device), followed.to(device)
    return Splits(train, test, followed, Normalisation.of(train))


def work(settings: Settings, splits: Splits, folder: RunFolder, resumed: bool) -> Row:
    """Train all jobs; the summary of all runs."""
    runs = train(settings, splits, folder, resumed)
    return {
        "runs": runs,
        "verdict": reporting.verdicts(runs, "model"),
        "gamma": settings.gamma,
        "classes": len(splits.train.classes),
        "train_images": len(splits.train.labels),
        "test_images": len(splits.test.labels),
    }


def report(summary: Row) -> tuple[Table, list[str]]:
    """The table, ranks layer by layer, and the verdict."""
    layers = reporting.layer_sentences(summary["runs"], shown_gammas(summary["gamma"]))
    table = reporting.results_table(summary["runs"], "model", summary["gamma"])
    return table, [*layers, *summary["verdict"]]


def build_model(settings: Settings, inputs: tuple[int, ...], classes: int) -> nn.Sequential:
    """The settings' network, with weights from torch's global generator."""
    return models.build(
        settings.model, inputs=inputs, classes=classes, width=settings.width, depth=settings.depth
    )


def recipe_of(settings: Settings) -> Recipe:
    """The part of the settings that training needs. Raises ValueError for values out of range."""
    return Recipe(**{field.name: getattr(settings, field.name) for field in fields(Recipe)})


def train(settings: Settings, splits: Splits, folder: RunFolder, resumed: bool) -> list[Row]:
    """Train every temperature and seed in turn; returns the summary of each run."""
    recipe = recipe_of(settings)
    jobs = [
        (temperature, seed)
        for seed in range(settings.seed, settings.seed + settings.seeds)
        for temperature in sorted(set(settings.temperature))
    ]

    def begin(temperature: float, seed: int) -> Training:
        model = initial_model(settings, seed, splits.train).to(splits.train.images.device)
        return Training(
            model, splits.train, splits.normalise, recipe, temperature=temperature, seed=seed
        )

    finished: list[Row] = []
    current: Training | None = None

    def restore(state: Row) -> None:
        nonlocal current
        finished.extend(state["finished"])
        if state["job"]:
            current = begin(*jobs[len(finished)])
            current.restore(state["job"])

    if resumed:
        folder.restore_checkpoint(splits.train.images.device, restore)
    steps = settings.epochs * math.ceil(len(splits.train.labels) / settings.batch_size)
    with cli.progress(
        f"{len(jobs)} networks", len(jobs) * steps, len(finished) * steps
    ) as set_done:
        for temperature, seed in jobs[len(finished) :]:
            job, current = current or begin(temperature, seed), None
            train_to_the_end(settings, job, splits, folder, finished, set_done)
            finished.append(conclude(settings, job, splits, folder))
            folder.save_checkpoint({"finished": finished, "job": None})
    return finished


def train_to_the_end(
    settings: Settings,
    job: Training,
    splits: Splits,
    folder: RunFolder,
    finished: list[Row],
    set_done: Callable[[int], Any],
) -> None:
    """Train one network epoch by epoch, with a row and a checkpoint after each."""

    def record() -> bool:
        """Append a row of measures; tells whether the network is still finite."""
        row = measure(job, splits, splits.followed, settings.gamma)
        folder.append_rows([identity(settings, job) | {"epoch": job.epoch} | without_spectrum(row)])
        return row["loss"] is not None

    if job.epoch == 0:
        record()
    before = len(finished) * settings.epochs * job.steps_per_epoch
    while job.epoch < settings.epochs:
        job.run_epoch(lambda steps: set_done(before + steps))
        if not record():
            job.epoch = settings.epochs  # diverged: more epochs would change nothing
        folder.save_checkpoint({"finished": finished, "job": job.state()})


def conclude(settings: Settings, job: Training, splits: Splits, folder: RunFolder) -> Row:
    """Measure a trained network on all images and save its weights, unless it diverged."""
    final = measure(job, splits, splits.train, settings.gamma)
    classes = len(splits.train.classes)
    layers = dict.fromkeys(("layer_ranks", "layer_rank_intervals"))
    if final["loss"] is not None:
        weights = {name: value.contiguous() for name, value in job.model.state_dict().items()}
        name = f"T{str(job.temperature).removesuffix('.0')}-seed{job.seed}.safetensors"
        write_atomically(folder.path / name, safetensors.torch.save(weights))
        gammas = sorted({*GAMMAS, settings.gamma})
        layers = layer_ranks(job.model, splits.test, splits.normalise, gammas)
    return identity(settings, job) | {
        **final,
        **layers,
        "neural_collapse_rank": reporting.neural_collapse_rank(
            classes, settings.width if settings.depth > 1 else classes
        ),
        "outcome": reporting.outcome(
            final["loss"], final["accuracy"], math.log(classes), INTERPOLATION
        ),
    }


def measure(job: Training, splits: Splits, train_images: ImageSet, gamma: float) -> Row:
    """Measures on train images, with the accuracy and loss on all test images."""
    on_train = evaluate(job.model, train_images, splits.normalise, job.temperature)
    on_test = evaluate(job.model, splits.test, splits.normalise, job.temperature)
    record = on_train.record(job.temperature, gamma)
    alive = record["loss"] is not None
    return record | {
        "test_accuracy": on_test.accuracy if alive else None,
        "test_loss": on_test.loss if alive else None,
    }


def initial_model(settings: Settings, seed: int, train: ImageSet) -> nn.Sequential:
    """The network of a seed, drawn on the CPU; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(settings, tuple(train.images.shape[1:]), len(train.classes))


def shown_gammas(gamma: float) -> list[float]:
    """Thresholds at which the ranks of layers are shown: the run's own, and 1e-2."""
    return sorted({gamma, 1e-2})


def identity(settings: Settings, job: Training) -> Row:
    """The fields that say which run a row belongs to."""
    return {"temperature": job.temperature, "model": settings.model, "seed": job.seed}


def without_spectrum(row: Row) -> Row:
    """A row fit for the metrics file: singular values stay in the summary."""
    return {name: value for name, value in row.items() if name != "singular_values"}


def draw(path: Path) -> None:
    """Draw the figures of a run folder from its files alone."""
    rows, summary = read_rows(path), read_json(path / "summary.json")
    runs, classes, gamma = summary["runs"], summary["classes"], summary["gamma"]
    predicted = runs[0]["neural_collapse_rank"]
    figures = {
        "ranks": plots.ranks_over_training(rows, classes, predicted, "epoch", "model"),
        "spectra": plots.spectra(runs, predicted, gamma, "model"),
        "layer_ranks": plots.layer_ranks(runs, "model", shown_gammas(gamma)),
    }
    for name, figure in figures.items():
        plots.save(figure, path / f"{name}.png")


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
