"""Budgets: the job options of the paper's networks and data sets at three scales."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from real_nets.data.catalogue import definition_of
from real_nets.jobs.job import Job
from real_nets.models import MODELS, BudgetName, HighTemperatures, JobChanges
from real_nets.models.build import FEW_STEPS

USUAL = HighTemperatures(
    50.0,
    "it is in the middle of the 10, 50, 100 and 1000 that the paper lists without assigning them",
)
"""Default high temperature."""


@dataclass(frozen=True)
class Budget:
    """Options of jobs, later fields overriding earlier ones.

    The options of a single network under a budget are in its definition (`real_nets.models`).
    """

    name: BudgetName
    seeds: int
    common: JobChanges
    convolutional: JobChanges
    """Options of convolutional networks."""
    photographs: JobChanges | None = None
    """Options of data sets of photographs, whose images have many sizes; None for no jobs on them."""
    changes: JobChanges = field(default_factory=dict)
    """Options that override all others."""
    temperatures: HighTemperatures = USUAL
    """High temperatures, unless a network has its own."""
    convolutional_temperatures: HighTemperatures = USUAL
    """The same of convolutional networks."""
    synthetic: bool = False
    """Whether glyphs replace all data sets."""

    def job(self, dataset: str, network: str, **options: Any) -> Job:
        """The job with seed 0 at T = 1, unless the options say otherwise."""
        own, data = MODELS.get(network), definition_of(dataset)
        resizing: JobChanges = {}
        if data is not None and data.crop is not None and self.photographs is not None:
            resizing = {"image_size": data.pixels, "crop": data.crop, **self.photographs}
        given: dict[str, Any] = {
            "model": network,
            "data": dataset,
            **self.common,
            **(self.convolutional if own and own.convolutional else {}),
            **(own.options.get(self.name, {}) if own else {}),
            **resizing,
            **self.changes,
            **options,
        }
        if "warmup_epochs" in given:
            given["warmup_epochs"] = min(given["warmup_epochs"], MAX_WARMUP * given["epochs"])
        return Job(**given)

    def high_temperatures(self, network: str) -> HighTemperatures:
        """Temperatures at which the network has a low logit norm."""
        own = MODELS.get(network)
        if own is None:
            return self.temperatures
        usual = self.convolutional_temperatures if own.convolutional else self.temperatures
        return own.temperatures.get(self.name, usual)


MAX_WARMUP = 0.2
"""Maximum warm-up as a fraction of training, which limits it for few epochs."""

GLYPHS = "glyphs:50"
GLYPH_OOD = ("glyph-letters:50", "glyph-fonts:50")

RESIDUAL: JobChanges = {
    "lr": 0.1,
    "nesterov": True,
    "weight_decay": 5e-4,
    "clip_norm": None,
    "augmentation": "crop-flip",
    "channels_last": True,
}
"""The usual recipe of ResNets and VGG on CIFAR; the paper's own is in an appendix that is not at hand."""

ADAPTIVE: JobChanges = {"optimizer": "adamw", "lr": 3e-3, "clip_norm": None, "channels_last": True}
"""Recipe of convolutional networks for short trainings. Gradients are initially T times smaller, but
Adam's steps are not, so networks at high temperature leave their initial loss sooner than with SGD."""

NARROW: JobChanges = {
    **RESIDUAL,
    "clip_norm": 5.0,
    "augmentation": "none",
    "width": 16,
    "epochs": 30,
    "warmup_epochs": 1.0,
}
"""RESIDUAL for narrow networks: without augmentation, so that they fit their train images within 30
epochs, with warm-up and clipping for the first steps."""

NARROW_TEMPERATURES = HighTemperatures(
    10.0,
    "a narrow convolutional network must grow its logits T times over from few features: a ResNet-18 of "
    "width 16 on CIFAR-100 collapses to rank 6 at T = 50 within 3 epochs of this recipe and has learnt "
    "nothing after 12 (train accuracy 3 to 5 %), while at T = 10 it learns (67 %, rank 65)",
)

RecipeName = Literal["budget", "adaptive"]
RECIPES: Mapping[RecipeName, JobChanges | None] = {
    "budget": None,
    "adaptive": {**ADAPTIVE, "width": 16},
}
"""Recipes that replace a budget's own for convolutional networks; None replaces nothing."""

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
    convolutional_temperatures=FEW_STEPS,
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
    convolutional=NARROW,
    photographs={"image_size": 64},
    convolutional_temperatures=NARROW_TEMPERATURES,
)

IMAGENET: JobChanges = {
    "epochs": 90,
    "batch_size": 256,
    "weight_decay": 1e-4,
    "augmentation": "resized-crop",
    "schedule": "cosine",
    "warmup_epochs": 5.0,
    "precision": "bf16",
    "diagnosed_images": 50_000,  # features of all layers on all images would take half a terabyte
}

PAPER = Budget(
    "paper",
    seeds=3,
    common={"epochs": 160, "batch_size": 128, "followed_images": 10_000, "diagnosed_images": 0},
    convolutional=RESIDUAL,
    photographs=IMAGENET,
)

BUDGETS: dict[BudgetName, Budget] = {budget.name: budget for budget in (SMOKE, SMALL, PAPER)}


def with_changes(
    budget: Budget, seeds: int | None, options: JobChanges, recipe: RecipeName = "budget"
) -> Budget:
    """The budget with other seeds, overriding options, another recipe of convolutional networks.

    None keeps a value.
    """
    changes = {name: value for name, value in options.items() if value is not None}
    own = RECIPES[recipe] or budget.convolutional
    seeds = budget.seeds if seeds is None else seeds
    return replace(budget, seeds=seeds, changes=changes, convolutional=own)
