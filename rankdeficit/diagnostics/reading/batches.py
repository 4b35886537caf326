"""What data sets give as batches, as arguments of the model and class indices."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from rankdeficit.checks import largest_magnitude
from rankdeficit.diagnostics.reading.inputs import ANYTHING, Forward, Inputs
from rankdeficit.diagnostics.reading.masks import MaskOf, asked_mask, check_mask, told_mask

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
    if isinstance(source, IterableDataset):
        return _Streamed(source, name)
    if isinstance(source, Dataset):
        if not hasattr(source, "__len__"):
            raise ValueError(f"{name} is {spelled(source)} without a length; give a loader of it")
        return DataLoader(source, DATASET_BATCH, collate_fn=partial(_collated, name))
    if isinstance(source, (str, bytes, Mapping, Tensor, np.ndarray)) or not (
        hasattr(source, "__iter__") or hasattr(source, "__getitem__")
    ):
        raise ValueError(
            f"{name} is {spelled(source)}; it must be a loader, a data set or another iterable of "
            "(inputs, labels) batches"
        )
    return source


class _Streamed:
    """An iterable data set: its items as they are if they are batches, batches of them if samples."""

    def __init__(self, source: Iterable[Any], name: str) -> None:
        self.source, self.name = source, name

    def __iter__(self) -> Iterator[Any]:
        items = iter(self.source)
        for first in items:
            rest = chain([first], items)
            if _is_sample(first):
                while samples := list(islice(rest, DATASET_BATCH)):
                    yield _collated(self.name, samples)
            else:
                yield from rest


def _is_sample(item: Any) -> bool:
    """Whether the label of an item is a single one."""
    if isinstance(item, Mapping):
        label = next((item[key] for key in LABELS if key in item), None)
    else:
        label = item[1] if isinstance(item, (tuple, list)) and len(item) > 1 else None
    return isinstance(label, Integral) or getattr(label, "ndim", None) == 0


def checked_batch(
    batch: Any,
    where: str,
    forward: Forward = ANYTHING,
    *,
    labelled: bool = True,
    mask: MaskOf = None,
) -> tuple[Inputs, Int64[Tensor, " n"]]:
    """What the model gets of a batch, and its labels.

    A batch is a pair (inputs, labels), what follows ignored, or a mapping of labels and inputs. Inputs
    are a tensor, a tuple of tensors for the model's positional arguments, or a mapping to its keyword
    arguments, of which those go that it takes. (a, b, labels) is a batch of two inputs where the
    model requires two, or where b cannot be labels and it takes two. `Inputs` stay as they are.
    labelled: without it labels are neither needed nor read, and are all 0. mask: as in `diagnose`.
    Raises ValueError for anything else, and for inputs that are NaN or infinite.
    """
    given, labels = _parts(batch, where, forward, labelled)
    inputs = _inputs(given, where, forward)
    for tensor in inputs.tensors:
        if tensor.ndim == 0 or len(tensor) != len(inputs):
            raise ValueError(
                f"{where}: inputs are {inputs}; all must have one row per sample, and as many"
            )
        _check_finite(tensor, where)
    if mask is not None:
        inputs = replace(inputs, mask=asked_mask(mask, batch, len(inputs), where))
    check_mask(inputs.mask, where)
    if not labelled:
        device = inputs.tensors[0].device
        return inputs, torch.zeros(len(inputs), dtype=torch.int64, device=device)
    labels = class_indices(labels, where)
    if len(labels) != len(inputs):
        raise ValueError(f"{where} has {len(inputs)} inputs and {len(labels)} labels")
    return inputs, labels


def class_indices(labels: Any, where: str) -> Int64[Tensor, " n"]:
    """Class indices from integers or whole numbers, (n,) or (n, 1), or from one-hot rows (n, classes)."""
    found = labels
    if isinstance(labels, (list, tuple, np.ndarray)):
        with suppress(TypeError, ValueError, RuntimeError):  # names of classes, say
            found = tensor_of(labels) if isinstance(labels, np.ndarray) else torch.as_tensor(labels)
    if isinstance(found, Tensor) and _is_plain(found):
        found = found.long() if found.dtype == torch.bool else found
        if found.ndim == 2 and found.shape[1] > 1:
            hot = ((found == 0) | (found == 1)).all() & (found.sum(dim=1) == 1).all()
            found = found.argmax(dim=1) if bool(hot) else found
        elif found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        whole = not found.is_floating_point() or bool((found == found.round()).all())
        if found.ndim == 1 and whole:
            return found.long()
    single = isinstance(labels, int) or (isinstance(found, Tensor) and found.ndim == 0)
    hint = "; make batches of single samples with torch.utils.data.DataLoader" if single else ""
    raise ValueError(
        f"{where}: labels are {spelled(labels)}; they must be class indices, one per sample, or one-hot"
        f"{hint}"
    )


def tensor_of(array: NDArray[Any]) -> Tensor:
    """The numbers of an array in memory that torch can use: a copy where order, strides or rights forbid.

    Raises TypeError for arrays of anything else, and for masked values.
    """
    if np.ma.is_masked(array):
        raise TypeError("masked values")
    kind = array.dtype.kind
    longer = kind == "f" and array.dtype.itemsize > 8
    plain = array.astype(np.float64 if longer else array.dtype.newbyteorder("="), copy=False)
    usable = plain.flags.writeable and all(stride >= 0 for stride in plain.strides)
    return torch.as_tensor(np.asarray(plain) if usable else np.array(plain, order="C"))


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


def _parts(batch: Any, where: str, forward: Forward, labelled: bool) -> tuple[Any, Any]:
    """Inputs as they were given, and labels."""
    if isinstance(batch, Mapping):
        return _of_mapping(batch, where, labelled)
    if not labelled and isinstance(batch, (Tensor, np.ndarray)):
        return batch, None
    if isinstance(batch, PackedSequence) or (
        not isinstance(batch, (tuple, list)) or len(batch) < 1 + labelled
    ):
        raise ValueError(
            f"{where} is {spelled(batch)}; batches must be pairs (inputs, labels) or mappings with "
            "inputs and labels"
        )
    if len(batch) > 2 and _several(batch, forward):
        return tuple(batch[:-1]), batch[-1] if labelled else None
    if not labelled:
        return (tuple(batch) if forward.required == len(batch) > 1 else batch[0]), None
    if len(batch) > 2 and not _can_be_labels(batch[1]):
        raise ValueError(
            f"{where} is {', '.join(map(spelled, batch))}, of which the second cannot be labels; give "
            "several inputs as ((a, b), labels) by position or as ({'name': a, ...}, labels) by keyword, "
            "for instance with a generator over the loader's batches"
        )
    return batch[0], batch[1]


def _several(batch: Sequence[Any], forward: Forward) -> bool:
    """Whether all but the last part of a batch are inputs.

    They are where the model requires as many, and where it takes as many and only the last part can be
    labels.
    """
    arrays = all(isinstance(own, (Tensor, np.ndarray)) for own in batch)
    count = len(batch) - 1
    if not arrays or not forward.takes(count) or not _can_be_labels(batch[-1]):
        return False
    return forward.required == count or not _can_be_labels(batch[1])


def _can_be_labels(values: Any) -> bool:
    try:
        class_indices(values, "")
    except ValueError:
        return False
    return True


def _of_mapping(batch: Mapping[str, Any], where: str, labelled: bool) -> tuple[Any, Any]:
    """All but the labels, and the labels."""
    keys = [key for key in LABELS if key in batch]
    if labelled and len(keys) != 1:
        raise ValueError(f"{where} has keys {list(batch)}; one must be `labels`, the class indices")
    given = {key: value for key, value in batch.items() if key not in keys}
    return given, batch[keys[0]] if labelled else None


def _inputs(values: Any, where: str, forward: Forward) -> Inputs:
    if isinstance(values, Inputs):
        return values
    if isinstance(values, Mapping):
        kinds = (Tensor, np.ndarray)
        tensors = {
            str(name): _tensor(value, f"{where}: {name}", least=1)
            for name, value in values.items()
            if isinstance(value, kinds)
        }
        found = forward.by_name(tensors)
        if found is None:
            raise ValueError(
                f"{where} has inputs {list(tensors)}, but the model's forward pass takes "
                f"({', '.join(forward.ordered)}); name them as these, or give (inputs, labels)"
            )
        return replace(found, mask=told_mask(tensors))
    several = isinstance(values, (tuple, list)) and not isinstance(values, PackedSequence)
    if several and values and all(isinstance(own, (Tensor, np.ndarray)) for own in values):
        tensors_in_order = [_tensor(own, where, least=1) for own in values]
        if not forward.takes(len(values)):
            raise ValueError(
                f"{where}: inputs are {spelled(values)}; the model's forward pass takes "
                f"({', '.join(forward.ordered)}), each as one tensor with a row per sample"
            )
        found = forward.by_position(tensors_in_order)
        return replace(found, mask=told_mask(found.named))
    return Inputs.of(_tensor(values, where, least=2))


def _tensor(values: Any, where: str, least: int) -> Tensor:
    """A dense real tensor of so many axes at least."""
    tensor = values
    if isinstance(values, np.ndarray):
        with suppress(TypeError):  # arrays of objects
            tensor = tensor_of(values)
    if not isinstance(tensor, Tensor) or not _is_plain(tensor) or tensor.ndim < least:
        raise ValueError(
            f"{where}: inputs are {spelled(values)}; they must be a dense real tensor, one row per "
            "sample, a tuple of such or a mapping to such"
        )
    return tensor


def _check_finite(inputs: Tensor, where: str) -> None:
    if not inputs.is_floating_point() or not inputs.numel():
        return
    if not math.isfinite(largest_magnitude(inputs)):
        bad = (~inputs.flatten(1).isfinite()).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(
            f"{where}: inputs {bad[:5]} have NaN or infinite values; mend or remove those samples"
        )


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is dense, real and has values of a precision that torch computes in."""
    eighth = tensor.is_floating_point() and tensor.itemsize == 1
    strided = tensor.layout == torch.strided and not tensor.is_nested
    return strided and not (tensor.is_complex() or tensor.is_meta or tensor.is_quantized or eighth)


def _collated(name: str, samples: list[Any]) -> Any:
    """A batch of samples of a data set. Raises ValueError where they do not fit together."""
    try:
        return default_collate(samples)
    except (TypeError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"{name}: samples of the data set make no batch ({error}); give a transform that makes "
            "tensors of one size, or a loader with a collate_fn"
        ) from error
