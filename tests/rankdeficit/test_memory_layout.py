"""Channels last is taken where training in it keeps within its memory."""

import multiprocessing
import os
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from rankdeficit.memory_layout import safe_layout
from real_nets.models import Architecture

CPU = torch.device("cpu")
LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format
CHECKS = "MALLOC_CHECK_"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(name: str, width: int, size: int) -> nn.Module:
    return Architecture(name, 5, (3, size, size), width=width).build(0)


@pytest.mark.parametrize(
    ("name", "width", "size", "layout"),
    [
        ("resnet18", 8, 32, LAST),
        ("resnet20", 8, 32, LAST),
        ("resnet34", 8, 44, LAST),
        ("resnet18", 8, 46, CONTIGUOUS),
        ("resnet18", 8, 64, CONTIGUOUS),
        ("resnet20", 15, 64, CONTIGUOUS),
        ("resnet20", 4, 32, CONTIGUOUS),
        ("resnet18", 16, 64, LAST),
        ("resnet50", 8, 64, LAST),
        ("vgg19", 8, 64, LAST),
    ],
)
def test_narrow_networks_on_large_images_are_contiguous(
    name: str, width: int, size: int, layout: torch.memory_format
) -> None:
    model = network(name, width, size)
    assert safe_layout(model, (size, size), CPU) is layout
    assert safe_layout(model, (size, size), torch.device("cuda")) is LAST
    assert not any(module._forward_hooks for module in model.modules())


def test_threads_that_share_a_map_are_only_for_wide_networks() -> None:
    torch.set_num_threads(2)
    assert safe_layout(network("resnet18", 8, 32), (32, 32), CPU) is CONTIGUOUS
    assert safe_layout(network("resnet18", 16, 64), (64, 64), CPU) is LAST


def test_finding_the_layout_leaves_the_network_and_random_numbers() -> None:
    model = network("resnet18", 8, 64).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    safe_layout(model, (64, 64), CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def train_some() -> None:
    for size, threads, batch in ((64, 1, 8), (32, 2, 7)):
        torch.set_num_threads(threads)
        model = network("resnet20", 8, size).train()
        layout = safe_layout(model, (size, size), CPU)
        model = model.to(memory_format=layout)  # type: ignore[call-overload]
        for _ in range(3):
            images = torch.randn(batch, 3, size, size).contiguous(memory_format=layout)
            labels = torch.zeros(batch, dtype=torch.long)
            functional.cross_entropy(model(images), labels).backward()


@pytest.mark.slow  # its process imports torch with checks of memory
def test_training_keeps_within_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, CHECKS, "3")
    process = multiprocessing.get_context("spawn").Process(target=train_some)
    process.start()
    process.join(120)
    assert process.exitcode == 0
