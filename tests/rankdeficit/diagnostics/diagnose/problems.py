"""Data with known answers, and reports side by side."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rankdeficit.diagnostics import ProbeSettings

Batches = list[tuple[Tensor, Tensor]]
EXACT = ProbeSettings(dtype=torch.float64, tolerance=1e-7)
QUICK: dict[str, Any] = {"probes": False, "alignment": False}


def batches(inputs: Tensor, labels: Tensor, size: int = 64) -> Batches:
    return list(zip(inputs.split(size), labels.split(size), strict=True))


def blobs(n: int, centres: Tensor, spread: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(centres), (n,), generator=generator)
    noise = torch.randn(n, *centres.shape[1:], generator=generator, dtype=centres.dtype)
    return centres[labels] + spread * noise, labels


def linear(weight: Tensor, bias: float = 0.0) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.fill_(bias)
    return layer


def image_data(seed: int, n: int = 300, classes: int = 6) -> tuple[Tensor, Tensor]:
    patterns = torch.randn(classes, 3, 16, 16, generator=torch.Generator().manual_seed(99)).double()
    return blobs(n, patterns, 1.0, seed)


def differences(first: Any, second: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Leaves in which two records differ by more than 1e-10."""
    if isinstance(first, dict) and isinstance(second, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            yield from differences(first[key], second[key], f"{path}.{key}")
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f"{path}.{number}")
    elif isinstance(first, float) and isinstance(second, float):
        if abs(first - second) > 1e-10 * max(1, abs(first)):
            yield path, first, second
    elif first != second:
        yield path, first, second


def measures(report: Any) -> dict[str, Any]:
    """A report's record without its conditions."""
    return {key: value for key, value in report.record.items() if key != "conditions"}


def small_problem() -> tuple[nn.Module, Batches, Batches]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))
    centres = torch.randn(4, 5)
    return model, batches(*blobs(200, centres)), batches(*blobs(80, centres, seed=1))
