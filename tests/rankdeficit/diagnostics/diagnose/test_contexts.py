"""What the caller has set in torch changes no number of a diagnosis."""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import rankdeficit as rd
from rankdeficit.diagnostics.report import Report
from tests.rankdeficit.diagnostics.diagnose.problems import measures, small_problem


@contextmanager
def default_dtype(dtype: torch.dtype) -> Any:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "default device": lambda: torch.device("meta"),
    "default dtype": lambda: default_dtype(torch.float64),
    "half default dtype": lambda: default_dtype(torch.bfloat16),
}


@pytest.fixture(scope="module")
def plain() -> Report:
    """The report outside of any context."""
    model, train, test = small_problem()
    return rd.diagnose(model, train, test, {"noise": (train, test)})


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_of_the_caller_changes_no_number(name: str, plain: Report) -> None:
    model, train, test = small_problem()
    ood = {"noise": (train, test)}
    with CONTEXTS[name]():
        found = rd.diagnose(model, train, test, ood)
        device, dtype = torch.get_default_device(), torch.get_default_dtype()
        inference = torch.is_inference_mode_enabled()
        with CONTEXTS[name]():
            assert torch.get_default_device() == device
            assert torch.get_default_dtype() == dtype
            assert torch.is_inference_mode_enabled() == inference
    assert measures(found) == measures(plain)
    conditions = [dict(report["conditions"], seconds=0) for report in (plain, found)]
    assert conditions[0] == conditions[1]
    assert torch.get_default_dtype() == torch.float32


def test_data_made_in_inference_mode_have_gradients_too() -> None:
    model, train, test = small_problem()
    plain = rd.diagnose(model, train, test, probes=False)
    with torch.inference_mode():
        copies = [(x.clone(), y.clone()) for x, y in train]
        found = rd.diagnose(model, copies, test, probes=False)
    assert measures(found) == measures(plain)
    assert found["layers.0.gradient"] is not None


def test_models_made_in_inference_mode_lack_only_their_gradients(plain: Report) -> None:
    with torch.inference_mode():
        model, train, test = small_problem()
    found = rd.diagnose(model, train, test, measures=["logits", "gradient_ranks"])
    assert found["train.logits"] == plain["train.logits"]
    assert [layer["gradient"] for layer in found["layers"]] == [None] * len(found["layers"])
    assert [note for note in found["notes"] if "gradient" in note and "inference" in note]


def test_contexts_without_values_are_refused_by_name() -> None:
    model, train, test = small_problem()

    def inside(x: Tensor) -> Tensor:
        rd.diagnose(model, train, test)
        return x.sum()

    for transform in (torch.func.grad, torch.func.vmap):
        with pytest.raises(ValueError, match=r"torch\.func"):
            transform(inside)(torch.ones(2))
    with FakeTensorMode():
        for call in (lambda: rd.diagnose(model, train, test), rd.Watch(model, train).open):
            with pytest.raises(ValueError, match="FakeTensorMode"):
                call()
        fake = torch.nn.Linear(5, 4)
    with pytest.raises(ValueError, match=r"weight.*FakeTensorMode"):
        rd.diagnose(fake, train, test)


def test_models_and_data_sets_run_under_the_callers_defaults() -> None:
    class Own(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add(torch.get_default_dtype())
            return super().forward(x)

    def made() -> Any:
        for _ in range(3):
            seen.add(torch.get_default_dtype())
            yield torch.randn(20, 5), torch.arange(20) % 4

    seen: set[torch.dtype] = set()
    with default_dtype(torch.float64):
        report = rd.diagnose(Own(5, 4), made(), made(), probes=False)
    assert seen == {torch.float64}
    assert report["conditions.precision"] == "float64"
