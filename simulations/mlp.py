"""Alignment, collapse and gradient rank in multi-layer perceptrons on data, at several temperatures.

The toy version of the paper's Figures 3 and 4: while a hot network grows its logits, a few singular
directions of its layers align and dominate, the rank of its representations falls, and with it the
rank of its gradients (equation 3). On Gaussian clusters, or on a folder of images.

    python -m simulations.mlp --temperature 50
    python -m simulations.mlp --data FOLDER --temperature 50 --loss mse
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.checks import check_at_least, divergence_bound
from rankdeficit.diagnostics import alignment, measure_logits
from rankdeficit.experiments import cli, tables
from rankdeficit.experiments.conduct import (
    OptimizedBatch,
    Row,
    TrainingSettings,
    check_values,
    conduct,
)
from rankdeficit.experiments.runs import RunFolder
from rankdeficit.images import Images, Normalisation, load_splits
from rankdeficit.spectrum import spectrum
from rankdeficit.toys.mlp import (
    Activation,
    BatchedMlp,
    Loss,
    MlpShape,
    gaussian_clusters,
    initial_parameters,
)
from rankdeficit.toys.optimizers import OptimizerName, make_optimizer
from simulations.reports.mlp import draw, report

PROGRAM = "simulations.mlp"
DEFAULT_LR = {"adam": 1e-3, "sgd": 0.05, "gd": 0.1}
TOP_VALUES = 5


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """Train multi-layer perceptrons and follow alignment, singular values and ranks of every layer."""

    seeds: int = 3
    """Runs per temperature, each with its own initial weights; all see the same batches."""
    temperature: tuple[float, ...] = (50.0,)
    """Softmax temperatures T; logits are divided by T."""
    baseline: bool = True
    """Train at T = 1 as well."""
    data: Path | None = None
    """Folder with train/CLASS/* and test/CLASS/* (or val) images [default: Gaussian clusters]."""
    images: int = 2000
    """Images of each split to use, drawn at random."""
    image_size: int | None = None
    """Resize images to so many pixels squared [default: leave them as they are]."""
    classes: int = 100
    """Gaussian clusters: number of classes c."""
    samples_per_class: int = 10
    """Gaussian clusters: samples per class."""
    inputs: int = 64
    """Gaussian clusters: dimensions of the inputs."""
    separation: float = 1.5
    """Gaussian clusters: distance of the means from 0, in units of the noise."""
    width: int = 128
    """Width of the hidden layers."""
    depth: int = 8
    """Weight matrices, classifier included."""
    activation: Activation = "relu"
    """Activation of the hidden layers."""
    bias: bool = False
    """Add a bias to each layer."""
    init_scale: float = 1.0
    """Factor on the initial weights, which are N(0, 2 / fan_in)."""
    loss: Loss = "ce"
    """Cross-entropy, or squared error after the softmax."""
    optimizer: OptimizerName = "adam"
    """Adam, SGD with momentum, or gradient descent."""
    lr: float | None = None
    """Learning rate, the same at every temperature [default: adam 0.001, sgd 0.05, gd 0.1]."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 0.0
    """L2 penalty on weights."""
    batch_size: int | None = None
    """Samples per step [default: all of them]."""
    steps: int = 600
    """Training steps."""
    measure_every: int = 100
    """Steps between measurements; before the first of them, measure at powers of two as well."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""

    @property
    def temperatures(self) -> tuple[float, ...]:
        """All temperatures in ascending order, the baseline's 1 among them unless switched off."""
        return tuple(sorted({*self.temperature, *((1.0,) if self.baseline else ())}))


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
        """What a checkpoint keeps."""
        return super().state() | {"generator": self.generator.get_state()}

    def restore(self, state: Row) -> None:
        """Go on from a checkpoint."""
        super().restore(state)
        self.generator.set_state(state["generator"].cpu())


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=-1) == labels).double().mean(dim=-1)


def run(settings: Settings) -> Path:
    """Train, measure, write the run folder, print the table; returns the folder."""
    if settings.data is not None:
        settings = replace(settings, data=settings.data.resolve())
    return conduct(settings, PROGRAM, prepare, work, draw, report)


def prepare(settings: Settings) -> Runs:
    """The runs and their data. Raises ValueError for settings that make no sense."""
    settings.check_common()
    check_values(temperature=settings.temperature)
    check_at_least(
        1,
        images=settings.images,
        batch_size=1 if settings.batch_size is None else settings.batch_size,
    )
    check_at_least(2, depth=settings.depth)
    return Runs(settings, load(settings))


def load(settings: Settings) -> Samples:
    """Gaussian clusters of the first seed, or images flattened and normalised."""
    device = cli.resolve_device(settings.device)
    if settings.data is None:
        x, labels = gaussian_clusters(
            settings.classes,
            settings.samples_per_class,
            settings.inputs,
            settings.separation,
            settings.seed,
        )
        return Samples(x.to(device), labels.to(device), settings.classes, None, None)
    train, test = load_splits(settings.data, settings.image_size)
    normalise = Normalisation.of(train)

    def some(images: Images) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(images.labels), generator=generator)[: settings.images]
        x = normalise(images.pixels[chosen]).flatten(1) / math.sqrt(images.pixels[0].numel())
        return x.to(device), images.labels[chosen].to(device)

    return Samples(*some(train), len(train.classes), *some(test))


def work(settings: Settings, runs: Runs, folder: RunFolder, resumed: bool) -> Row:
    """Train all runs; the summary has their last measures and outcomes."""
    settings.train([runs], folder, resumed, leave_out=["singular_values"])
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


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
