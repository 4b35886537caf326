"""What users pass as data sets and batches, and what is refused with a remedy."""

from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import rankdeficit as rd
from rankdeficit.diagnostics.report import Report
from tests.rankdeficit.diagnostics.diagnose.problems import QUICK, Batches, measures, small_problem


def reversed_memory(values: Tensor) -> NDArray[Any]:
    """The array, last row first in memory."""
    return np.ascontiguousarray(values.numpy()[::-1])[::-1]


def read_only(values: Tensor) -> NDArray[Any]:
    array = values.numpy().copy()
    array.setflags(write=False)
    return array


FORMS: dict[str, Callable[[Batches], Any]] = {
    "mapping": lambda data: [{"pixel_values": x, "labels": y} for x, y in data],
    "encoding": lambda data: [UserDict({"label": y, "inputs": x, "names": "n"}) for x, y in data],
    "longer": lambda data: [(x, y, {"index": 1}) for x, y in data],
    "data set": lambda data: TensorDataset(*map(torch.cat, zip(*data, strict=True))),
    "data set of a stream": lambda data: Stream(
        [sample for batch in data for sample in zip(*batch, strict=True)]
    ),
    "data set of mappings": lambda data: Stream(
        [{"x": x, "label": int(y)} for batch in data for x, y in zip(*batch, strict=True)]
    ),
    "stream of batches": lambda data: Stream(data),
    "one-hot": lambda data: [(x, nn.functional.one_hot(y, 4)) for x, y in data],
    "float one-hot": lambda data: [(x, nn.functional.one_hot(y, 4).float()) for x, y in data],
    "column": lambda data: [(x, y[:, None]) for x, y in data],
    "float": lambda data: [(x, y.double()) for x, y in data],
    "float column": lambda data: [(x, y[:, None].float()) for x, y in data],
    "numpy labels": lambda data: [(x, y.numpy()) for x, y in data],
    "numpy": lambda data: [(x.numpy(), y.numpy().astype(np.int32)) for x, y in data],
    "bool one-hot": lambda data: [(x, nn.functional.one_hot(y, 4).bool()) for x, y in data],
    "other byte order": lambda data: [
        (x.numpy().astype(">f4"), y.numpy().astype(">i8")) for x, y in data
    ],
    "reversed": lambda data: [(reversed_memory(x), reversed_memory(y)) for x, y in data],
    "read-only": lambda data: [(read_only(x), read_only(y)) for x, y in data],
    "long double": lambda data: [(x.numpy().astype(np.longdouble), y) for x, y in data],
}


class Samples(Dataset[Any]):
    """A data set of these samples."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        sample, label = self.samples[index]
        return (sample if isinstance(sample, Tensor) else object()), label


class Stream(IterableDataset[Any]):
    """An iterable data set of these items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class Endless(Dataset[Any]):
    """A data set without a length."""

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(5), 0


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
    if form.startswith("data set"):  # other batches, hence another order of sums
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
    for kind in (np.float64, np.float32, np.array, torch.tensor):
        own: Any = {"temperature": kind(3.0)}
        assert measures(rd.diagnose(model, train, test, gamma=1e-2, **own, **QUICK)) == measures(
            plain
        )
    own = {
        "gamma": np.float64(1e-2),
        "grid": np.int64(2),
        "seed": np.uint8(0),
        "memory": np.int64(9),
    }
    found = rd.diagnose(model, train, test, temperature=3.0, **own, **QUICK)
    assert found.record["conditions"]["gamma"] == 1e-2
    assert measures(found) == measures(plain)


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
        (lambda tr, te: ([(x.to(torch.float8_e5m2), y) for x, y in tr], te), "batch 0.*float8"),
        (lambda tr, te: ([(np.ma.masked_less(x.numpy(), 0), y) for x, y in tr], te), "MaskedArray"),
        (lambda tr, te: ([(x.numpy().astype(object), y) for x, y in tr], te), "batch 0.*ndarray"),
        (lambda tr, te: ([*zip(*tr[0], strict=True)], te), "batch 0"),
        (lambda tr, te: ([(x[0:1], 1) for x, _ in tr], te), "labels are 1.*DataLoader"),
        (lambda tr, te: (Samples([("picture", 0)] * 3), te), "train.*transform"),
        (lambda tr, te: (tr, Samples([(torch.zeros(n), 0) for n in (4, 5)])), "test.*one size"),
        (lambda tr, te: (Endless(), te), "train.*length"),
        (lambda tr, te: ([(pack_sequence([*x[:, None]]), y) for x, y in tr], te), "PackedSequence"),
    ],
)  # fmt: skip
def test_anything_else_is_one_clear_error(arguments: Callable[..., Any], names: str) -> None:
    model, train, test = small_problem()
    with pytest.raises(ValueError, match=names):
        rd.diagnose(model, *arguments(train, test), **QUICK)


def test_ood_labels_are_numbered_from_zero() -> None:
    model, train, test = small_problem()
    far = [(x, 10**12 + y) for x, y in test]
    with pytest.raises(ValueError, match=r"x train.*from 0"):
        rd.diagnose(model, train, test, {"x": (far, test)}, measures=["ood_drop"])
