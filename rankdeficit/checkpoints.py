"""State dicts in the files of other programs, read without running any code in them."""

import argparse
import datetime
import pathlib
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

NESTS = ("state_dict", "model", "model_state_dict", "net")
"""Keys under which training scripts put a network's state dict."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile put before every name."""

SCALAR = np.float64(0).__reduce__()[0]
"""Makes NumPy's scalars when they are unpickled."""

ARRAY = np.zeros(0).__reduce__()[0]
"""Makes NumPy's arrays when they are unpickled."""

PATHS = (pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)

PLAIN: list[Any] = [
    argparse.Namespace,
    datetime.datetime,
    datetime.timedelta,
    np.dtype,
    np.ndarray,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?US"},
    *((make, f"numpy.{core}.multiarray.{name}")
      for make, name in ((SCALAR, "scalar"), (ARRAY, "_reconstruct"))
      for core in ("core", "_core")),
    *((own, f"{module}.{own.__name__}") for own in PATHS for module in ("pathlib", "pathlib._local")),
]  # fmt: skip
"""Classes of plain values beside the weights; torch.load knows Python's own."""

SHOWN = 3


def read_weights(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict in a .safetensors file or a file of torch.save, and notes on others beside it.

    Names are without wrappers' prefixes. Files of torch.save may hold it under one of NESTS or another
    key, and values beside it or in it that are no tensors. Raises ValueError for files that are missing,
    damaged, or hold other Python objects, such as whole networks, which are never unpickled.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist; name a .safetensors, .pt or .pth file")
    try:
        if path.suffix == ".safetensors":
            found: Any = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals(PLAIN):
                found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both packages raise many kinds, for each way to be damaged
        what = re.search(r"GLOBAL ([\w.]+)", str(error))
        if what is None or not isinstance(error, pickle.UnpicklingError):
            raise ValueError(
                f"checkpoint {path} cannot be read: it is damaged, or no file of weights; save "
                "model.state_dict() with torch.save or safetensors"
            ) from error
        raise ValueError(
            f"checkpoint {path} holds more than tensors ({what[1]}): a whole "
            "network or other Python objects, which are not unpickled, as they can run any code; save "
            "model.state_dict() alone: where you trust the file and have the code of the network, with "
            "torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW_FILE), or [...] for "
            "a state dict under a key"
        ) from error
    key, weights = _find_weights(found)
    if not weights:
        keys = ", ".join(map(str, list(found)[:SHOWN])) if isinstance(found, Mapping) else "none"
        raise ValueError(
            f"checkpoint {path} holds no state dict at its top or under {', '.join(NESTS)} (keys: "
            f"{keys}); save model.state_dict()"
        )
    weights = _unwrapped(weights)
    alike = [
        str(other)
        for other, own in found.items()
        if other != key and _unwrapped(_tensors(own)).keys() == weights.keys()
    ]
    note = f"weights of the checkpoint's {key}, not of {' and '.join(alike)} (averages, perhaps)"
    return weights, [note] if alike else []


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the prefixes of wrappers that all names have."""
    while weights and (prefix := next((p for p in WRAPPERS if _all_have(p, weights)), "")):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _all_have(prefix: str, names: Iterable[str]) -> bool:
    return all(name.startswith(prefix) for name in names)


def _find_weights(found: Any) -> tuple[str, dict[str, Tensor]]:
    """The tensors under one of NESTS, else at the top, else under the only other key that has some."""
    if not isinstance(found, Mapping):
        return "", {}
    nests = [(key, own) for key in NESTS if (own := _tensors(found.get(key)))]
    others = [
        (str(key), own)
        for key, value in found.items()
        if key != "optimizer" and (own := _tensors(value))
    ]
    if nests:
        return nests[0]
    if top := _tensors(found):
        return "", top
    return others[0] if len(others) == 1 else ("", {})


def _tensors(found: Any) -> dict[str, Tensor]:
    """What is a tensor in a mapping, by name."""
    if not isinstance(found, Mapping):
        return {}
    return {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Tensor)}


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
    layers = 2 * most * len(best) < len(weights)  # of equal names in one network
    if "" in best or 2 * most < len(names) or layers:
        return weights, []
    if len(best) > 1:
        raise ValueError(
            f"checkpoint {path} holds several networks, under {' and '.join(best[:SHOWN])}; save the "
            "state dict of one"
        )
    under = {n.removeprefix(best[0]): v for n, v in weights.items() if n.startswith(best[0])}
    aside = [name for name in weights if not name.startswith(best[0])]
    return (weights, []) if len(aside) > len(under) else (under, aside)
