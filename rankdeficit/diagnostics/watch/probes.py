"""The samples on which a training is watched, and a context in which measuring them leaves no trace."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.batches import as_batches, checked_batch
from rankdeficit.diagnostics.reading.contexts import Defaults, plain_torch
from rankdeficit.diagnostics.reading.inputs import Forward, Inputs
from rankdeficit.distributed import raise_together, rank_and_size

Probe = tuple[Inputs, Int64[Tensor, " n"]]

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
PARTS = ("sampler", "batch_sampler", "dataset", "transform", "data_source")
"""Attributes of loaders, samplers and data sets under which others may be."""


def first_samples(batches: Iterable[Any], forward: Forward, samples: int) -> list[Probe]:
    """Copies of the first samples, in batches: in each process its share of `samples`.

    Raises ValueError as `checked_batch`, and if there are none, in all processes if it occurs in one.
    """
    rank, size = rank_and_size()
    if samples < size:
        raise ValueError(
            f"samples is {samples}; it must be at least {size}, the number of processes"
        )
    own, failure, kept = samples // size + (rank < samples % size), None, []
    try:
        kept = _first_samples(batches, forward, own)
    except ValueError as error:
        failure = error
    raise_together(failure)  # the others wait for this process where they share states
    return kept


def _first_samples(batches: Iterable[Any], forward: Forward, samples: int) -> list[Probe]:
    kept: list[Probe] = []
    missing = samples
    with same_generators(batches):
        for number, batch in enumerate(as_batches(batches, "batches")):
            inputs, labels = checked_batch(batch, f"batches, batch {number}", forward)
            chosen = torch.arange(min(len(labels), missing))
            if len(chosen):
                kept.append((inputs[chosen], labels[chosen]))
            missing -= len(chosen)
            if not missing:
                break
    if not kept:
        raise ValueError("batches is empty; give at least one batch of (inputs, labels)")
    return kept


@contextmanager
def same_generators(batches: Any) -> Iterator[None]:
    """The random generators of a loader, its samplers and its data set are afterwards what they were."""
    found: list[Any] = []
    waiting, seen = [batches], set[int]()
    while waiting:
        own = waiting.pop()
        if id(own) in seen:
            continue
        seen.add(id(own))
        values = vars(own) if hasattr(own, "__dict__") else {}
        found += [value for value in values.values() if isinstance(value, GENERATORS)]
        waiting += [values[name] for name in PARTS if values.get(name) is not None]
        for name in ("datasets", "transforms"):
            several = values.get(name)
            waiting += several if isinstance(several, list | tuple) else [several]
    states = [_state(own) for own in found]
    try:
        yield
    finally:
        for own, state in zip(found, states, strict=True):
            _restore(own, state)


def _state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


@contextmanager
def no_trace(model: nn.Module) -> Iterator[Defaults]:
    """`plain_torch`, after which the states of all random generators are what they were."""
    parameters = [own.device for own in model.parameters()]
    devices = {own for own in parameters if own.type not in ("cpu", "meta")}
    kind = next((own.type for own in devices), "cuda")
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # the global one
    try:
        with (
            torch.random.fork_rng([own.index or 0 for own in devices], device_type=kind),
            plain_torch() as defaults,
        ):
            yield defaults
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def numbers(fields: Any, depth: int, prefix: str = "") -> dict[str, int | float]:
    """The numbers of nested mappings down to a depth, by dotted name."""
    found: dict[str, int | float] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping) and depth > 1:
            found |= numbers(value, depth - 1, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = value
    return found


def intervals(measures: Mapping[str, int] | Sequence[str]) -> dict[str, int]:
    """How many measurements apart each measure is taken. Raises ValueError for anything else."""
    if isinstance(measures, str):
        raise ValueError(f"measures is {measures!r}; it must be a list of names, [{measures!r}]")
    found = dict(measures) if isinstance(measures, Mapping) else dict.fromkeys(measures, 1)
    for name, interval in found.items():
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f"measures[{name!r}] is {interval}; it must be a positive integer")
    return found
