"""Settings that experiments share: frozen dataclasses to combine, each with its checks.

    @dataclass(frozen=True)
    class Settings(TrainingSettings, TemperatureSettings):
        steps: int = 3000

A field that only changes its default keeps the help of the class that it comes from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rankdeficit.checks import (
    check_at_least,
    check_gamma,
    check_not_empty,
    check_seeds,
    check_temperature,
)
from rankdeficit.experiments import cli
from rankdeficit.experiments.options import Unused
from rankdeficit.experiments.runs import check_new
from rankdeficit.toys.optimizers import OptimizerName

Row = dict[str, Any]


@dataclass(frozen=True)
class CommonSettings:
    """Options that all experiments have."""

    seeds: int = 4
    """Runs per configuration, each with its own seed."""
    seed: int = 0
    """First seed."""
    gamma: float = 1e-3
    """Threshold of the numerical rank, relative to the largest singular value."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    out: Path | None = None
    """New folder for the run [default: runs/NAME-DATE-TIME]."""
    resume: Path | None = None
    """Continue the run in this folder with its settings; takes no other option."""

    def check_common(self) -> None:
        """Raise ValueError unless the shared settings make sense."""
        check_gamma(self.gamma)
        check_seeds(self.seed, self.seeds)
        cli.resolve_device(self.device)
        if self.out is not None:
            check_new(self.out)

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        return {}

    @property
    def seed_range(self) -> range:
        """All seeds."""
        return range(self.seed, self.seed + self.seeds)


@dataclass(frozen=True)
class TrainingSettings(CommonSettings):
    """Options of experiments that train batches of runs step by step."""

    steps: int = 1200
    """Training steps."""
    measure_every: int = 200
    """Steps between measurements; before the first of them also after 1, 2, 4, 8, ... steps."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""

    def check_common(self) -> None:
        """Raise ValueError unless the shared settings make sense."""
        super().check_common()
        check_at_least(
            1,
            steps=self.steps,
            measure_every=self.measure_every,
            checkpoint_every=self.checkpoint_every,
        )


@dataclass(frozen=True)
class TemperatureSettings(CommonSettings):
    """The temperatures of an experiment."""

    temperature: tuple[float, ...] = (50.0,)
    """Softmax temperatures T; logits are divided by T."""

    def check_common(self) -> None:
        """Raise ValueError unless the shared settings make sense."""
        super().check_common()
        check_values(temperature=self.temperature)


@dataclass(frozen=True)
class ShapeSettings(CommonSettings):
    """The size of the problem and of the network."""

    classes: int = 100
    """Number of classes c."""
    samples_per_class: int = 10
    """Samples per class N."""
    width: int = 128
    """Width of every hidden layer, and of free features."""


@dataclass(frozen=True)
class DepthSettings(CommonSettings):
    """Depths of unconstrained feature models, whose features are one more factor."""

    depth: tuple[int, ...] = (4,)
    """Weight matrices above the free features; theory counts L = depth + 1 factors (depth 3 is L = 4)."""

    def check_common(self) -> None:
        """Raise ValueError unless the shared settings make sense."""
        super().check_common()
        check_values(depth=self.depth)


@dataclass(frozen=True)
class ClusterSettings(CommonSettings):
    """Gaussian clusters to learn."""

    inputs: int = 64
    """Gaussian clusters: dimensions of the inputs."""
    separation: float = 1.5
    """Gaussian clusters: distance of the means from 0, in units of the noise."""


@dataclass(frozen=True)
class NetworkSettings(TemperatureSettings):
    """How one network or model is trained beside its baseline at T = 1."""

    baseline: bool = True
    """Train at T = 1 as well."""
    bias: bool = False
    """Add a bias to each layer."""
    init_scale: float = 1.0
    """Scale of the initial weights."""
    loss: Literal["ce", "mse"] = "ce"
    """Cross-entropy, or squared error after the softmax."""
    optimizer: OptimizerName = "adam"
    """Adam, SGD with momentum, or gradient descent."""
    lr: float | None = None
    """Learning rate, the same at every temperature."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 0.0
    """L2 penalty lambda: lambda / 2 times the squared norm of the weights is added to the loss."""

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        found = super().unused()
        if self.optimizer != "sgd":
            found["momentum"] = f"with --optimizer {self.optimizer}; take --optimizer sgd"
        if 1.0 in self.temperature:
            found["baseline"] = "beside --temperature 1, which is the baseline; name others"
        return found

    @property
    def temperatures(self) -> tuple[float, ...]:
        """All temperatures in ascending order, the baseline's 1 among them unless switched off."""
        return tuple(sorted({*self.temperature, *((1.0,) if self.baseline else ())}))


def check_values(**lists: Sequence[Any]) -> None:
    """Raise ValueError for empty lists and for bad temperatures."""
    check_not_empty(**lists)
    for value in lists.get("temperature", ()):
        check_temperature(value)
