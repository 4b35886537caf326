"""torch.compile with its failures as one-line errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


@contextmanager
def compiling() -> Iterator[None]:
    """Convert a failure of torch.compile inside the block to a ValueError."""
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # slow: imports the compiler

        if not isinstance(error, TorchDynamoException):
            raise
        reason = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
        raise ValueError(
            f"torch.compile needs a C++ compiler, on GPUs also Triton, and fails here ({reason}); "
            "install the compiler, or leave out --compile"
        ) from error


@cache
def check_compiler(device: torch.device) -> None:
    """Compile a small function on the device. Raises ValueError if that fails."""
    compiled = torch.compile(lambda x: x.sin() + 1, dynamic=False)
    with compiling():
        compiled(torch.zeros(2, device=device))
