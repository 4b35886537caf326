"""Checkpoints of networks: reading them, and telling what does not fit."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from real_nets.models.build import MODELS, Architecture

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
        some("", shapes, "; "),
        some("it lacks ", missing),
        some("it has the unknown ", surplus),
    ]
    raise ValueError(
        f"checkpoint {path} does not fit {architecture.name}: {'; '.join(filter(None, parts))}; "
        + _mend(architecture, reshaped, bool(missing or surplus))
    )


def some(before: str, names: list[str], between: str = ", ") -> str:
    """The first few names and how many more there are."""
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
