"""A diagnosis under the settings of torch that its caller has made for other work."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


@dataclass(frozen=True)
class Defaults:
    """Where and in which precision torch makes tensors of which nothing is said."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def now(cls) -> "Defaults":
        """Those in force."""
        return cls(torch.get_default_device(), torch.get_default_dtype())

    @contextmanager
    def used(self) -> Iterator[None]:
        """Use these as long as the context is open."""
        dtype = torch.get_default_dtype()
        with ExitStack() as stack:
            if torch.get_default_device() != self.device:
                stack.enter_context(self.device)
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(self.dtype)
            yield

    def batches(self, source: Iterable[Any]) -> Iterator[Any]:
        """Batches, made under these defaults while what reads them has others."""
        with self.used():
            stream = iter(source)
        while True:
            with self.used():
                try:
                    batch = next(stream)
                except StopIteration:
                    return
            yield batch


PLAIN = Defaults(torch.device("cpu"), torch.float32)
"""Torch's own, under which everything but models and data sets runs."""


KINDS = ("cpu", "cuda", "xpu", "mps")
"""Devices with an autocast of their own."""


@contextmanager
def full_precision() -> Iterator[None]:
    """No autocast and no inference mode."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in KINDS:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def plain_torch() -> Iterator[Defaults]:
    """No autocast, no inference mode and torch's own defaults; gives the caller's defaults.

    Autocast would change the precision in which the model runs, and inference mode forbids gradients.
    Raises ValueError where tensors have no values that can be read: inside torch.func's transforms and
    FakeTensorMode.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise ValueError(
            "called inside a transform of torch.func (grad, vmap, jvp), which replaces tensors; call it "
            "outside"
        )
    if any(isinstance(mode, FakeTensorMode) for mode in _get_current_dispatch_mode_stack()):
        raise ValueError(
            "called inside FakeTensorMode, where tensors have no values; leave it first"
        )
    caller = Defaults.now()
    with ExitStack() as stack:
        stack.enter_context(full_precision())
        stack.enter_context(PLAIN.used())
        yield caller
