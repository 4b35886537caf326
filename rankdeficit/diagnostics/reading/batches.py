"""What data sets give as batches, as inputs and class indices."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

Data = Iterable[Any] | Dataset[Any]
"""What is taken for a data set: batches, or samples that are made into batches."""

DATASET_BATCH = 128
"""Samples of a batch of a data set that is given without a loader."""

LABELS = ("labels", "label", "targets", "target", "y")
"""Keys under which batches that are mappings have their labels."""


def as_batches(source: Any, name: str) -> Iterable[Any]:
    """Batches of a loader or another iterable, or of a data set of samples, in its own order.

    Raises ValueError for anything else.
    """
    if isinstance(source, Dataset) and not isinstance(source, IterableDataset):
        return DataLoader(source, batch_size=DATASET_BATCH)
    if isinstance(source, (str, bytes, Mapping, Tensor, np.ndarray)) or not (
        hasattr(source, "__iter__") or hasattr(source, "__getitem__")
    ):
        raise ValueError(
            f"{name} is {spelled(source)}; it must be a loader, a data set or another iterable of "
            "(inputs, labels) batches"
        )
    return source


def checked_batch(
    batch: Any, where: str, *, labelled: bool = True
) -> tuple[Tensor, Int64[Tensor, " n"]]:
    """Inputs and labels of a batch: of a pair, what may follow ignored, or of a mapping.

    labelled: without it labels are neither needed nor read, and are all 0. Raises ValueError for
    anything else, and for inputs that are NaN or infinite.
    """
    inputs, labels = _parts(batch, where, labelled)
    inputs = _inputs(inputs, where)
    if not labelled:
        return inputs, torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    labels = class_indices(labels, where)
    if len(labels) != len(inputs):
        raise ValueError(f"{where} has {len(inputs)} inputs and {len(labels)} labels")
    return inputs, labels


def class_indices(labels: Any, where: str) -> Int64[Tensor, " n"]:
    """Class indices from integers or whole numbers, (n,) or (n, 1), or from one-hot rows (n, classes)."""
    found = labels
    if isinstance(labels, (list, tuple, np.ndarray)):
        with suppress(TypeError, ValueError, RuntimeError):  # names of classes, say
            found = torch.as_tensor(labels)
    if isinstance(found, Tensor) and _is_plain(found):
        if found.ndim == 2 and found.shape[1] > 1:
            hot = ((found == 0) | (found == 1)).all() & (found.sum(dim=1) == 1).all()
            found = found.argmax(dim=1) if bool(hot) else found
        elif found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        whole = not found.is_floating_point() or bool((found == found.round()).all())
        if found.ndim == 1 and whole:
            return found.long()
    raise ValueError(
        f"{where}: labels are {spelled(labels)}; they must be class indices, one per sample, or one-hot"
    )


def spelled(value: Any) -> str:
    """A value in few words, for messages."""
    if isinstance(value, Tensor):
        layout = "" if value.layout == torch.strided else f" {value.layout}"
        kind = " meta" if value.is_meta else ""
        return f"a{layout}{kind} tensor of shape {tuple(value.shape)} and {value.dtype}"
    if value is None or isinstance(value, (bool, int, float)):
        return str(value)
    size = f" of {len(value)}" if hasattr(value, "__len__") else ""
    return f"a {type(value).__name__}{size}"


def _parts(batch: Any, where: str, labelled: bool) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        return _of_mapping(batch, where, labelled)
    if not labelled and isinstance(batch, (Tensor, np.ndarray)):
        return batch, None
    if not isinstance(batch, (tuple, list)) or len(batch) < 1 + labelled:
        raise ValueError(
            f"{where} is {spelled(batch)}; batches must be pairs (inputs, labels) or mappings with "
            "inputs and labels"
        )
    return batch[0], batch[1] if labelled else None


def _of_mapping(batch: Mapping[str, Any], where: str, labelled: bool) -> tuple[Any, Any]:
    """The labels, and the only other tensor: the model takes it as its first argument."""
    keys = [key for key in LABELS if key in batch]
    if labelled and len(keys) != 1:
        raise ValueError(f"{where} has keys {list(batch)}; one must be `labels`, the class indices")
    inputs = [
        key for key in batch if key not in keys and isinstance(batch[key], (Tensor, np.ndarray))
    ]
    if len(inputs) != 1:
        raise ValueError(
            f"{where} has inputs {inputs}; diagnose takes one tensor per sample: give (inputs, labels) "
            "pairs and a module that makes the other arguments of the model"
        )
    return batch[inputs[0]], batch[keys[0]] if labelled else None


def _inputs(values: Any, where: str) -> Tensor:
    inputs = values
    if isinstance(values, np.ndarray):
        with suppress(TypeError):  # arrays of objects
            inputs = torch.as_tensor(values)
    if not isinstance(inputs, Tensor) or not _is_plain(inputs) or inputs.ndim < 2:
        raise ValueError(
            f"{where}: inputs are {spelled(values)}; they must be a dense real tensor, one row per sample"
        )
    if inputs.is_floating_point() and inputs.numel() and not bool(inputs.isfinite().all()):
        bad = (~inputs.flatten(1).isfinite()).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(
            f"{where}: inputs {bad[:5]} have NaN or infinite values; mend or remove those samples"
        )
    return inputs


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_complex() and not tensor.is_meta
