"""Networks by name, from this project, torchvision or timm, and the checkpoints that fit them."""

import difflib
import importlib.util
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from rankdeficit.cli import NOT_RECORDED
from rankdeficit.runs import read_json, restore_settings
from real_nets import models, train

Stem = Literal["imagenet", "cifar"]

NESTS = ("state_dict", "model", "model_state_dict", "net")
"""Keys under which training scripts put a network's state dict."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile put before every name."""

SAVED = re.compile(r"T(.+)-seed\d+\.safetensors")
"""Name under which `real_nets.train` saves a network: its temperature and seed."""

SHOWN = 3


@dataclass(frozen=True)
class Architecture:
    """What a network is built from. `width` and `depth` are for the project's own networks alone."""

    name: str
    """torchvision:NAME, timm:NAME, or a name in `real_nets.models`."""
    classes: int
    inputs: tuple[int, int, int]
    """Channels, height and width of an image."""
    width: int
    depth: int
    stem: Stem

    def build(self, seed: int) -> nn.Module:
        """The network on the CPU in evaluation mode, with weights of a seed.

        torch's global generator is left as it was. Raises ValueError for names that nobody knows,
        packages that are missing, and a stem for a network that has none to change.
        """
        source, _, name = self.name.rpartition(":")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if source == "torchvision":
                model = self._torchvision(name)
            elif source == "timm":
                model = self._timm(name)
            elif not source and name in models.MODELS:
                model = models.build(
                    name,
                    inputs=self.inputs,
                    classes=self.classes,
                    width=self.width,
                    depth=self.depth,
                )
            else:
                own = ", ".join(sorted(models.MODELS))
                raise ValueError(
                    f"model is {self.name!r}; it must be torchvision:NAME, timm:NAME or {own}"
                )
            if self.stem == "cifar":
                _small_stem(model, self.name)
        return model.eval()

    def _torchvision(self, name: str) -> nn.Module:
        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            raise _unknown(self.name, name, known, "torchvision")
        with warnings.catch_warnings():
            # of Inception and GoogLeNet, whose initial weights will be drawn in another way
            warnings.simplefilter("ignore", FutureWarning)
            return torchvision.models.get_model(name, weights=None, num_classes=self.classes)

    def _timm(self, name: str) -> nn.Module:
        if importlib.util.find_spec("timm") is None:
            raise ValueError(f"model is {self.name!r}, but timm is not installed: pip install timm")
        import timm

        if not timm.is_model(name):
            raise _unknown(self.name, name, timm.list_models(), "timm")
        return timm.create_model(name, pretrained=False, num_classes=self.classes)


def _small_stem(model: nn.Module, name: str) -> None:
    """Give a ResNet the stem for images of 32 x 32: a 3 x 3 convolution, no pooling (He et al., 2016)."""
    stem = getattr(model, "conv1", None)
    if not isinstance(stem, nn.Conv2d) or not hasattr(model, "maxpool"):
        raise ValueError(f"stem is 'cifar', but {name} is no ResNet with conv1 and maxpool")
    small = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    model.conv1, model.maxpool = small, nn.Identity()


def _unknown(model: str, name: str, known: list[str], source: str) -> ValueError:
    close = difflib.get_close_matches(name, known, n=5) or known[:5]
    return ValueError(
        f"model is {model!r}, which {source} does not know; close names are {', '.join(close)}"
    )


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
        if any(given[2:] != own[2:] for given, own in reshaped.values() if len(own) == 4):
            other = "imagenet" if architecture.stem == "cifar" else "cifar"
            advice = [f"--stem {other}"] if "conv1.weight" in reshaped else []
        rows = {(given[0], own[0]) for given, own in reshaped.values() if given[1:] == own[1:]}
        if len(rows) == 1 and (pair := rows.pop())[1] == architecture.classes:
            if pair[0] < pair[1]:
                return f"it is for data of {pair[0]} classes"
            advice.append(f"--classes {pair[0]}")
    if advice:
        return f"try {' '.join(advice)}"
    if architecture.name in models.MODELS:
        return "give the --width, --depth and image size that it was trained with"
    return "name the network that it was saved from with --model"


@dataclass(frozen=True)
class TrainedRun:
    """A network that `real_nets.train` left in its folder."""

    settings: train.Settings
    checkpoint: Path
    temperature: float


def trained_run(path: Path) -> TrainedRun:
    """From a run folder with one network, or one of its .safetensors files.

    Raises ValueError for anything else; of several networks, it names them.
    """
    folder = path.parent if path.suffix == ".safetensors" else path
    if not (folder / "settings.json").is_file():
        raise ValueError(f"--trained {path} has no settings.json; name a folder of {train.PROGRAM}")
    written = read_json(folder / "settings.json")
    if not isinstance(written, dict) or written.get("program") != train.PROGRAM:
        raise ValueError(f"--trained {folder} is not a run of {train.PROGRAM}")
    settings = restore_settings(train.Settings, written.get("settings", {}), NOT_RECORDED)
    networks = sorted(file for file in folder.iterdir() if SAVED.fullmatch(file.name))
    chosen = [path] if folder != path else networks
    if len(chosen) != 1 or chosen[0] not in networks:
        names = _some("", [str(network) for network in networks])
        raise ValueError(
            f"--trained {path} names no network; name one of {names}"
            if networks
            else f"--trained {folder} holds no trained network; wait for it to end, or name another"
        )
    return TrainedRun(settings, chosen[0], float(SAVED.sub(r"\1", chosen[0].name)))
