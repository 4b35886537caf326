"""A network in half and single precision against the same weights and inputs in float64.

The networks round what they compute: each layer's output by at most eps/2 relative to its largest entry
and once more per accumulated block, and a few layers add up. Continuous measures may therefore move by a
few eps; `FEW` is about twice the number of rounded operations on the way. Counts of samples (accuracies,
rates, AUROC) move by one sample where two scores lie that close, and so do numbers made of counts.
"""

import copy
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rankdeficit as rd
from rankdeficit.diagnostics import ProbeSettings
from rankdeficit.diagnostics.measures.pairing import unpack_means
from tests.rankdeficit.diagnostics.diagnose.problems import batches, blobs

FEW = 16
PRECISIONS = [torch.float16, torch.bfloat16, torch.float32]
SAMPLES = 200, 100
NOT_MEASURED = ("iterations", "gradient_norm", "converged", "neco_variant")
COUNTS = (
    *("accuracy", "auroc", "aupr", "fpr", "agreement", "ood_drop", "effective_depth"),
    *("ece", "detection", "placements"),
)
RANKS = ("rank", "rank_curve", "rank_interval")
"""Of singular values below eps of the largest nothing is known: ranks are compared by hand below."""


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(12, 20, bias=False), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 4)
    )


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


NETWORKS = {"mlp": (mlp, (12,)), "convolutional": (convolutional, (3, 16, 16))}


def trained(kind: str, dtype: torch.dtype) -> tuple[nn.Sequential, list[tuple[Tensor, Tensor]]]:
    """A network that has learned its data, and train, test and OOD data, exact in the precision."""
    model, data = in_single_precision(kind)
    return copy.deepcopy(model).to(dtype), [(x.to(dtype), y) for x, y in data]


@cache
def in_single_precision(kind: str) -> tuple[nn.Sequential, list[tuple[Tensor, Tensor]]]:
    make, shape = NETWORKS[kind]
    torch.manual_seed(0)
    model, centres = make(), torch.randn(4, *shape)
    data = [
        blobs(n, centres, 1.0, seed)
        for n, seed in zip((*SAMPLES, SAMPLES[1]), range(3), strict=True)
    ]
    data[2] = 1.5 * data[2][0].flip(-1), data[2][1]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[0][0]), data[0][1]).backward()
        optimizer.step()
    return model, data


def rescaled(model: nn.Sequential, exponent: int) -> nn.Sequential:
    """The first ReLU layer without bias larger by a power of two, the second weight as much smaller."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed[0].weight *= 2.0**exponent
        changed[2].weight *= 2.0**-exponent
    return changed


def record(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    train, test, other = (batches(*part) for part in data)
    probes = ProbeSettings(dtype=torch.float64, tolerance=1e-7, resamples=50)
    return rd.diagnose(model, train, test, {"other": (other, other)}, 2.0, probes=probes).record


@cache
def plain(kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """The record of a trained network as it is."""
    return record(*trained(kind, dtype))


def leaves(first: Any, second: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            yield from leaves(first[key], second[key], f"{path}.{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), path
        for number, pair in enumerate(zip(first, second, strict=True)):
            yield from leaves(*pair, f"{path}.{number}")
    elif re.fullmatch(r"\.placements\..*\.(id|ood)", path):
        yield from leaves(*(unpack_means(own).tolist() for own in (first, second)), f"{path}.group")
    else:
        yield path, first, second


def far(reference: dict[str, Any], found: dict[str, Any], dtype: torch.dtype) -> list[Any]:
    """Measures that differ by more than rounding."""
    eps, one = torch.finfo(dtype).eps, 1 / min(SAMPLES)
    different = []
    for path, expected, value in leaves(reference, found):
        parts = path.split(".")
        if parts[1] in ("conditions", "notes") or any(name in parts for name in NOT_MEASURED):
            continue
        if isinstance(expected, (str, bool)) or expected is None:
            close = expected == value
        elif any(name in parts for name in RANKS):
            close = eps > 1e-6 or abs(expected - value) <= 1
        else:
            slack = 4 * one if any(name in path for name in COUNTS) and eps > 1e-6 else 0.0
            if "alignment_error" in path:  # a difference of maxima over close directions
                slack += 4 * eps**0.5
            close = abs(expected - value) <= FEW * eps * max(abs(expected), 0.1) + slack
        if not close:
            different.append((path, expected, value))
    return different


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_measure_is_that_of_float64_up_to_rounding(kind: str, dtype: torch.dtype) -> None:
    model, data = trained(kind, dtype)
    found = plain(kind, dtype)
    assert found["train"]["accuracy"] > 0.9
    assert not far(record(copy.deepcopy(model).double(), data), found, dtype)


@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [(torch.float16, 10), (torch.float16, -6), (torch.bfloat16, 100), (torch.bfloat16, -100),
     (torch.float32, 120), (torch.float32, -100)],
)  # fmt: skip
@pytest.mark.parametrize("kind", NETWORKS)
def test_activations_of_any_size_change_no_measure(
    kind: str, dtype: torch.dtype, exponent: int
) -> None:
    model, data = trained(kind, dtype)
    assert not far(plain(kind, dtype), record(rescaled(model, exponent), data), dtype)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_small_gradients_do_not_vanish(dtype: torch.dtype) -> None:
    # A saturated network: errors p - y of 1e-9 and less, below what float16 holds.
    model, data = trained("mlp", dtype)
    with torch.no_grad():
        model[4].weight *= 8
        model[4].bias *= 8
    pair = batches(*data[0]), batches(*data[1])
    options: dict[str, Any] = {"probes": False, "temperature": 0.25}
    found = rd.diagnose(model, *pair, **options)
    expected = rd.diagnose(copy.deepcopy(model).double(), *pair, **options)
    for layer in (0, 2, 4):
        for name in ("stable_rank", "effective_rank"):
            path = f"layers.{layer}.gradient.{name}"
            assert found[path] >= 1
            if dtype == torch.float32:
                assert found[path] == pytest.approx(expected[path], rel=1e-3)


def test_activations_beyond_the_format_are_told() -> None:
    model, data = trained("mlp", torch.float16)
    train, test = batches(*data[0]), batches(*data[1])
    with pytest.raises(ValueError, match="NaN"):
        rd.diagnose(rescaled(model, 15), train, test, probes=False)
