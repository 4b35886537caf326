"""Checkpoints of networks: reading them, and saying what does not fit."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from rankdeficit.experiments.runs import read_json
from rankdeficit.images import ImageFiles, ImageSet, held_out_folder, list_splits, square
from real_nets import train
from real_nets.data.catalogue import Dataset, open_dataset
from real_nets.data.checked_images import OnCorrupt
from real_nets.jobs import folder as job_folder
from real_nets.jobs.job import Job
from real_nets.models import MODELS, Architecture

NESTS = ("state_dict", "model", "model_state_dict", "net")
"""Keys under which training scripts put a network's state dict."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile put before every name."""

SMALL_KERNEL = (3, 3)
"""Of the first convolution of a ResNet for small images."""

SHOWN = 3


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file or a file of torch.save, without wrappers' prefixes.

    Files of torch.save may hold it under one of NESTS. Raises ValueError for files that are missing,
    damaged, or hold Python objects, which are never unpickled.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist; name a .safetensors, .pt or .pth file")
    try:
        if path.suffix == ".safetensors":
            found: Any = safetensors.torch.load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # both packages raise many kinds, for each way in which a file is damaged
        raise ValueError(
            f"checkpoint {path} cannot be read: it is damaged, or holds more than tensors; save "
            "model.state_dict() with torch.save or safetensors"
        ) from error
    weights = next((found[key] for key in NESTS if _is_weights(_get(found, key))), found)
    if not _is_weights(weights):
        keys = ", ".join(map(str, list(found)[:SHOWN])) if isinstance(found, dict) else "none"
        raise ValueError(
            f"checkpoint {path} holds no state dict at its top or under {', '.join(NESTS)} (keys: "
            f"{keys}); save model.state_dict()"
        )
    while prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in weights)), ""):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _get(found: Any, key: str) -> Any:
    return found.get(key) if isinstance(found, dict) else None


def _is_weights(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and len(found) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())
    )


def load_weights(model: nn.Module, path: Path, architecture: Architecture) -> None:
    """Put a checkpoint's weights into the network. Raises ValueError that says what does not fit."""
    weights = read_weights(path)
    own = model.state_dict()
    reshaped = {
        name: (tuple(weights[name].shape), tuple(own[name].shape))
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    }
    missing = [n for n in own if n not in weights and not n.endswith("num_batches_tracked")]
    surplus = [name for name in weights if name not in own]
    if not (reshaped or missing or surplus):
        model.load_state_dict(weights, strict=False)
        return
    shapes = [f"{n} is {list(a)} where the network has {list(b)}" for n, (a, b) in reshaped.items()]
    parts = [
        _some("", shapes, "; "),
        _some("it lacks ", missing),
        _some("it has the unknown ", surplus),
    ]
    raise ValueError(
        f"checkpoint {path} does not fit {architecture.name}: {'; '.join(filter(None, parts))}; "
        + _mend(architecture, reshaped, bool(missing or surplus))
    )


def _some(before: str, names: list[str], between: str = ", ") -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return before + between.join(names[:SHOWN]) + more if names else ""


def _mend(architecture: Architecture, reshaped: dict[str, Any], other_names: bool) -> str:
    """How to make a network that the checkpoint fits, as far as shapes tell."""
    advice = []
    if not other_names:
        given, own = reshaped.get("conv1.weight", ((), ()))
        if given[2:] != own[2:]:
            advice.append(f"--stem {'cifar' if given[2:] == SMALL_KERNEL else 'imagenet'}")
        rows = {(given[0], own[0]) for given, own in reshaped.values() if given[1:] == own[1:]}
        if len(rows) == 1 and (pair := rows.pop())[1] == architecture.classes:
            if pair[0] < pair[1]:
                return f"it is for data of {pair[0]} classes"
            advice.append(f"--classes {pair[0]}")
    if advice:
        return f"try {' '.join(advice)}"
    if architecture.name in MODELS:
        return (
            "give the --width, --depth, --norm, --head-rank and image size that it was trained with"
        )
    return "name the network that it was saved from with --model"


@dataclass(frozen=True)
class TrainedRun:
    """A network that `real_nets.train` or `real_nets.reproduce` left in its folder."""

    job: Job
    checkpoint: Path
    classes: int
    root: Path | None
    """The folder that its data set was in."""
    images: int
    """Its train images."""
    skipped: int
    """Images of it that could not be read."""

    @property
    def folder(self) -> Path | None:
        """Its folder of images, as far as it had one that is still there and can be read."""
        if self.root is None or self.skipped:
            return None
        folder = self.root / self.job.data
        return folder if (folder / "train").is_dir() and held_out_folder(folder) else None

    def data(self, image_size: int | None, crop: float | None) -> Dataset:
        """Its data set, without the images that could not be read. Raises ValueError if it is gone."""
        skip: OnCorrupt = "skip" if self.skipped else "stop"
        name, root = self.job.data, self.root
        return open_dataset(name, root, image_size=image_size, crop=crop, on_corrupt=skip)

    def is_framed(self, data: Path | None, image_size: int | None, crop: float | None) -> bool:
        """Whether that folder (None: its own data) and that framing give the images of its training."""
        own = self.folder and self.folder.resolve()
        framed = (image_size, crop) == (self.job.image_size, self.job.crop)
        return framed and data in (None, own)

    def train_images(self) -> ImageFiles | ImageSet:
        """All that it was trained with, framed as they were then; those of a folder are not decoded.

        Raises ValueError if they are gone, or if there are more or fewer than there were.
        """
        size, crop = self.job.image_size, self.job.crop
        if self.folder is None:
            found = self.data(size, crop).train
        else:
            found, _ = list_splits(self.folder, replace(square(size), crop=crop))
        if len(found) != self.images:
            raise ValueError(
                f"data {self.job.data} has {len(found)} train images, where there were {self.images}"
            )
        return found


def trained_run(path: Path) -> TrainedRun:
    """From a network's folder, a run folder with one network, or a .safetensors file in one.

    Raises ValueError for anything else; of several networks, it names them.
    """
    folder = path.parent if path.suffix == ".safetensors" else path
    if not (folder / "settings.json").is_file():
        raise ValueError(
            f"--trained {path} has no settings.json; name a folder of {train.PROGRAM} or of a job"
        )
    written = read_json(folder / "settings.json")
    program = written.get("program") if isinstance(written, dict) else None
    if program == train.PROGRAM:
        networks = sorted(found.parent for found in folder.glob("*/weights.safetensors"))
        if len(networks) > 1:
            names = _some("", [str(network) for network in networks])
            raise ValueError(f"--trained {path} names no network; name one of {names}")
        if not networks:
            begun = sorted(found.parent for found in folder.glob("*/settings.json"))
            if len(begun) == 1:
                raise _without_weights(begun[0], job_folder.JobFolder(begun[0]))
            raise ValueError(
                f"--trained {folder} holds no trained network; wait for it to end, or name another"
            )
        return trained_run(networks[0])
    if program != job_folder.PROGRAM:
        raise ValueError(f"--trained {folder} is no folder of a trained network")
    checkpoint = path if path.suffix == ".safetensors" else folder / "weights.safetensors"
    if not checkpoint.is_file():
        raise _without_weights(path, job_folder.JobFolder(folder))
    settings = written["settings"]
    try:
        job, root, own = Job.of(settings["job"]), settings["root"], settings["data"]["own"]
        classes, images, skipped = own["classes"], own["train_images"], own["skipped"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / 'settings.json'} is of another version ({error}); give --model and --checkpoint"
        ) from error
    return TrainedRun(job, checkpoint, classes, root and Path(root), images, skipped)


def _without_weights(path: Path, folder: job_folder.JobFolder) -> ValueError:
    """What to raise for a job's folder, or a file in it, where there are no such weights."""
    if not folder.finished:
        return ValueError(
            f"--trained {path} holds no weights yet; wait for it to end, or name another"
        )
    if path.suffix == ".safetensors" and (kept := sorted(folder.path.glob("*.safetensors"))):
        return ValueError(
            f"--trained {path} does not exist; the job kept {_some('', [file.name for file in kept])}"
        )
    if folder.summary()["outcome"] == "diverged":
        return ValueError(f"--trained {path} diverged and left no weights; name another network")
    return ValueError(
        f"--trained {path} holds no weights, though its training has ended: an export of "
        "real_nets.report leaves them out; name the folder that was exported, or train again"
    )
