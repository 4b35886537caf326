"""Several processes, one per GPU or share of the CPU, as torchrun starts them."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as distributed
from torch import nn

from rankdeficit import cli
from rankdeficit.sharding import rank_and_size


@contextmanager
def joined(device_name: str) -> Iterator[torch.device]:
    """The device of this process; under torchrun, within a process group of all processes.

    GPUs talk by nccl, CPUs by gloo. Raises ValueError for more processes than GPUs.
    """
    device = cli.resolve_device(device_name)
    if not distributed.is_torchelastic_launched():
        yield device
        return
    if device.type == "cuda":
        number, processes = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        gpus = torch.cuda.device_count()
        if device.index is not None or processes > gpus:
            raise ValueError(
                f"device is {device_name!r} for {processes} processes, which need a GPU each; "
                f"use --device cuda and --nproc-per-node {gpus}"
            )
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", device_id=device)
    else:
        distributed.init_process_group("gloo")
    # torchrun ends its processes by this signal: they clean up, and it alone tells of it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield device
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise ValueError("another process has failed; see what it says") from error
        raise
    finally:
        distributed.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return rank_and_size()[0] == 0


def from_first(value: Any) -> Any:
    """What the first process has, in all of them; every process must call it."""
    box = [value]
    if rank_and_size()[1] > 1:
        distributed.broadcast_object_list(box)
    return box[0]


def buffers_from_first(model: nn.Module) -> None:
    """Give all processes the first one's buffers: BatchNorm's differ, each having seen its own images."""
    if rank_and_size()[1] > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def progress(description: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
    """`cli.progress` in the first process, silence in the others."""
    return cli.progress(description, total) if is_first() else nullcontext(lambda done: None)
