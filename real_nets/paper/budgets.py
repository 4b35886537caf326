"""What the paper's networks and data sets become under each budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from real_nets.jobs.job import Job

BudgetName = Literal["smoke", "small", "paper"]
Options = Mapping[str, Any]

LOW_NORM_TEMPERATURE = 50.0
"""Temperature of networks with low logit norm, unless a network has its own. The paper names 10, 50, 100
and 1000 without telling which it took where."""


@dataclass(frozen=True)
class Budget:
    """Options of jobs, from the general to the particular: all, by network, by data set."""

    seeds: int
    common: Options
    networks: Mapping[str, Options]
    """By the project's name of the network; others get the common options."""
    datasets: Mapping[str, Options] = field(default_factory=dict)
    """By the project's name of the data set."""
    low_norm_temperatures: Mapping[str, float] = field(default_factory=dict)
    """By network, instead of LOW_NORM_TEMPERATURE: lower where matched training would not leave its
    start, higher where it takes more to move what is measured."""
    synthetic: bool = False
    """Whether glyphs stand for all data sets."""

    def job(self, dataset: str, network: str, **options: Any) -> Job:
        """The first seed's job at T = 1, or with options of its own."""
        chosen = {
            **self.common,
            **self.networks.get(network, {}),
            **self.datasets.get(dataset, {}),
        }
        given = {"model": network, "data": dataset} | chosen | options
        if "warmup_epochs" in given:
            given["warmup_epochs"] = min(given["warmup_epochs"], LONGEST_WARMUP * given["epochs"])
        return Job(**given)

    def low_norm_temperature(self, network: str) -> float:
        """The temperature of that network's runs with low logit norm."""
        return self.low_norm_temperatures.get(network, LOW_NORM_TEMPERATURE)


LONGEST_WARMUP = 0.2
"""Share of training that the rate may take to rise to its peak, where there are few epochs."""

OOD_SETS = {
    "cifar10": ("svhn", "cifar100"),
    "cifar100": ("svhn", "cifar10"),
}
"""Generalisation is measured on the first (SVHN for CIFAR, as in the paper), detection on all."""
DEFAULT_OOD = ("cifar100",)

GLYPHS = "glyphs:50"
GLYPH_OOD = ("glyph-letters:50", "glyph-fonts:50")

RESIDUAL: Options = {
    "lr": 0.1,
    "nesterov": True,
    "weight_decay": 5e-4,
    "clip_norm": None,
    "augmentation": "crop-flip",
}
"""The usual recipe of ResNets and VGG on CIFAR; the paper's own is in an appendix that is not public."""

CONVOLUTIONAL = ("resnet18", "resnet20", "resnet34", "resnet50", "vgg19")

ADAPTIVE: Options = {"optimizer": "adamw", "lr": 3e-3, "weight_decay": 0.0, "clip_norm": None}
"""For networks that have minutes: Adam's steps do not shrink with the gradients, which are
T times smaller at the start, so high temperatures leave their start in fewer epochs than with SGD."""

SMALL_VIT: Options = {**ADAPTIVE, "model": "vit", "lr": 1e-3, "warmup_epochs": 1.0}
"""A vision transformer from scratch, where the pretrained ViT-B would be too large."""

SMOKE = Budget(
    seeds=1,
    synthetic=True,
    common={
        "epochs": 12,
        "batch_size": 64,
        "followed_images": 500,
        "diagnosed_images": 1500,
        "milestones": (0.5, 0.8),
    },
    networks={
        "mlp": {**ADAPTIVE, "lr": 3e-4, "width": 256, "epochs": 30},
        **{name: {**ADAPTIVE, "width": 8, "channels_last": True} for name in CONVOLUTIONAL},
        "vit_b16": {**SMALL_VIT, "width": 48, "depth": 4},
    },
    low_norm_temperatures=dict.fromkeys((*CONVOLUTIONAL, "vit_b16"), 10.0),
)

SMALL = Budget(
    seeds=3,
    common={
        "epochs": 10,
        "followed_images": 2000,
        "diagnosed_images": 5000,
        "milestones": (0.2, 0.5, 0.8, 0.9),
    },
    networks={
        "mlp": {"width": 512, "epochs": 25},
        **{name: {**ADAPTIVE, "width": 16, "channels_last": True} for name in CONVOLUTIONAL},
        "vit_b16": {**SMALL_VIT, "width": 64, "depth": 6},
    },
    datasets={name: {"image_size": 64, "crop": 0.875} for name in ("imagenet100", "imagenet")},
    low_norm_temperatures={**dict.fromkeys((*CONVOLUTIONAL, "vit_b16"), 10.0), "resnet20": 100.0},
)

_IMAGENET: Options = {
    "epochs": 90,
    "batch_size": 256,
    "weight_decay": 1e-4,
    "augmentation": "resized-crop",
    "image_size": 224,
    "crop": 0.875,
    "schedule": "cosine",
    "warmup_epochs": 5.0,
    "precision": "bf16",
    "diagnosed_images": 50_000,  # of each split; all layers of all images would take half a terabyte
}

PAPER = Budget(
    seeds=3,
    common={
        "epochs": 160,
        "batch_size": 128,
        "followed_images": 10_000,
        "diagnosed_images": 0,
    },
    networks={
        "mlp": {"width": 512, "epochs": 100},
        **{name: {**RESIDUAL, "channels_last": True} for name in CONVOLUTIONAL},
        "vit_b16": {
            "pretrained": True,
            "image_size": 224,
            "epochs": 10,
            "optimizer": "adamw",
            "lr": 1e-5,
            "weight_decay": 0.05,
            "warmup_epochs": 1.0,
            "precision": "bf16",
            "augmentation": "flip",
        },
    },
    datasets={"imagenet100": _IMAGENET, "imagenet": _IMAGENET},
)

BUDGETS: dict[str, Budget] = {"smoke": SMOKE, "small": SMALL, "paper": PAPER}


def with_changes(budget: Budget, seeds: int | None, options: Options) -> Budget:
    """The budget with another number of seeds, and options that override all of its own."""
    override = {name: value for name, value in options.items() if value is not None}
    return replace(
        budget,
        seeds=budget.seeds if seeds is None else seeds,
        common={**budget.common, **override},
        networks={name: {**own, **override} for name, own in budget.networks.items()},
        datasets={name: {**own, **override} for name, own in budget.datasets.items()},
    )
