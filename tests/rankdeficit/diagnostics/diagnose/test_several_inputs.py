"""Models of several inputs, padding, and sizes that differ between batches."""

from collections import UserDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rankdeficit as rd
from rankdeficit.diagnostics.report import Report
from tests.rankdeficit.diagnostics.diagnose.problems import (
    QUICK,
    Batches,
    batches,
    blobs,
    differences,
    measures,
)

WIDTH, CLASSES, LONGEST = 6, 4, 9


class Sum(nn.Module):
    """A perceptron of a + b, optional c ignored."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(WIDTH, 8), nn.Linear(8, CLASSES)

    def forward(self, a: Tensor, b: Tensor, c: Tensor | None = None) -> dict[str, Tensor]:
        return {"loss": a.sum(), "logits": self.head(self.hidden(a + b).relu())}


class Whole(Sum):
    """The same of a + b as one input."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, torch.zeros_like(x))["logits"]


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "triple": lambda a, b, y: (a, b, y),
    "nested": lambda a, b, y: ((a, b), y),
    "list": lambda a, b, y: [[a, b], y],
    "numpy": lambda a, b, y: ((a.numpy(), b.numpy()), y.numpy()),
    "named": lambda a, b, y: ({"b": b, "a": a}, y),
    "mapping": lambda a, b, y: {"b": b, "labels": y, "a": a, "unknown": b, "text": ["x"] * len(a)},
    "encoding": lambda a, b, y: UserDict({"a": a, "b": b, "label": y}),
}


def problem() -> tuple[nn.Module, nn.Module, Batches, Batches]:
    torch.manual_seed(0)
    model, whole = Sum().double(), Whole().double()
    whole.load_state_dict(model.state_dict())
    centres = torch.randn(CLASSES, WIDTH).double()
    return model, whole, batches(*blobs(90, centres)), batches(*blobs(60, centres, seed=1))


EVERYTHING: dict[str, Any] = {"gradient_samples": 1000, "rows_per_sample": 1}


@pytest.fixture(scope="module")
def expected() -> Report:
    """The report of a network that reads the sum of both inputs."""
    _, whole, train, test = problem()
    return rd.diagnose(whole, train, test, {"o": (train, test)}, **EVERYTHING)


@pytest.mark.parametrize("form", FORMS)
def test_two_inputs_in_any_form_give_the_numbers_of_their_sum(form: str, expected: Report) -> None:
    model, _, train, test = problem()

    def split(data: Batches) -> list[Any]:
        return [FORMS[form](0.25 * x, 0.75 * x, y) for x, y in data]

    found = rd.diagnose(
        model, split(train), split(test), {"o": (split(train), split(test))}, **EVERYTHING
    )
    for number, layer in enumerate(found["layers"]):
        for name in ("train", "gradient", "input"):
            assert layer[name]["rank_curve"] == expected["layers"][number][name]["rank_curve"]
        assert layer["alignment"] == pytest.approx(expected["layers"][number]["alignment"])
    for name in (
        "train.loss",
        "test.logits.logits_norm",
        "effective_depth.value",
        "detection.o.msp.auroc",
    ):
        assert found[name] == pytest.approx(expected[name]), name


class Tokens(nn.Module):
    """Mean over real tokens of embeddings, then a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, WIDTH)
        self.hidden, self.head = nn.Linear(WIDTH, 8), nn.Linear(8, CLASSES)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        real = mask[..., None].to(self.embedding.weight)
        mean = (self.embedding(input_ids) * real).sum(1) / real.sum(1)
        return self.head(self.hidden(mean).relu()), mean[:, None]


def text(samples: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % CLASSES
    lengths = torch.randint(2, LONGEST, (samples, 1), generator=generator)
    mask = torch.arange(LONGEST) < lengths
    ids = torch.randint(1, 20, (samples, LONGEST), generator=generator)
    return torch.where(mask, ids, 0), mask.long(), labels


def padded(data: tuple[Tensor, Tensor, Tensor], size: int, width: int | None) -> list[Any]:
    """Batches in their shortest width, or all in one."""
    found = []
    for ids, mask, labels in zip(*(own.split(size) for own in data), strict=True):
        end = width or int(mask.sum(1).max())
        found.append({"input_ids": ids[:, :end], "attention_mask": mask[:, :end], "labels": labels})
    return found


def test_padding_and_batches_change_no_number() -> None:
    torch.manual_seed(0)
    model = Tokens().double()
    train, test = text(80, 0), text(40, 1)
    once = rd.diagnose(model, padded(train, 40, LONGEST), padded(test, 40, LONGEST), probes=False)
    again = rd.diagnose(model, padded(train, 7, None), padded(test, 9, None), probes=False)
    assert not list(differences(measures(once), measures(again)))
    pairs = rd.diagnose(
        model,
        [
            ((own["input_ids"], own["attention_mask"]), own["labels"])
            for own in padded(train, 40, LONGEST)
        ],
        [(*(own[key] for key in own),) for own in padded(test, 40, LONGEST)],
        probes=False,
    )
    assert not list(differences(measures(once), measures(pairs)))


def test_images_of_several_sizes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)
    )
    sides = [(8, 9), (12, 7), (8, 9)]
    data = [(torch.randn(6, 3, *side), torch.arange(6) % CLASSES) for side in sides]
    report = rd.diagnose(model, data, data[:2], probes=False)
    assert report["train.samples"] == 18
    assert report["layers.0.gradient"]["rank"] == 4
    small = [*data, (torch.randn(6, 3, 3, 3), torch.arange(6) % CLASSES)]  # one cell, not four
    with pytest.raises(ValueError, match=r"train.*0.*grid=1"):
        rd.diagnose(model, small, data, **QUICK)


def test_labels_of_minus_one_are_none() -> None:
    _, model, train, test = problem()
    none = [(x, y * 0 - 1) for x, y in test]
    report = rd.diagnose(model, train, test, {"o": (none, none)}, alignment=False)
    assert report["detection.o"]
    assert any("probes of o:" in note and "-1" in note for note in report["notes"])
    with pytest.raises(ValueError, match="train, batch 0: labels"):
        rd.diagnose(model, none, test, **QUICK)


def test_layers_without_weights_are_told() -> None:
    _, model, train, test = problem()
    model = nn.Sequential(model.hidden, nn.ReLU(), model.head)
    report = rd.diagnose(model, train, test, layers=["1"])
    assert report["layers.1.probe"]
    assert report["layers.1.train"]["rank"] == 8
    assert report["layers.1.gradient"] is None
    assert any("weights" in note and "(1 " in note for note in report["notes"])


def test_weights_outside_modules_are_named() -> None:
    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.matrix = nn.Linear(WIDTH, CLASSES), nn.Parameter(torch.eye(CLASSES))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x) @ self.matrix

    _, _, train, test = problem()
    with pytest.raises(ValueError, match=r"matrix.*head"):
        rd.diagnose(Outside(), train, test)
