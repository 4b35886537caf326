"""The paper's networks and data sets under each budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from real_nets.data.catalogue import CATALOGUE
from real_nets.jobs.job import Job
from real_nets.models import MODELS, BudgetName

Options = Mapping[str, Any]

LOW_NORM_TEMPERATURE = 50.0
"""Temperature of networks with low logit norm, unless a network has its own. The paper names 10, 50, 100
and 1000 without telling which it took where."""


@dataclass(frozen=True)
class Budget:
    """Options of jobs, from the general to the particular.

    Options of a network under this budget are in its definition (`real_nets.models`).
    """

    name: BudgetName
    seeds: int
    common: Options
    convolutional: Options
    """Of convolutional networks."""
    datasets: Mapping[str, Options] = field(default_factory=dict)
    """By the project's name of the data set."""
    changes: Options = field(default_factory=dict)
    """Over all the others."""
    convolutional_temperature: float = LOW_NORM_TEMPERATURE
    """Of convolutional networks with low logit norm, unless one has its own: lower where matched training
    would not leave its start, higher where it takes more to move what is measured."""
    synthetic: bool = False
    """Whether glyphs stand for all data sets."""

    def job(self, dataset: str, network: str, **options: Any) -> Job:
        """The first seed's job at T = 1, or with options of its own."""
        own = MODELS.get(network)
        given: dict[str, Any] = {
            "model": network,
            "data": dataset,
            **self.common,
            **(self.convolutional if own and own.convolutional else {}),
            **(own.options.get(self.name, {}) if own else {}),
            **self.datasets.get(dataset, {}),
            **self.changes,
            **options,
        }
        if "warmup_epochs" in given:
            given["warmup_epochs"] = min(given["warmup_epochs"], LONGEST_WARMUP * given["epochs"])
        return Job(**given)

    def low_norm_temperature(self, network: str) -> float:
        """The temperature of that network's runs with low logit norm."""
        own = MODELS.get(network)
        usual = LOW_NORM_TEMPERATURE
        if own is None:
            return usual
        if own.convolutional:
            usual = self.convolutional_temperature
        return own.low_norm_temperature.get(self.name, usual)


LONGEST_WARMUP = 0.2
"""Share of training that the rate may take to rise to its peak, where there are few epochs."""

GLYPHS = "glyphs:50"
GLYPH_OOD = tuple(f"{name}:50" for name in CATALOGUE["glyphs"].ood)

PHOTOGRAPHS = {each.name: each for each in CATALOGUE.values() if each.crop is not None}
"""Data sets whose images have many sizes."""

RESIDUAL: Options = {
    "lr": 0.1,
    "nesterov": True,
    "weight_decay": 5e-4,
    "clip_norm": None,
    "augmentation": "crop-flip",
    "channels_last": True,
}
"""The usual recipe of ResNets and VGG on CIFAR; the paper's own is in an appendix that is not at hand."""

ADAPTIVE: Options = {"optimizer": "adamw", "lr": 3e-3, "clip_norm": None, "channels_last": True}
"""For networks that have minutes: Adam's steps do not shrink with the gradients, which are
T times smaller at the start, so high temperatures leave their start in fewer epochs than with SGD."""

SMOKE = Budget(
    "smoke",
    seeds=1,
    synthetic=True,
    common={
        "epochs": 12,
        "batch_size": 64,
        "followed_images": 500,
        "diagnosed_images": 1500,
        "milestones": (0.5, 0.8),
    },
    convolutional={**ADAPTIVE, "width": 8},
    convolutional_temperature=10.0,
)

SMALL = Budget(
    "small",
    seeds=3,
    common={
        "epochs": 10,
        "followed_images": 2000,
        "diagnosed_images": 5000,
        "milestones": (0.2, 0.5, 0.8, 0.9),
    },
    convolutional={**ADAPTIVE, "width": 16},
    datasets={name: {"image_size": 64, "crop": own.crop} for name, own in PHOTOGRAPHS.items()},
    convolutional_temperature=10.0,
)

_IMAGENET: Options = {
    "epochs": 90,
    "batch_size": 256,
    "weight_decay": 1e-4,
    "augmentation": "resized-crop",
    "schedule": "cosine",
    "warmup_epochs": 5.0,
    "precision": "bf16",
    "diagnosed_images": 50_000,  # of each split; all layers of all images would take half a terabyte
}

PAPER = Budget(
    "paper",
    seeds=3,
    common={
        "epochs": 160,
        "batch_size": 128,
        "followed_images": 10_000,
        "diagnosed_images": 0,
    },
    convolutional=RESIDUAL,
    datasets={
        name: {**_IMAGENET, "image_size": own.pixels, "crop": own.crop}
        for name, own in PHOTOGRAPHS.items()
    },
)

BUDGETS: dict[BudgetName, Budget] = {budget.name: budget for budget in (SMOKE, SMALL, PAPER)}


def with_changes(budget: Budget, seeds: int | None, options: Options) -> Budget:
    """The budget with another number of seeds, and options over all of its own; None leaves them."""
    changes = {name: value for name, value in options.items() if value is not None}
    return replace(budget, seeds=budget.seeds if seeds is None else seeds, changes=changes)
