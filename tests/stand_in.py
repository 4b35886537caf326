"""A device that stands in for a GPU where there is none.

Its tensors live in the CPU's memory, but torch takes them for another device's. So a test sees on a
CPU what would fail on a GPU: an operation on tensors of both, a tensor made where the data are not, a
generator of the wrong device. It also sees where the host would wait for a GPU. Results are the CPU's.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode,
    return_and_correct_aliasing,
)
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

DEVICE = torch.device("lazy")
"""A device that torch knows and nothing here uses. Its backend is not loaded; `Held` has the numbers."""
CPU = torch.device("cpu")

COPIES = ("aten::_to_copy", "aten::copy_")
NUMBERS = ("aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::masked_select")
"""Operations whose result the host needs before it goes on."""
INDEXING = ("aten::index", "aten::index_put_")
IN_PASSING = 2**16
"""Bytes that CUDA takes from pageable memory without making the host wait."""


class Held(Tensor):
    """A tensor on the stand-in; `held` is the same on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Held":
        made: Held = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, layout=held.layout, device=DEVICE,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self, **options: Any) -> str:
        return f"Held({self.held!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        return Call(operation, arguments, options or {}).result()


class Call:
    """An operation of torch with its arguments, some of which may be on the stand-in."""

    def __init__(self, operation: Any, arguments: Any, options: dict[str, Any]) -> None:
        self.operation, self.arguments, self.options = operation, arguments, options
        self.name: str = operation._schema.name
        self.leaves, self.form = tree_flatten((arguments, options))
        self.ours = [leaf for leaf in self.leaves if isinstance(leaf, Held)]
        self.device = options.get("device")

    def result(self) -> Any:
        """What the CPU computes, on the device where a GPU would leave it."""
        self._check_devices()
        bare = [leaf.held if isinstance(leaf, Held) else leaf for leaf in self.leaves]
        arguments, options = tree_unflatten(bare, self.form)
        if self.device is not None:
            options["device"] = CPU
        found = self.operation(*arguments, **options)
        if not self._stays():
            return found
        held = tree_map_only(Tensor, Held, found)
        if not self.ours:
            return held
        return return_and_correct_aliasing(self.operation, self.arguments, self.options, held)

    def _stays(self) -> bool:
        """Whether the result is on the stand-in."""
        if self.name == "aten::copy_":
            return isinstance(self.arguments[0], Held)
        return bool(self.ours) if self.device is None else torch.device(self.device) == DEVICE

    def _check_devices(self) -> None:
        for leaf in self.leaves:
            on_cpu = isinstance(leaf, Tensor) and not isinstance(leaf, Held) and leaf.ndim > 0
            if on_cpu and self.ours and self.name not in COPIES:
                raise RuntimeError(f"{self.operation}: a tensor {tuple(leaf.shape)} is on the CPU")
            if isinstance(leaf, torch.Generator) and self._stays():
                raise RuntimeError(f"{self.operation}: the generator is the CPU's")

    def waits(self) -> bool:
        """Whether the host would wait: for a number, for a copy from a GPU, or for a large one to it."""
        if self.name == "aten::copy_":
            target, source, *asynchronous = self.arguments
            return self._moves(source, isinstance(target, Held), any(asynchronous))
        if self.name == "aten::_to_copy":
            asynchronous = self.options.get("non_blocking", False)
            return self._moves(self.arguments[0], self._stays(), asynchronous)
        if self.name in INDEXING:
            return any(leaf.dtype in (torch.bool, torch.uint8) for leaf in self.ours[1:])
        return self.name in NUMBERS

    @staticmethod
    def _moves(source: Tensor, to_us: bool, asynchronous: bool) -> bool:
        if isinstance(source, Held) == to_us:
            return False
        return not (to_us and asynchronous and source.nbytes <= IN_PASSING)


class StandIn(TorchDispatchMode):
    """While entered, DEVICE has numbers; `waits` lists what the host would have waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        if Held not in types and options.get("device") != DEVICE:
            return operation(*arguments, **options)
        call = Call(operation, arguments, options)
        if call.waits():
            self.waits.append(str(operation))
        return call.result()


class Literals(TorchFunctionMode):
    """Tensors made of Python's numbers, which torch would hand to DEVICE's backend."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        makes = function in (torch.tensor, torch.as_tensor)
        if makes and not isinstance(arguments[0], Tensor) and options.get("device") == DEVICE:
            return function(*arguments, **options | {"device": CPU}).to(DEVICE)
        return function(*arguments, **options)


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """The stand-in, with optimisers that fuse their steps on it as on a GPU."""
    fused = "torch.optim.optimizer._get_fused_kernels_supported_devices"
    with mock.patch(fused, return_value=["cpu", DEVICE.type]), Literals(), StandIn() as mode:
        yield mode


@contextmanager
def waits(device: torch.device) -> Iterator[list[str]]:
    """What the host waits for meanwhile, on a GPU or its stand-in: a list, filled at the end."""
    found: list[str] = []
    if device == DEVICE:
        mode = _get_current_dispatch_mode()
        assert isinstance(mode, StandIn)
        before = len(mode.waits)
        yield found
        found.extend(mode.waits[before:])
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        caught.clear()  # it warns of itself
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found.extend(str(warning.message) for warning in caught)
