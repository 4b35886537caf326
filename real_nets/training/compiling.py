"""torch.compile where it works; where it does not, one line that says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


@contextmanager
def compiling() -> Iterator[None]:
    """Meanwhile compiled networks run. Raises ValueError where torch.compile fails."""
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # with all of the compiler

        if not isinstance(error, TorchDynamoException):
            raise
        said = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
        raise ValueError(
            f"torch.compile needs a C++ compiler, on GPUs also Triton, and fails here ({said}); install "
            "what it lacks, or leave out --compile"
        ) from error


@cache
def check_compiler(device: torch.device) -> None:
    """Compile something small. Raises ValueError as `compiling`."""
    compiled = torch.compile(lambda x: x.sin() + 1, dynamic=False)
    with compiling():
        compiled(torch.zeros(2, device=device))
