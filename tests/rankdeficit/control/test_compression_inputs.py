"""Compression of unusual networks, under a caller's autocast, inference mode and default device."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from rankdeficit.control import compress
from rankdeficit.control.compression.promise import Paired
from tests.rankdeficit.control.test_compression import (
    CHOOSE,
    CLASSES,
    INPUTS,
    TRAIN,
    Tail,
    learned,
    outputs,
    run,
)


@pytest.fixture(scope="module")
def tail() -> nn.Module:
    torch.manual_seed(0)
    return learned(Tail(), lambda name: name.startswith("tail"))


@pytest.fixture(scope="module")
def usual(tail: nn.Module) -> Tensor:
    return outputs(run(tail, steps=["cut", "project"], repair_epochs=1).model)


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: torch.device("meta"),
    ],
    ids=["no_grad", "inference_mode", "autocast", "default device"],
)
def test_contexts_of_the_caller_change_nothing(
    context: Callable[[], AbstractContextManager[Any]], tail: nn.Module, usual: Tensor
) -> None:
    with context():
        found = run(tail, steps=["cut", "project"], repair_epochs=1)
    assert torch.equal(outputs(found.model), usual)


class Among(nn.Module):
    """Logits among other outputs of their shape."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        return {"rows": rows, "scores": self.inner(rows)}


def test_logits_that_the_caller_picks(tail: nn.Module) -> None:
    """A network that is cut returns its logits alone."""
    found = run(Among(tail), steps=["cut"], logits=lambda output: output["scores"])
    assert found.plan.cut == "inner.first"
    assert torch.equal(outputs(found.model), outputs(run(tail, steps=["cut"]).model))


class Scaled(nn.Conv1d):
    """A convolution of another class, with weights of its own scale."""

    def __init__(self) -> None:
        super().__init__(8, 12, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.conv1d(maps, self.weight / self.weight.std(), self.bias)


class Unusual(nn.Module):
    """A transposed convolution, an assertion on the features, and a head called by keyword."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.first = nn.ConvTranspose1d(1, 8, 3)
        self.last = last
        self.head = nn.Linear(12, CLASSES, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        features = self.last(self.first(rows[:, None]).relu()).mean(dim=2)
        assert features.shape[1] == 12
        logits: Tensor = self.head(input=features)
        return logits


@pytest.mark.parametrize("last", [Scaled, lambda: nn.Conv1d(8, 12, 1)], ids=["own", "plain"])
def test_a_layer_that_must_keep_its_width_gets_a_linear_layer_behind_it(
    last: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    model = learned(Unusual(last()))
    found = run(model, steps=["project"], gamma=1e-6)
    assert found.plan.rank == CLASSES
    assert [(own.before, own.after) for own in found.layers] == [(8, 8), (12, CLASSES)]
    assert [own.out_features for own in found.model.head] == [CLASSES, CLASSES]
    torch.testing.assert_close(outputs(found.model), outputs(model), rtol=1e-4, atol=1e-4)


def test_a_loss_of_the_margin_is_exact() -> None:
    """One image of a hundred is a loss of 0.01, not of 0.99 - 0.98 in floating point."""
    before = torch.arange(100) > 0
    assert Paired.of(before, before & (torch.arange(100) > 1), 0.01, 0.01).loss == 0.01


def hooked() -> nn.Module:
    """A network whose weights a hook computes, which torch cannot copy."""
    model = nn.Sequential(spectral_norm(nn.Linear(INPUTS, CLASSES)))
    model(torch.ones(2, INPUTS))
    return model


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"train": [(rows, labels + 1) for rows, labels in TRAIN]}, "train"),
        ({"choose": [(rows, labels - 1) for rows, labels in CHOOSE]}, "exploring"),
        ({"test": [(rows, labels + 1) for rows, labels in TRAIN]}, "test"),
        ({"test": []}, "test has no samples"),
        ({"model": hooked()}, "parametrizations"),
    ],
    ids=["train", "choose", "test", "empty", "hook"],
)
def test_wrong_use(options: dict[str, Any], told: str, tail: nn.Module) -> None:
    usual = {"model": tail, "train": TRAIN, "choose": CHOOSE, "steps": ["project"]}
    with pytest.raises(ValueError, match=told):
        compress(**usual | {"lose_at_most": 0.03, "latency": False} | options)
