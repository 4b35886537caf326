"""What `python -m real_nets.diagnose` is asked to do, and whether that makes sense."""

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from rankdeficit.checks import check_at_least, check_seeds, check_temperature
from rankdeficit.diagnostics.measures.ood import missing_packages
from rankdeficit.diagnostics.registry import choose
from real_nets.data.opening import why_missing
from real_nets.jobs.trained import find_trained, folder_of_images
from real_nets.models import HeadNorm, Norm, Stem, model_help

Channels = tuple[float, float, float]

NETWORK_OPTIONS = tuple("model width depth stem norm head_rank head_norm".split())
TOLD_BY_RUN = (*NETWORK_OPTIONS, *"classes checkpoint untrained temperature".split())
"""Settings that `trained` decides."""


@dataclass(frozen=True)
class Settings:
    """Diagnose a trained classifier of images."""

    model: str | None = field(default=None, metadata={"help": model_help})
    checkpoint: Path | None = None
    """Its weights: .safetensors, or a state dict saved by torch.save."""
    trained: Path | None = None
    """Instead of both: the folder of a network that real_nets.train or real_nets.reproduce trained, or a
    .safetensors file in it. Gives the temperature too, and the data unless --data does."""
    untrained: bool = False
    """Diagnose random initial weights instead of a checkpoint."""
    data: Path | None = None
    """Folder with train/CLASS/* and test/CLASS/* (or val/CLASS/*) images."""
    ood: tuple[Path, ...] = ()
    """Folders of out-of-distribution images, known by their last name; of the form of --data, or with
    test images alone."""
    temperature: float | None = None
    """Softmax temperature T of training [default: the run's, else 1]."""
    classes: int | None = None
    """Classes of the network [default: as many as the data has]."""
    width: int | None = None
    """Width of hidden layers, channels of the first stage, or width of the embedding [default: the
    network's own]."""
    depth: int | None = None
    """Weight layers of mlp, blocks of vit [default: the network's own]."""
    stem: Stem = "auto"
    """First layers: cifar is for small images, in a ResNet a 3 x 3 convolution and no pooling. auto takes
    it for this project's own networks on images of up to 64 pixels."""
    norm: Norm = "default"
    """Normalisation within one of this project's own networks."""
    head_rank: int | None = None
    """Dimensions through which the classifier is factored [default: it is not]."""
    head_norm: HeadNorm = "none"
    """Normalisation after the logits."""
    image_size: int | None = None
    """Resize images to so many pixels squared, bicubic (crops bilinear) [default: as the run did, else
    leave them as they are]."""
    crop: float | None = None
    """Resize this share of the largest centred square, 0.875 for most ImageNet networks
    [default: as the run did, else squeeze the whole image]."""
    normalisation: Literal["data", "imagenet", "none"] = "data"
    """Mean and deviation per channel: of all train images (with --trained, of those that the network was
    trained with), the usual ones of ImageNet, or 0 and 1."""
    mean: Channels | None = None
    """Mean per channel on the scale 0..1, instead of --normalisation."""
    std: Channels | None = None
    """Deviation per channel, with --mean."""
    limit: int = 0
    """Use so many images of each split at most, chosen by the seed; 0 for all."""
    batch_size: int = 128
    """Images per forward pass."""
    stream: bool = False
    """Decode images while they are used, even where all fit in memory."""
    measures: tuple[str, ...] = ()
    """Names of measures to take, with those that they require [default: all not switched off]."""
    layers: tuple[str, ...] = ()
    """Names of modules, with * and ?, to look at [default: all weight layers on the main path]."""
    gamma: float | None = None
    """Threshold of the numerical rank, relative to the largest singular value [default: the run's, else
    0.001]."""
    grid: int = 2
    """Average maps to grid x grid cells before ranks and probes."""
    probes: bool = True
    """Train linear probes on every layer: effective depth, and the drop out of distribution."""
    probe_l2: tuple[float, ...] = ()
    """L2 penalties of probes, the best chosen per layer [default: 1 / train images]."""
    alignment: bool = True
    """Measure how each layer's weights align with its input."""
    gradients: bool = True
    """Measure the rank of each layer's gradient."""
    detectors: tuple[str, ...] = ()
    """Names of OOD detectors [default: all that are installed]."""
    precision: Literal["float32", "float64"] = "float32"
    """Precision of the network and the probes."""
    seed: int = 0
    """Seed of the bootstrap, of --limit and of --untrained."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    out: Path | None = None
    """New folder for the report [default: runs/diagnose-DATE-TIME]."""


def complete(settings: Settings) -> Settings:
    """The settings with absolute paths and, of `trained`, all that its folder tells."""
    changes: dict[str, Any] = {"ood": tuple(path.resolve() for path in settings.ood)}
    if settings.trained is not None:
        for own in fields(Settings):
            if own.name in TOLD_BY_RUN and getattr(settings, own.name) != own.default:
                raise ValueError(f"--trained tells which network it is; leave out --{own.name}")
        found = find_trained(settings.trained)
        changes |= {name: getattr(found.job, name) for name in NETWORK_OPTIONS}
        changes |= {"checkpoint": found.weights_file, "temperature": found.job.temperature}
        changes |= {"classes": found.cards["own"]["classes"]}
        own_size = settings.image_size is None
        settings = replace(
            settings,
            data=settings.data or folder_of_images(found),
            image_size=found.job.image_size if own_size else settings.image_size,
            crop=found.job.crop if own_size and settings.crop is None else settings.crop,
            gamma=found.job.gamma if settings.gamma is None else settings.gamma,
            trained=settings.trained.resolve(),
        )
    settings = replace(settings, **changes)
    paths = {name: getattr(settings, name) for name in ("data", "checkpoint")}
    return replace(settings, **{name: path and path.resolve() for name, path in paths.items()})


def chosen_measures(settings: Settings) -> list[str]:
    """Names of the measures to take. Raises ValueError for unknown names and switched-off measures."""
    switches = {name: getattr(settings, name) for name in ("probes", "alignment", "gradients")}
    return [own.name for own in choose(settings.measures or None, switches)]


def check(settings: Settings) -> None:
    """Raise ValueError for settings that are missing, out of range, or contradict each other."""
    if settings.model is None:
        raise ValueError(
            "model is missing; name one with --model, for example torchvision:resnet18, or a run of "
            "real_nets.train with --trained"
        )
    if settings.data is None:
        what = "data is missing; name a folder of images with --data"
        if settings.trained is None:
            raise ValueError(what)
        run = find_trained(settings.trained)
        if why := why_missing(run.job.data, run.settings.root, download=False):
            raise ValueError(f"{what} ({why})")
    if settings.untrained and settings.checkpoint:
        raise ValueError("--checkpoint and --untrained exclude each other")
    if not (settings.untrained or settings.checkpoint):
        raise ValueError(
            "checkpoint is missing; name trained weights with --checkpoint FILE, or look at random "
            "ones with --untrained"
        )
    if (settings.mean is None) != (settings.std is None):
        raise ValueError("--mean and --std belong together; give both")
    if settings.mean is not None and settings.normalisation != "data":
        raise ValueError("--mean and --normalisation exclude each other")
    if settings.crop is not None and settings.image_size is None:
        raise ValueError(f"crop is {settings.crop}; it needs an --image-size")
    if settings.out is not None and settings.out.exists() and any(settings.out.iterdir()):
        raise ValueError(f"--out {settings.out} is not empty; name a new folder")
    check_temperature(1.0 if settings.temperature is None else settings.temperature)
    check_at_least(0, limit=settings.limit)
    check_at_least(1, batch_size=settings.batch_size)
    check_seeds(settings.seed, 1)
    for penalty in settings.probe_l2:
        if not 0 <= penalty < math.inf:
            raise ValueError(f"probe_l2 is {penalty}; it must not be negative")
    chosen_measures(settings)
    for detector in settings.detectors:
        if missing := missing_packages(detector):
            raise ValueError(f"detector {detector} needs {' and '.join(missing)}: pip install it")
