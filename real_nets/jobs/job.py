"""A job: the network, data, recipe, temperature and seed of one training."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from rankdeficit.checks import (
    check_at_least,
    check_gamma,
    check_positive,
    check_seeds,
    check_temperature,
)
from rankdeficit.control.distillation import check_weight
from rankdeficit.gram import LEAST_GAMMA
from rankdeficit.image_files import square
from real_nets.data.opening import Selection
from real_nets.models import Architecture, NetworkOptions, model_help
from real_nets.training.recipe import Recipe


@dataclass(frozen=True)
class JobOptions(Recipe, NetworkOptions):
    """Options common to the jobs of an experiment: network, recipe and measurements."""

    model: str = field(default="mlp", metadata={"help": model_help})
    image_size: int | None = None
    """Side in pixels to which images are resized [default: leave them unchanged]."""
    crop: float | None = None
    """Fraction of the largest centred square to resize, 0.875 for most ImageNet networks
    [default: squeeze the whole image]."""
    per_class: int | None = None
    """Number of train images per class, the first ones [default: all]."""
    test_per_class: int | None = None
    """Number of test images per class, the first ones [default: all]."""
    gamma: float = 1e-3
    """Threshold of the numerical rank, relative to the largest singular value."""
    followed_images: int = 2000
    """Number of train images measured during training, and maximum number of each other set."""
    milestones: tuple[float, ...] = (0.5, 0.9, 0.99)
    """Accuracies on followed train images at which weights are kept, to compare at equal accuracy."""

    def check(self) -> None:
        """Raise ValueError for options that are invalid whatever the data."""
        check_gamma(self.gamma)
        if self.gamma < LEAST_GAMMA:
            raise ValueError(
                f"gamma is {self.gamma}; it must lie in [{LEAST_GAMMA:g}, 1), the resolution of the "
                "streamed Gram matrices that ranks come from"
            )
        check_at_least(1, followed_images=self.followed_images)
        for name in ("per_class", "test_per_class"):
            if (count := getattr(self, name)) is not None:
                check_at_least(1, **{name: count})
        square(self.image_size, self.crop)
        if not all(0 < milestone <= 1 for milestone in self.milestones):
            raise ValueError(f"milestones are {self.milestones}; they must lie in (0, 1]")
        self.architecture(2, (3, 32, 32))

    def architecture(self, classes: int, inputs: tuple[int, int, int]) -> Architecture:
        """The network for data with these classes and inputs (channels, height, width)."""
        options: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(NetworkOptions)}
        return Architecture(self.model, classes, inputs, **options)


@dataclass(frozen=True)
class DistillationOptions:
    """The teacher of a network, if it has one, and how much it learns from it."""

    teacher: str | None = None
    """Folder of a trained network, whose logits the student learns, or a .safetensors file in it."""
    teacher_weights: str | None = None
    """SHA-256 sum of the teacher's weights, which must not have changed [default: that of their file]."""
    kd_temperature: float = 4.0
    """Temperature of both networks' probabilities, in units of those that they are trained at."""
    kd_weight: float = 0.9
    """Weight of the distillation term; the loss with labels has the rest."""


@dataclass(frozen=True)
class Job(DistillationOptions, JobOptions):
    """One network to train and diagnose."""

    data: str = "glyphs"
    """Name of the data set."""
    ood: tuple[str, ...] = ()
    """Names of out-of-distribution data sets."""
    temperature: float = 1.0
    """Softmax temperature T; logits are divided by T."""
    seed: int = 0
    """Seed of initial weights, order of the images, augmentation and dropout."""
    diagnosed_images: int = 5000
    """Maximum number of images of each split for probes and detectors; 0 for all."""

    def check(self) -> None:
        """Raise ValueError for jobs that are invalid whatever the data."""
        super().check()
        check_temperature(self.temperature)
        check_seeds(self.seed, 1)
        check_at_least(0, diagnosed_images=self.diagnosed_images)
        check_positive(kd_temperature=self.kd_temperature)
        check_weight("kd_weight", self.kd_weight)

    @property
    def notes_on_loss(self) -> list[str]:
        """Notes on the loss for a diagnosis."""
        if self.teacher is None:
            return super().notes_on_loss
        return [f"gradient ranks are of the loss with labels alone; the teacher was {self.teacher}"]

    @property
    def selection(self) -> Selection:
        """The ID images."""
        return Selection(self.data, self.image_size, self.crop, self.per_class, self.test_per_class)

    @property
    def key(self) -> str:
        """Name of the job's folder, with a digest of all fields that differ from their defaults.

        New options therefore leave the keys of older results unchanged.
        """
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = {f.name: own[f.name] for f in fields(self) if own[f.name] != f.default}
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        model = self.model.replace(":", "-")
        temperature = f"{self.temperature:g}"
        return f"{self.data.replace(':', '-')}_{model}_T{temperature}_seed{self.seed}_{digest}"

    @property
    def kind(self) -> "Job":
        """Representative of all jobs that differ only in temperature, seed, lr and milestones."""
        return replace(self, temperature=1.0, seed=0, lr=1.0, milestones=())

    def notes(self, last_temperature: float) -> list[str]:
        """Notes on the training for a diagnosis."""
        on_schedule = self.notes_on_schedule(self.temperature, last_temperature)
        return [*self.notes_on_loss, *on_schedule, *self.notes_on_interventions]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Job":
        """The job of a `record` read from JSON. Raises TypeError for unknown fields."""
        options: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        return cls(**options)

    def record(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)
