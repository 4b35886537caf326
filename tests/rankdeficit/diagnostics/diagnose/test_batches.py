"""What users pass as data sets and batches, and what is refused with a remedy."""

from collections import UserDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import TensorDataset

import rankdeficit as rd
from rankdeficit.diagnostics.report import Report
from tests.rankdeficit.diagnostics.diagnose.problems import QUICK, Batches, measures, small_problem

FORMS: dict[str, Callable[[Batches], Any]] = {
    "mapping": lambda data: [{"pixel_values": x, "labels": y} for x, y in data],
    "encoding": lambda data: [UserDict({"label": y, "inputs": x, "names": "n"}) for x, y in data],
    "longer": lambda data: [(x, y, {"index": 1}) for x, y in data],
    "data set": lambda data: TensorDataset(*map(torch.cat, zip(*data, strict=True))),
    "one-hot": lambda data: [(x, nn.functional.one_hot(y, 4)) for x, y in data],
    "float one-hot": lambda data: [(x, nn.functional.one_hot(y, 4).float()) for x, y in data],
    "column": lambda data: [(x, y[:, None]) for x, y in data],
    "float": lambda data: [(x, y.double()) for x, y in data],
    "float column": lambda data: [(x, y[:, None].float()) for x, y in data],
    "numpy labels": lambda data: [(x, y.numpy()) for x, y in data],
    "numpy": lambda data: [(x.numpy(), y.numpy().astype(np.int32)) for x, y in data],
}


@pytest.fixture(scope="module")
def plain() -> Report:
    """The report of plain batches."""
    model, train, test = small_problem()
    return rd.diagnose(model, train, test, {"o": (train, test)}, probes=False)


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_any_form_give_the_same_numbers(form: str, plain: Report) -> None:
    model, train, test = small_problem()
    make = FORMS[form]
    ood = {"o": (make(train), make(test))}
    found = rd.diagnose(model, make(train), make(test), ood, probes=False)
    close = [measures(report) for report in (plain, found)]
    if form == "data set":  # other batches, hence another order of sums
        assert found["test.loss"] == pytest.approx(plain["test.loss"])
        assert found["test.logits.rank_curve"] == plain["test.logits.rank_curve"]
    else:
        assert close[0] == close[1]


@pytest.mark.parametrize("form", ["bare", "single", "minus one", "mapping"])
def test_data_for_detection_alone_need_no_labels(form: str) -> None:
    model, train, test = small_problem()
    forms: dict[str, Any] = {
        "bare": [x for x, _ in test],
        "single": [(x,) for x, _ in test],
        "minus one": [(x, y * 0 - 1) for x, y in test],
        "mapping": [{"x": x} for x, _ in test],
    }
    plain = rd.diagnose(model, train, test, {"o": (None, test)}, **QUICK)
    found = rd.diagnose(model, train, test, {"o": (None, forms[form])}, **QUICK)
    assert found["detection"] == plain["detection"]
    assert found["detection.o"]


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_numpy_are_numbers() -> None:
    model, train, test = small_problem()
    plain = rd.diagnose(model, train, test, temperature=3.0, gamma=1e-2, **QUICK)
    for kind in (np.float64, np.float32, torch.tensor):
        own: Any = {"temperature": kind(3.0)}
        assert measures(rd.diagnose(model, train, test, gamma=1e-2, **own, **QUICK)) == measures(
            plain
        )
    gamma: Any = np.float64(1e-2)
    found = rd.diagnose(model, train, test, temperature=3.0, gamma=gamma, **QUICK)
    assert found.record["conditions"]["gamma"] == 1e-2


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (lambda tr, te: (None, te), "train.*loader"),
        (lambda tr, te: (tr, None), "test.*loader"),
        (lambda tr, te: (tr, 5), "test.*loader"),
        (lambda tr, te: (tr, te, 50.0), "ood.*temperature"),
        (lambda tr, te: (tr, te, {"x": (te, None)}), r"ood\['x'\]"),
        (lambda tr, te: (tr, te, {"x": (None, 3)}), r"ood\['x'\]\[1\].*loader"),
        (lambda tr, te: (tr, te, {"x": (te, te)}, "hot"), "temperature"),
        (lambda tr, te: ([(x.tolist(), y) for x, y in tr], te), "train, batch 0.*tensor"),
        (lambda tr, te: ([(x.to(torch.complex64), y) for x, y in tr], te), "batch 0.*real"),
        (lambda tr, te: ([(x.to_sparse(), y) for x, y in tr], te), "batch 0.*dense"),
        (lambda tr, te: ([(x.to("meta"), y) for x, y in tr], te), "batch 0.*meta"),
        (lambda tr, te: ([(x, y.to("meta")) for x, y in tr], te), "batch 0.*class indices"),
        (lambda tr, te: ([(x[:, None], y[:, None, None]) for x, y in tr], te), "class indices"),
        (lambda tr, te: ([(x, torch.rand(len(x), 4)) for x, y in tr], te), "one-hot"),
        (lambda tr, te: ([{"x": x} for x, _ in tr], te), "batch 0.*labels"),
        (lambda tr, te: ([{"x": x, "mask": x, "y": y} for x, y in tr], te), "takes .input"),
        (lambda tr, te: ([((x, x), y) for x, y in tr], te), "tuple.* 2.*.input"),
        (lambda tr, te: ([(x, x, y) for x, y in tr], te), "second.*labels.*a, b"),
        (lambda tr, te: ([(pack_sequence([*x[:, None]]), y) for x, y in tr], te), "PackedSequence"),
    ],
)  # fmt: skip
def test_anything_else_is_one_clear_error(arguments: Callable[..., Any], names: str) -> None:
    model, train, test = small_problem()
    with pytest.raises(ValueError, match=names):
        rd.diagnose(model, *arguments(train, test), **QUICK)
