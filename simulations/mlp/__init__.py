"""Alignment, collapse and gradient rank in multi-layer perceptrons on data, at several temperatures.

The toy version of the paper's Figures 3 and 4: while a hot network grows its logits, a few singular
directions of its layers align and dominate, the rank of its representations falls, and with it the
rank of its gradients (equation 3). On Gaussian clusters, or on a folder of images.

    python -m simulations.mlp --temperature 50
    python -m simulations.mlp --data FOLDER --temperature 50 --loss mse
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import check_at_least, divergence_bound
from rankdeficit.diagnostics import alignment, measure_logits
from rankdeficit.experiments import cli, tables
from rankdeficit.experiments.experiment import StepByStep, experiment
from rankdeficit.experiments.image_splits import tell_of_files
from rankdeficit.experiments.loops import OptimizedBatch
from rankdeficit.experiments.options import Unused
from rankdeficit.experiments.settings import (
    ClusterSettings,
    NetworkSettings,
    Row,
    ShapeSettings,
    TrainingSettings,
)
from rankdeficit.images import Images, load_splits
from rankdeficit.normalisation import Normalisation
from rankdeficit.spectrum import spectrum
from rankdeficit.toys.labels import long_tailed_counts, noisy_labels
from rankdeficit.toys.mlp import (
    Activation,
    BatchedMlp,
    MlpShape,
    gaussian_clusters,
    initial_parameters,
)
from rankdeficit.toys.optimizers import make_optimizer
from simulations.mlp import report

DEFAULT_LR = {"adam": 1e-3, "sgd": 0.05, "gd": 0.1}
TOP_VALUES = 5


@dataclass(frozen=True)
class Settings(TrainingSettings, NetworkSettings, ShapeSettings, ClusterSettings):
    """Train multi-layer perceptrons and follow alignment, singular values and ranks of every layer."""

    seeds: int = 3
    """Runs per temperature, each with its own initial weights; all see the same batches."""
    data: Path | None = None
    """Folder with train/CLASS/* and test/CLASS/* (or val) images [default: Gaussian clusters]."""
    images: int = 2000
    """Number of images of each split to use, drawn at random."""
    image_size: int | None = None
    """Side in pixels of the squares that images are resized to [default: no resizing]."""
    classes: int = 100
    """Gaussian clusters: number of classes c."""
    samples_per_class: int = 10
    """Gaussian clusters: samples per class."""
    imbalance: float = 1.0
    """Gaussian clusters: samples of the largest class over those of the smallest; between them sizes fall
    geometrically."""
    label_noise: float = 0.0
    """Share of the train labels that are drawn anew from all classes."""
    depth: int = 8
    """Weight matrices, classifier included: the number of layers L."""
    activation: Activation = "relu"
    """Activation of the hidden layers."""
    init_scale: float = 1.0
    """Factor on the initial weights, which are N(0, 2 / fan_in)."""
    lr: float | None = None
    """Learning rate, the same at every temperature [default: adam 0.001, sgd 0.05, gd 0.1]."""
    batch_size: int | None = None
    """Samples per step [default: all of them]."""
    steps: int = 600
    measure_every: int = 100
    checkpoint_every: int = 100

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        found = super().unused()
        if self.data is None:
            of_images = ("images", "image_size")
            return found | dict.fromkeys(of_images, "on Gaussian clusters; give --data FOLDER")
        of_clusters = ("classes", "samples_per_class", "inputs", "separation", "imbalance")
        return found | dict.fromkeys(of_clusters, "on images; leave out --data")


class Samples(NamedTuple):
    """Labelled samples to train on and, for images, to test on."""

    x: Float[Tensor, "n inputs"]
    labels: Int64[Tensor, " n"]
    classes: int
    test_x: Float[Tensor, "m inputs"] | None
    test_labels: Int64[Tensor, " m"] | None


class Runs(OptimizedBatch):
    """All temperatures and seeds in one model."""

    def __init__(self, settings: Settings, samples: Samples) -> None:
        self.settings, self.samples = settings, samples
        self.shape = MlpShape(
            samples.x.shape[1], samples.classes, settings.width, settings.depth,
            settings.activation, settings.bias,
        )  # fmt: skip
        self.runs = list(product(settings.temperatures, settings.seed_range))
        parameters = initial_parameters(
            self.shape,
            [seed for _, seed in self.runs],
            scale=settings.init_scale,
            device=samples.x.device,
        )
        self.parameters = parameters
        self.model = BatchedMlp(
            self.shape,
            parameters,
            torch.tensor([T for T, _ in self.runs], dtype=torch.float64),
            loss=settings.loss,
            weight_decay=settings.weight_decay,
        )
        lr = DEFAULT_LR[settings.optimizer] if settings.lr is None else settings.lr
        self.optimizer = make_optimizer(
            settings.optimizer, parameters, self.model.gradient, lr, momentum=settings.momentum
        )
        self.generator = torch.Generator().manual_seed(settings.seed)

    def step(self) -> None:
        """One training step of every run on the same batch."""
        x, labels = self.samples.x, self.samples.labels
        size = self.settings.batch_size
        if size is not None and size < len(labels):
            index = torch.randperm(len(labels), generator=self.generator)[:size].to(x.device)
            x, labels = x[index], labels[index]
        self.model.compute_gradient(x[None], labels[None])
        self.optimizer.step()

    def measure(self, step: int) -> list[Row]:
        """One row per run, on all train samples; measures of a run that diverged are None."""
        x, labels = self.samples.x[None], self.samples.labels[None]
        with torch.no_grad():
            layers = self.model.forward(x)
            loss = self.model.data_loss(x, labels)
        gradients = self.model.weight_gradients(x, labels)
        alive = loss.isfinite()
        for values in (*layers.inputs, layers.logits, *gradients):
            alive &= (values.abs() < divergence_bound(values.dtype)).all(dim=(1, 2))
        weights, _ = self.shape.unpack(self.model.parameters)

        def measurable(values: Tensor) -> Tensor:
            return torch.where(alive[:, None, None], values, 0)

        logits = measurable(layers.logits)
        measures = measure_logits(logits, self.model.temperatures, self.settings.gamma)
        representations = [spectrum(measurable(values)) for values in (*layers.inputs, logits)]
        ranks = [s.rank(self.settings.gamma) for s in representations]
        gradient_ranks = [spectrum(measurable(g)).rank(self.settings.gamma) for g in gradients]
        aligned = [
            alignment(measurable(weight), measurable(inputs))
            for weight, inputs in zip(weights, layers.inputs, strict=True)
        ]
        accuracy = _accuracy(logits, labels)
        test_accuracy = self._test_accuracy()
        top = representations[-2].singular_values[:, :TOP_VALUES]
        rows = []
        for i, (temperature, seed) in enumerate(self.runs):
            own = [float(layer[i]) for layer in aligned]
            measured = {
                "loss": loss[i].item(),
                "accuracy": accuracy[i].item(),
                **({} if test_accuracy is None else {"test_accuracy": test_accuracy[i].item()}),
                **measures.record(i),
                "alignment": sum(own) / len(own),
                "alignment_per_layer": own,
                "layer_ranks": [int(layer[i]) for layer in ranks],
                "gradient_ranks": [int(layer[i]) for layer in gradient_ranks],
                "top_singular_values": top[i].tolist(),
                "hidden_rank": int(ranks[-2][i]),
            }
            run = {
                "step": step,
                "temperature": temperature,
                "depth": self.shape.depth,
                "seed": seed,
            }
            rows.append(run | (measured if alive[i] else dict.fromkeys(measured)))
        return rows

    @torch.no_grad()
    def _test_accuracy(self) -> Tensor | None:
        if self.samples.test_x is None or self.samples.test_labels is None:
            return None
        logits = self.model.forward(self.samples.test_x[None]).logits
        return _accuracy(logits, self.samples.test_labels[None])

    def state(self) -> Row:
        """The state to save in a checkpoint."""
        return super().state() | {"generator": self.generator.get_state()}

    def restore(self, state: Row) -> None:
        """Continue from the state of a checkpoint."""
        super().restore(state)
        self.generator.set_state(state["generator"].cpu())


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=-1) == labels).double().mean(dim=-1)


def load(settings: Settings) -> Samples:
    """Gaussian clusters of the first seed, or images flattened and normalised."""
    device = cli.resolve_device(settings.device)
    noisy = partial(noisy_labels, noise=settings.label_noise, seed=settings.seed)
    if settings.data is None:
        x, labels = gaussian_clusters(
            settings.classes,
            settings.samples_per_class,
            settings.inputs,
            settings.separation,
            settings.seed,
        )
        counts = long_tailed_counts(
            settings.classes, settings.samples_per_class, settings.imbalance
        )
        place = torch.arange(len(labels)) % settings.samples_per_class
        kept = place < torch.tensor(counts)[labels]
        x, labels = x[kept], noisy(labels[kept], settings.classes)
        return Samples(x.to(device), labels.to(device), settings.classes, None, None)
    train, test = load_splits(settings.data, settings.image_size)
    tell_of_files(train, test)
    normalise = Normalisation.of(train.pixels)

    def some(images: Images) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(images.labels), generator=generator)[: settings.images]
        x = normalise(images.pixels[chosen]).flatten(1) / math.sqrt(images.pixels[0].numel())
        return x.to(device), images.labels[chosen].to(device)

    x, labels = some(train)
    classes = len(train.classes)
    return Samples(x, noisy(labels, classes), classes, *some(test))


def bound_sentences(runs: Iterable[Row]) -> list[str]:
    """How often the numerical rank of a gradient is at most that of the activations it is made from."""
    pairs = [
        (gradient, activation)
        for run in runs
        if run["layer_ranks"]
        for gradient, activation in zip(run["gradient_ranks"], run["layer_ranks"][:-1], strict=True)
    ]
    within = sum(gradient <= activation for gradient, activation in pairs)
    return [
        f"The numerical rank of the gradient is at most that of the layer's input in {within} of "
        f"{len(pairs)} layers (equation 3 bounds exact ranks)."
    ]


@experiment
class Mlp(StepByStep[Settings, Runs]):
    """Do the layers of a multi-layer perceptron align and collapse when its temperature is high?"""

    settings = Settings
    leave_out = ("singular_values",)

    def complete(self, settings: Settings) -> Settings:
        """The same with an absolute path to the images."""
        return replace(settings, data=settings.data and settings.data.resolve())

    def prepare(self, settings: Settings) -> list[Runs]:
        """One batch of all runs, with their data."""
        check_at_least(
            1,
            images=settings.images,
            batch_size=1 if settings.batch_size is None else settings.batch_size,
        )
        check_at_least(2, depth=settings.depth)
        return [Runs(settings, load(settings))]

    def summarise(self, settings: Settings, batches: Sequence[Runs], path: Path) -> Row:
        """Last measures and outcome of every run, and the verdict in words."""
        (runs,) = batches
        classes = runs.samples.classes
        uniform = math.log(classes) if settings.loss == "ce" else 1 - 1 / classes
        predicted = tables.neural_collapse_rank(classes, settings.width)
        rows = [
            {
                **row,
                "neural_collapse_rank": predicted,
                "outcome": tables.outcome(row["loss"], row["accuracy"], uniform),
            }
            for row in runs.measure(settings.steps)
        ]
        return {
            "runs": rows,
            "verdict": [*tables.verdicts(rows, "depth"), *bound_sentences(rows)],
            "gamma": settings.gamma,
            "classes": classes,
            "samples": len(runs.samples.labels),
        }

    def report(self, summary: Row) -> tuple[Table, Sequence[str]]:
        """The table, layer by layer ranks, and the verdict."""
        return report.report(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Ranks, alignment and singular values over training; gradient ranks at the end."""
        return report.figures(rows, summary)
