"""Cost of a network: parameters, operations, latency, memory."""

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from rankdeficit.diagnostics.reading.inputs import Inputs, joined
from rankdeficit.diagnostics.reading.taps import undisturbed

BATCHES = (1, 64)
"""Batch sizes at which latency is measured."""

REPEATS = 15
"""Measurements of each latency."""

FEWEST, PATIENCE = 5, 3.0
"""Minimum number of measurements, and the seconds after which no more than these are made."""


@dataclass(frozen=True)
class Latency:
    """Seconds of a forward pass, over repeats that alternate between the networks."""

    batch: int
    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    repeats: int


@dataclass(frozen=True)
class Cost:
    """Cost of a network."""

    parameters: int
    flops: int
    """Of a forward pass of one sample, by `torch.utils.flop_counter` (a multiply-add counts as two)."""
    weight_bytes: int
    """Of parameters and buffers."""
    activation_bytes: int
    """Peak memory of the tensors that a forward pass of one sample creates."""
    latency: tuple[Latency, ...]
    """For each batch size; empty if not measured."""


def costs(
    models: Sequence[nn.Module], sample: Inputs, batches: Sequence[int] = BATCHES
) -> list[Cost]:
    """Cost of each network on copies of one sample. batches: batch sizes at which to measure latency."""
    latencies = [_latencies(models, joined([sample[:1]] * size)) for size in batches]
    return [
        Cost(
            parameters(model),
            flops(model, sample[:1]),
            sum(own.nbytes for own in [*model.parameters(), *model.buffers()]),
            _peak_memory(model, sample[:1]),
            tuple(own[number] for own in latencies),
        )
        for number, model in enumerate(models)
    ]


def parameters(model: nn.Module) -> int:
    """Number of parameters; shared ones count once."""
    return sum(own.numel() for own in model.parameters())


@torch.no_grad()
def flops(model: nn.Module, sample: Inputs) -> int:
    """Operations of a forward pass."""
    with undisturbed(model), FlopCounterMode(display=False) as counter:
        sample.run(model)
    return int(counter.get_total_flops())


@torch.no_grad()
def _latencies(models: Sequence[nn.Module], inputs: Inputs) -> list[Latency]:
    times: list[list[float]] = [[] for _ in models]
    wait = _waiter(inputs)
    started = time.perf_counter()
    for repeat in range(REPEATS + 2):
        if repeat >= FEWEST + 2 and time.perf_counter() - started > PATIENCE:
            break
        for model, own in zip(models, times, strict=True):
            with undisturbed(model):
                wait()
                start = time.perf_counter()
                inputs.run(model)
                wait()
                own.append(time.perf_counter() - start)
        if repeat == 1:  # the first two warm up
            times = [[] for _ in models]
    found = []
    for own in times:
        low, median, high = statistics.quantiles(own, n=4)
        found.append(Latency(len(inputs), median, low, high, len(own)))
    return found


def _waiter(inputs: Inputs) -> Callable[[], Any]:
    device = inputs.tensors[0].device
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


@torch.no_grad()
def _peak_memory(model: nn.Module, sample: Inputs) -> int:
    fixed = [*model.parameters(), *model.buffers(), *sample.tensors]
    with undisturbed(model), _Memory(fixed) as memory:
        sample.run(model)
    return memory.peak


class _Memory(TorchDispatchMode):
    """Counts the bytes of storages that were created while the mode is active and are still alive."""

    def __init__(self, fixed: Sequence[Tensor]) -> None:
        super().__init__()
        self._fixed = {own.untyped_storage().data_ptr() for own in fixed}
        self._tensors: dict[int, int] = {}
        """Number of live tensors on each storage."""
        self._bytes: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count the tensors that it returns."""
        result = func(*args, **(kwargs or {}))
        for own in tree_leaves(result):
            if isinstance(own, Tensor):
                self._count(own)
        self.peak = max(self.peak, sum(self._bytes.values()))
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address in self._fixed or not address:
            return
        self._bytes[address] = max(self._bytes.get(address, 0), storage.nbytes())
        self._tensors[address] = self._tensors.get(address, 0) + 1
        weakref.finalize(tensor, self._forget, address).atexit = False

    def _forget(self, address: int) -> None:
        self._tensors[address] -= 1
        if not self._tensors[address]:
            del self._tensors[address], self._bytes[address]
