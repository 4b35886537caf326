"""What `diagnose` takes, and what it refuses by name."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rankdeficit as rd
from rankdeficit.diagnostics import ProbeSettings
from rankdeficit.diagnostics.diagnose import _gradient_samples
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits
from tests.networks import narrow_resnet18
from tests.rankdeficit.diagnostics.diagnose.problems import (
    QUICK,
    Batches,
    image_data,
    measures,
    small_problem,
)


def test_one_of_several_l2_penalties_is_chosen_for_each_layer() -> None:
    model, train, test = small_problem()
    settings = ProbeSettings(l2=(1e3, 1e-3))
    report = rd.diagnose(model, train, test, probes=settings)
    assert [layer["probe"]["l2"] for layer in report["layers"]] == [1e-3, 1e-3]


@pytest.mark.parametrize(
    ("linear", "classes", "samples"),
    [(True, 4, 1024), (True, 1500, 1500), (False, 4, 64), (False, 100, 100)],
)
def test_gradients_are_of_as_many_samples_as_classes_at_least(
    linear: bool, classes: int, samples: int
) -> None:
    first = nn.Identity() if linear else nn.Conv2d(1, 1, 1)
    model = nn.Sequential(first, nn.Flatten(), nn.Linear(4, classes))
    network = Network.of(model, torch.ones(2, 1, 2, 2), None, pick_logits)
    assert _gradient_samples(network) == samples


def test_layers_are_chosen_by_pattern() -> None:
    x, y = image_data(0)
    model = narrow_resnet18(4, 6)
    report = rd.diagnose(model, [(x, y)], [(x, y)], layers=["layer?", "fc"], **QUICK)
    assert [layer["name"] for layer in report["layers"]] == [
        *(f"layer{i}" for i in (1, 2, 3, 4)),
        "fc",
    ]
    with pytest.raises(ValueError, match=r"layer5.*close names.*layer"):
        rd.diagnose(model, [(x, y)], [(x, y)], layers=["layer5"], **QUICK)


def nan_pixels(data: Batches) -> Batches:
    spoilt = [(x.clone(), y) for x, y in data]
    spoilt[1][0][3, 0] = math.nan
    return spoilt


BAD_DATA: dict[str, tuple[Any, str]] = {
    "empty": (lambda data: [], "is empty"),
    "unlabelled": (lambda data: [x for x, _ in data], "pairs"),
    "out of range": (lambda data: [(x, y + 2) for x, y in data], "batch 0.*labels.*2..5"),
    "NaN pixels": (nan_pixels, r"batch 1: inputs \[3\]"),
    "soft labels": (lambda data: [(x, y + 0.5) for x, y in data], "class indices"),
    "wrong size": (lambda data: [(x, y[:-1]) for x, y in data], "64 inputs.*63 labels"),
}


@pytest.mark.parametrize("which", ["train", "test"])
@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_is_named(kind: str, which: str) -> None:
    model, train, test = small_problem()
    spoil, message = BAD_DATA[kind]
    data = {"train": train, "test": test}
    data[which] = spoil(data[which])
    with pytest.raises(ValueError, match=f"{which}.*{message}"):
        rd.diagnose(model, data["train"], data["test"], **QUICK)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_named() -> None:
    model, train, test = small_problem()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"temperature": 0.0}, "temperature"),
        ({"gamma": 1e-9}, "gamma"),
        ({"grid": 0}, "grid"),
        ({"temperature": np.ones(2)}, "temperature.*number"),
        ({"gamma": "1e-3"}, "gamma.*number"),
        ({"grid": 1.5}, "grid.*whole"),
        ({"gradient_samples": 2.5}, "gradient_samples.*whole"),
        ({"memory": "1 GB"}, "memory.*whole"),
        ({"measures": [1]}, "measures has 1"),
        ({"probes": "no"}, "probes.*ProbeSettings"),
        ({"alignment": 0}, "alignment.*False"),
        ({"gradients": "no"}, "gradients.*None"),
        ({"loss": "mse"}, "loss.*function"),
        ({"logits": "logits"}, "logits.*function"),
        ({"on_progress": True}, "on_progress.*function"),
        ({"mask": 3}, "mask.*function"),
        ({"detectors": "msp"}, "detectors.*list"),
        ({"detectors": [1]}, "detector is 1"),
        ({"detectors": ["mps"]}, "msp"),
        ({"ood": {"x": train}}, r"ood\['x'\].*tuple"),
        ({"ood": {"test": (train, test)}}, "another name"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            rd.diagnose(model, train, test, **options)


def test_losses_that_are_no_mean_are_told() -> None:
    model, train, test = small_problem()
    for loss in (lambda logits, *_: logits, lambda *_: 0.0, lambda *_: torch.zeros(())):
        found = rd.diagnose(model, train, test, loss=loss, measures=["gradient_ranks"])
        assert any("mean loss" in note for note in found["notes"])


def test_networks_without_finite_logits_are_refused() -> None:
    model, train, test = small_problem()
    with torch.no_grad():
        model[2].bias.fill_(math.inf)  # type: ignore[index, union-attr]
    with pytest.raises(ValueError, match=r"train, batch 0.*logits.*\[0, 1"):
        rd.diagnose(model, train, test, **QUICK)


def test_inputs_that_do_not_fit_the_network_are_named() -> None:
    model, train, test = small_problem()
    wide = [(torch.randn(10, 6), torch.zeros(10, dtype=torch.int64))]
    with pytest.raises(ValueError, match=r"train, batch 0.*\((2|10), 6\)"):
        rd.diagnose(model, wide, test, **QUICK)
    with pytest.raises(ValueError, match=r"strange, batch 0.*\(10, 6\)"):
        rd.diagnose(model, train, test, {"strange": (None, wide)}, **QUICK)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_generators_are_read_once() -> None:
    model, train, test = small_problem()
    whole = rd.diagnose(model, train, test, **QUICK)
    once = rd.diagnose(model, iter(train), (pair for pair in test), **QUICK)
    assert measures(whole) == measures(once)


def test_progress_is_told_by_data_set() -> None:
    model, train, test = small_problem()
    heard: list[tuple[str, int]] = []
    rd.diagnose(model, train, test, {"o": (train, test)}, on_progress=lambda *x: heard.append(x))
    groups = itertools.groupby(heard, lambda pair: pair[0])
    assert {name: max(done for _, done in group) for name, group in groups} == {
        "train": 200, "test": 80, "o train": 200, "o": 80, "probes of test": 2, "probes of o": 2,
    }  # fmt: skip
