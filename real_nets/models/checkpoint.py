"""Checkpoints of networks: reading them, and telling what does not fit."""

import argparse
import pickle
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from real_nets.models.build import Architecture

NESTS = ("state_dict", "model", "model_state_dict", "net")
"""Keys under which training scripts put a network's state dict."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile put before every name."""

SMALL_KERNEL = (3, 3)
"""Of the first convolution of a ResNet for small images."""

SHORTCUTS = ("shortcut", "downsample", "skip")
"""Parts of names of the projections in the shortcuts of residual networks."""

SAVED_FROM = (
    "name the network that it was saved from with --model, path/to/file.py:NAME for a definition of "
    "your own"
)

SCALAR = np.float64(0).__reduce__()[0]
"""Makes NumPy's scalars when they are unpickled."""

PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(own)) for own in (np.float64, np.float32, np.int64, np.int32, np.bool_)},
    (SCALAR, "numpy.core.multiarray.scalar"),
    (SCALAR, "numpy._core.multiarray.scalar"),
]
"""Classes of plain values beside the weights; torch.load knows Python's own."""

SHOWN = 3


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file or a file of torch.save, without wrappers' prefixes.

    Files of torch.save may hold it under one of NESTS or another key, and values beside it or in it that
    are no tensors. Raises ValueError for files that are missing, damaged, or hold other Python objects,
    such as whole networks, which are never unpickled.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist; name a .safetensors, .pt or .pth file")
    try:
        if path.suffix == ".safetensors":
            found: Any = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals(PLAIN):
                found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ValueError(
            f"checkpoint {path} holds more than tensors{f' ({what[1]})' if what else ''}: a whole "
            "network or other Python objects, which are not unpickled, as they can run any code; save "
            "model.state_dict() alone: where you trust the file and have the code of the network, with "
            "torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW_FILE), or [...] for "
            "a state dict under a key"
        ) from error
    except (
        Exception
    ) as error:  # both packages raise many kinds, for each way in which a file is damaged
        raise ValueError(
            f"checkpoint {path} cannot be read: it is damaged; save model.state_dict() with torch.save "
            "or safetensors"
        ) from error
    weights = _find_weights(found)
    if not weights:
        keys = ", ".join(map(str, list(found)[:SHOWN])) if isinstance(found, Mapping) else "none"
        raise ValueError(
            f"checkpoint {path} holds no state dict at its top or under {', '.join(NESTS)} (keys: "
            f"{keys}); save model.state_dict()"
        )
    while prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in weights)), ""):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _find_weights(found: Any) -> dict[str, Tensor]:
    """The tensors under one of NESTS, else at the top, else under the only other key that has some."""
    if not isinstance(found, Mapping):
        return {}
    nests = [own for key in NESTS if (own := _tensors(found.get(key)))]
    others = [
        own for key, value in found.items() if key != "optimizer" and (own := _tensors(value))
    ]
    if nests:
        return nests[0]
    return _tensors(found) or (others[0] if len(others) == 1 else {})


def _tensors(found: Any) -> dict[str, Tensor]:
    """What is a tensor in a mapping, by name."""
    if not isinstance(found, Mapping):
        return {}
    return {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Tensor)}


def load_weights(model: nn.Module, path: Path, architecture: Architecture) -> list[str]:
    """Put a checkpoint's weights into the network; gives the names of those that are not of it.

    The network's weights may stand under any prefix, beside a few others (of a loss, say). Raises
    ValueError that says what does not fit.
    """
    own = model.state_dict()
    weights, aside = under_prefix(read_weights(path), list(own), path)
    reshaped = {
        name: (tuple(weights[name].shape), tuple(own[name].shape))
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    }
    missing = [n for n in own if n not in weights and not n.endswith("num_batches_tracked")]
    surplus = [name for name in weights if name not in own]
    if not (reshaped or missing or surplus):
        model.load_state_dict(weights, strict=False)
        return aside
    shapes = [f"{n} is {list(a)} where the network has {list(b)}" for n, (a, b) in reshaped.items()]
    parts = [
        some("", shapes, "; "),
        some("it lacks ", missing),
        some("it has the unknown ", surplus),
    ]
    raise ValueError(
        f"checkpoint {path} does not fit {architecture.name}: {'; '.join(filter(None, parts))}; "
        + _mend(architecture, reshaped, missing, surplus)
    )


def under_prefix(
    weights: dict[str, Tensor], names: list[str], path: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights under the prefix at which most of these names are found, and what is not under it.

    Without a prefix where half of them are not found at one, or most weights are elsewhere. Raises
    ValueError where several prefixes serve as well.
    """
    counted: Counter[str] = Counter()
    known = set(names)
    for name in weights:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in known:
                counted["".join(f"{part}." for part in parts[:start])] += 1
    most = max(counted.values(), default=0)
    best = [prefix for prefix, count in counted.items() if count == most]
    if "" in best or 2 * most < len(names):
        return weights, []
    if len(best) > 1:
        raise ValueError(
            f"checkpoint {path} holds several networks, under {' and '.join(best[:SHOWN])}; save the "
            "state dict of one"
        )
    under = {n.removeprefix(best[0]): v for n, v in weights.items() if n.startswith(best[0])}
    aside = [name for name in weights if not name.startswith(best[0])]
    return (weights, []) if len(aside) > len(under) else (under, aside)


def some(before: str, names: list[str], between: str = ", ") -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return before + between.join(names[:SHOWN]) + more if names else ""


def _mend(
    architecture: Architecture,
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    missing: list[str],
    surplus: list[str],
) -> str:
    """How to make a network that the checkpoint fits, as far as names and shapes tell."""
    if missing or surplus:
        return _mend_names(architecture, missing, surplus)
    advice = []
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
    if architecture.takes("width"):
        return "give the --width and image size that it was trained with"
    return SAVED_FROM


def _mend_names(architecture: Architecture, missing: list[str], surplus: list[str]) -> str:
    """The same, where names differ: shortcuts, options that change names, else another definition."""
    told = []
    differing = [*missing, *surplus]
    for has, lacks, names, others in (
        ("this network", "the saved one", missing, surplus),
        ("the saved network", "this one", surplus, missing),
    ):
        if any(map(_is_shortcut, names)) and not any(map(_is_shortcut, others)):
            told.append(f"{has} has projections in its shortcuts, {lacks} none")
    options = []
    if any(name.endswith("running_mean") for name in differing) and architecture.takes("norm"):
        options.append("--norm")
    if architecture.takes("depth"):
        options.append("--depth")
    if options and not told:
        return f"give the {' and '.join(options)} that it was trained with, or {SAVED_FROM}"
    return "; ".join([*told, SAVED_FROM])


def _is_shortcut(name: str) -> bool:
    return any(part in SHORTCUTS for part in name.split("."))
