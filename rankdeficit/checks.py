"""Argument checks; each raises ValueError with the argument, its value and the accepted values."""

import errno
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PATH_ERRORS = (
    *(errno.EACCES, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS),
)
"""Errors of a path, where another one helps; those of a full or broken disk are not among them."""


def plain_number(value: Any) -> Any:
    """A number of NumPy, or an array or tensor of one, as Python's; anything else as it is."""
    kinds = (np.generic, np.ndarray, Tensor)
    single = isinstance(value, kinds) and math.prod(value.shape) == 1
    return value.item() if single else value


def check_temperature(temperature: Any) -> None:
    """Raise unless every temperature is a positive finite number."""
    if isinstance(temperature, Tensor):
        valid = bool(((temperature > 0) & torch.isfinite(temperature)).all())
    else:
        valid = _is_number(temperature) and math.isfinite(temperature) and temperature > 0
    if not valid:
        raise ValueError(f"temperature is {temperature!r}; it must be a positive finite number")


def check_runs(parameters: Tensor, temperatures: Tensor, parameter_count: int) -> None:
    """Raise unless `parameters` has one row of `parameter_count` entries per temperature."""
    runs = temperatures.shape[0]
    if parameters.shape != (runs, parameter_count):
        raise ValueError(
            f"parameters have shape {tuple(parameters.shape)}; {runs} runs of this shape need "
            f"({runs}, {parameter_count})"
        )


def check_temperature_in(temperatures: Tensor, dtype: torch.dtype) -> None:
    """Raise unless every temperature is positive and finite after conversion to `dtype`."""
    check_temperature(temperatures)
    rounded = temperatures.to(dtype)
    if not bool(((rounded > 0) & rounded.isfinite()).all()):
        raise ValueError(
            f"temperature is {temperatures.tolist()}, beyond {dtype}; use a moderate one or float64"
        )


def check_gamma(gamma: Any) -> None:
    """Raise unless the rank threshold lies strictly between 0 and 1."""
    if not (_is_number(gamma) and 0 < gamma < 1):
        raise ValueError(
            f"gamma is {gamma!r}; it must be a number strictly between 0 and 1, for example 1e-3"
        )


def check_at_least(least: int, **values: int) -> None:
    """Raise unless every named value is a whole number >= `least`."""
    for name, value in values.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not (whole and value >= least):
            raise ValueError(f"{name} is {value!r}; it must be a whole number, at least {least}")


def check_positive(**values: Any) -> None:
    """Raise ValueError unless the named numbers, single or in sequences, are positive and finite."""
    for name, value in values.items():
        for own in value if isinstance(value, Sequence) else (value,):
            if not 0 < own < math.inf:
                raise ValueError(f"{name} is {own}; it must be positive and finite")


def check_callable(**values: Any) -> None:
    """Raise unless every named value can be called or is None."""
    for name, value in values.items():
        if value is not None and not callable(value):
            raise ValueError(f"{name} is {value!r}; it must be a function")


def check_switch(*others: type, **values: Any) -> None:
    """Raise unless every named value is True, False or an instance of one of the other types."""
    for name, value in values.items():
        if not isinstance(value, (bool, *others)):
            named = ", ".join("None" if own is type(None) else own.__name__ for own in others)
            raise ValueError(
                f"{name} is {value!r}; it must be True, False{named and f' or {named}'}"
            )


def check_not_empty(**sequences: Sequence[Any]) -> None:
    """Raise unless every named sequence has a value."""
    for name, values in sequences.items():
        if not len(values):
            raise ValueError(f"{name} is empty; give at least one value")


def check_seeds(seed: int, seeds: int) -> None:
    """Raise unless `seeds` >= 1 and the seeds seed, seed + 1, .. all lie in 0..2^32 - 1."""
    check_at_least(1, seeds=seeds)
    if not 0 <= seed <= 2**32 - seeds:
        raise ValueError(f"seed is {seed}; it must lie in 0..{2**32 - seeds}")


def as_path(name: str, value: Any) -> Path:
    """The path that a text or a path names. Raises for anything else."""
    if not isinstance(value, str | Path) or "\0" in str(value):
        raise ValueError(f"{name} is {value!r}; it must be a path, as text or pathlib.Path")
    return Path(value)


@contextmanager
def path_errors(name: str, path: Path, doing: str = "written") -> Iterator[None]:
    """Errors inside that another path would mend are told as ValueError."""
    try:
        yield
    except OSError as error:
        if error.errno not in PATH_ERRORS:
            raise
        reason = os.strerror(error.errno)
        raise ValueError(
            f"{name} {path} cannot be {doing} ({reason}); name another place"
        ) from error


def check_output_file(name: str, path: Path) -> None:
    """Raise where no file can be written or replaced; nothing is written to see."""
    with path_errors(name, path):
        if path.is_dir():
            raise ValueError(f"{name} {path} cannot be written (it is a folder); name a file")
        _check_parents(name, path)


def check_output_folder(name: str, path: Path) -> None:
    """Raise where there can be no folder to write to; nothing is written to see."""
    with path_errors(name, path):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{name} {path} cannot be written (it is a file); name a folder")
        _check_parents(name, path / "file")


def _check_parents(name: str, path: Path) -> None:
    """Raise unless the nearest existing parent is a folder with write permission."""
    above = next(parent for parent in path.parents if parent.exists())
    if not above.is_dir():
        raise ValueError(f"{name} {path} cannot be written ({above} is a file); name another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(
            f"{name} {path} cannot be written (no permission to write to {above}); name another place"
        )


def check_floating(name: str, value: Any, dimensions: int) -> None:
    """Raise unless `value` is a dense, non-empty floating-point tensor of so many dimensions at least."""
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} is a {type(value).__name__}; pass a torch tensor (torch.as_tensor(...))"
        )
    if value.is_complex():
        raise ValueError(f"{name} has dtype {value.dtype}; it must be real")
    if not value.is_floating_point():
        raise ValueError(f"{name} has dtype {value.dtype}; convert it with {name}.double()")
    if value.itemsize == 1:
        raise ValueError(f"{name} has dtype {value.dtype}; convert it with {name}.float()")
    if value.layout != torch.strided:
        raise ValueError(f"{name} has layout {value.layout}; pass a dense one, {name}.to_dense()")
    if value.is_meta:
        raise ValueError(f"{name} is on the meta device and has no values; pass one that has some")
    if value.ndim < dimensions:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}; it needs at least {dimensions} dimension(s)"
        )
    if value.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; it must not be empty")


def check_finite(name: str, value: Tensor) -> float:
    """The largest magnitude. Raise for NaN and infinite entries, without a copy of the tensor."""
    largest = largest_magnitude(value)
    if not math.isfinite(largest):
        raise ValueError(f"{name} has NaN or infinite entries; remove or fix these samples first")
    return largest


def largest_magnitude(value: Tensor) -> float:
    """Largest |entry|, NaN where there is one, in one pass without a copy of the tensor."""
    low, high = torch.aminmax(value.detach())
    return float(torch.maximum(-low, high))


def check_magnitudes(name: str, value: Tensor) -> None:
    """Raise for NaN and infinite entries, and if squared entries overflow or underflow in float64.

    Makes no copy of the matrix.
    """
    check_finite(name, value)
    if value.dtype != torch.float64:
        return
    low, high = torch.aminmax(value, dim=-1)
    largest = torch.maximum(-low.amin(dim=-1), high.amax(dim=-1))
    if bool(((largest > 1e140) | ((largest > 0) & (largest < 1e-140))).any()):
        raise ValueError(
            f"{name} has a largest magnitude outside 1e-140..1e140, so squares leave float64; divide it "
            "by a constant (ranks and ratios of singular values do not change)"
        )


def divergence_bound(dtype: torch.dtype) -> float:
    """Magnitude of weights, representations or logits above which a run counts as diverged."""
    return 1e100 if dtype == torch.float64 else 1e30


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)  # NumPy's scalars are real too
