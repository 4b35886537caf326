"""Arrays instead of a network: the same numbers, and what does not belong together."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rankdeficit as rd
from tests.rankdeficit.diagnostics.diagnose.problems import batches, blobs, differences

CLASSES, WIDTH = 4, 6
SECTIONS = (
    "train",
    "test",
    "penultimate",
    "neural_collapse",
    "detection",
    "ortho_dev",
    "calibration",
)


def problem() -> tuple[nn.Linear, dict[str, tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    centres = torch.randn(CLASSES, WIDTH).double()
    data = {
        "train": blobs(1100, centres),
        "test": blobs(90, centres, seed=1),
        "far": blobs(70, 3 * centres, 2.0, seed=2),
    }
    return nn.Linear(WIDTH, CLASSES).double(), data


def given(model: nn.Module, data: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Any]:
    with torch.no_grad():
        logits = {name: model(x) for name, (x, _) in data.items()}
    known = ("train", "test")
    return {
        "logits": {name: logits[name] for name in known},
        "labels": {name: data[name][1] for name in known},
        "features": {name: data[name][0] for name in known},
        "ood": {"far": {"logits": logits["far"], "features": data["far"][0]}},
    }


def as_numpy(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: as_numpy(own) for name, own in values.items()}
    return values.numpy()


def as_stored(values: Any) -> Any:
    """In the other byte order, as files have it, and not to be written to."""
    if isinstance(values, dict):
        return {name: as_stored(own) for name, own in values.items()}
    array = values.numpy()
    array = array.astype(array.dtype.newbyteorder(">"))
    array.setflags(write=False)
    return array


@pytest.mark.parametrize("form", [lambda values: values, as_numpy, as_stored])
def test_arrays_give_the_numbers_of_the_network(form: Callable[[Any], Any]) -> None:
    model, data = problem()
    split = {name: batches(*own) for name, own in data.items()}
    expected = rd.diagnose(
        model, split["train"], split["test"], {"far": (None, split["far"])}, 2.0, probes=False
    )
    classifier: Any = (model.weight, model.bias) if form is as_numpy else model
    found = rd.diagnose_outputs(**form(given(model, data)), classifier=classifier, temperature=2.0)
    for name in SECTIONS:
        assert not list(differences(expected[name], found[name])), name
    assert found["layers"] == []
    assert any("alignment" in note for note in found["notes"])
    assert "Neural Collapse" in str(found)


def test_without_features_or_classifier_the_rest_is_measured() -> None:
    model, data = problem()
    everything = given(model, data)
    found = rd.diagnose_outputs(**everything)
    assert found["neural_collapse.self_duality"] is None
    few = rd.diagnose_outputs(logits=everything["logits"], labels=everything["labels"])
    assert few["test.logits"] == found["test.logits"]
    assert few["test.loss"] == pytest.approx(found["test.loss"])
    assert few["neural_collapse"] is None
    assert few["calibration"]
    assert rd.diagnose_outputs(**everything, measures=["logits"])["calibration"] is None
    print(few)


def test_figures_of_arrays(tmp_path: Any) -> None:
    model, data = problem()
    assert rd.diagnose_outputs(**given(model, data)).plot(tmp_path)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": torch.zeros(3, 4)}, "logits.*train"),
        ({"labels": {"train": torch.zeros(3).long()}}, "labels.*test"),
        ({"labels": {"train": torch.zeros(3).long(), "test": torch.zeros(3).long()}}, "labels of"),
        ({"features": {"train": torch.zeros(1100, 6), "test": torch.zeros(90, 5)}}, "features.*columns"),
        ({"features": {"train": [1.0], "test": [1.0]}}, r"features\['train'\].*NumPy"),
        ({"ood": {"far": {"logits": torch.zeros(3, 4)}}}, r"far.*features"),
        ({"ood": {"test": {}}}, "another name"),
        ({"ood": [1]}, "ood.*mapping"),
        ({"ood": {"far": None}}, r"ood\['far'\].*mapping"),
        ({"features": {"train": torch.ones(1100, 6).to_sparse(), "test": None}}, "train.*dense"),
        ({"features": {"train": torch.ones(1100, 6, device="meta"), "test": None}}, "train.*meta"),
        ({"features": {"train": torch.ones(1100, 6).to(torch.float8_e5m2)}}, "train.*float8"),
        ({"features": {"train": torch.ones(1100, 6) * 1j}}, "train.*real"),
        ({"features": {"train": np.full((1100, 6), "a", object)}}, "train.*numbers"),
        ({"classifier": (torch.zeros(4, 6), torch.zeros(3))}, "bias.*4"),
        ({"classifier": (torch.zeros(4, 6),)}, "classifier.*bias"),
        ({"classifier": (torch.zeros(4, 6), torch.full((4,), math.nan))}, "bias.*NaN"),
        ({"classifier": torch.zeros(4, 5)}, "classifier.*4, 6"),
        ({"measures": ["alignment"]}, "alignment.*network"),
        ({"measures": ["neural_collapse"], "features": None, "ood": None}, "neural_collapse.*features"),
        ({"temperature": 0.0}, "temperature"),
        ({"detectors": ["mps"]}, "msp"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_named(change: dict[str, Any], words: str) -> None:
    model, data = problem()
    with pytest.raises(ValueError, match=words):
        rd.diagnose_outputs(**given(model, data) | change)
    broken = given(model, data)
    broken["labels"]["test"] = broken["labels"]["test"] + 1
    with pytest.raises(ValueError, match=r"labels\['test'\].*0\.\.3"):
        rd.diagnose_outputs(**broken)
