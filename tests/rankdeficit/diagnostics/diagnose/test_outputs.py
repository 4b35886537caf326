"""Models that return probabilities, their logarithms, or one logit for two classes."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rankdeficit as rd
from rankdeficit.diagnostics.reading.outputs import as_logits, kind_of_outputs
from tests.rankdeficit.diagnostics.diagnose.problems import batches, blobs, small_problem


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double()


def test_probabilities_and_their_logarithms_give_the_same_numbers_and_a_note() -> None:
    model, train, test = small_problem()
    model = model.double()
    plain = rd.diagnose(model, train, test, temperature=2.0)
    found = [
        rd.diagnose(nn.Sequential(*copy.deepcopy(model), last), train, test, temperature=2.0)
        for last in (nn.LogSoftmax(1), nn.Softmax(1))
    ]
    for report in found:
        assert report["train.loss"] == pytest.approx(plain["train.loss"])
        assert report["calibration"] is not None
        assert report["train.logits.centred_rank"] == plain["train.logits.centred_rank"]
        for layer in (0, 2):
            name = f"layers.{layer}.gradient.stable_rank"
            assert report[name] == pytest.approx(plain[name], rel=1e-6)
        assert any("probabilities" in note for note in report["notes"])
    for name in ("stable_rank", "logits_norm", "rank"):
        name = f"test.logits.{name}"
        assert found[0][name] == pytest.approx(found[1][name])
    assert not any("probabilities" in note for note in plain["notes"])


def test_the_energy_of_probabilities_is_no_score() -> None:
    model, train, test = small_problem()
    options: dict[str, Any] = {"measures": ["detection"], "detectors": ["energy", "msp"]}
    for last in (nn.LogSoftmax(1), nn.Softmax(1)):
        whole = nn.Sequential(*copy.deepcopy(model), last)
        report = rd.diagnose(whole, train, test, {"other": (None, test)}, **options)
        assert list(report["detection.other"]) == ["msp"]
        assert any("energy left out" in note for note in report["notes"])
    found = rd.diagnose(model, train, test, {"other": (None, test)}, **options)
    assert list(found["detection.other"]) == ["energy", "msp"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_outputs_are_is_told_by_their_rows(dtype: torch.dtype) -> None:
    z = 5 * torch.randn(40, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cases: dict[Any, Tensor] = {
        "logits": z,
        "probabilities": z.softmax(1),
        "log-probabilities": z.log_softmax(1),
    }
    for kind, values in cases.items():
        assert kind_of_outputs([own.to(dtype) for own in values.split(16)]) == kind
    spoilt = z.softmax(1)
    spoilt[-1] *= 2
    assert kind_of_outputs([spoilt.to(dtype)]) == "logits"
    assert kind_of_outputs([z.abs().to(dtype)]) == "logits"


@pytest.mark.parametrize("batch", [1, 64])
def test_outputs_are_told_by_64_samples_whatever_the_batch_size(batch: int) -> None:
    torch.manual_seed(0)
    inputs, labels = torch.rand(64, 1), torch.arange(64) % 2
    inputs[60:] += 1  # all other logits could be probabilities
    model = nn.Sequential(nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.fill_(1), model[0].bias.fill_(0)
    data = list(zip(inputs.split(batch), labels.split(batch), strict=True))
    for last in (nn.Identity(), nn.Sigmoid()):
        report = rd.diagnose(nn.Sequential(*model, last), data, data, measures=["logits"])
        told = any("probabilities" in note for note in report["notes"])
        assert told == isinstance(last, nn.Sigmoid)


def test_a_probability_of_zero_has_a_finite_logarithm() -> None:
    found = as_logits(torch.tensor([[0.0, 1.0]]), "probabilities")
    assert found.isfinite().all()
    assert found.argmax() == 1


@pytest.mark.parametrize("shape", ["column", "vector", "sigmoid"])
def test_one_logit_is_that_of_the_second_of_two_classes(shape: str) -> None:
    torch.manual_seed(0)
    hidden, one, two = nn.Linear(5, 8), nn.Linear(8, 1), nn.Linear(8, 2)
    with torch.no_grad():
        two.weight.copy_(torch.cat([torch.zeros_like(one.weight), one.weight]))
        two.bias.copy_(torch.cat([torch.zeros(1), one.bias]))
    ends = {"column": nn.Identity(), "vector": nn.Flatten(0), "sigmoid": nn.Sigmoid()}
    centres = torch.randn(2, 5)
    train, test = batches(*blobs(200, centres)), batches(*blobs(80, centres, seed=1))
    body = nn.Sequential(hidden, nn.ReLU())
    expected = rd.diagnose(nn.Sequential(body, two).double(), train, test)
    found = rd.diagnose(nn.Sequential(body, one, ends[shape]).double(), train, test)
    assert found["network.classes"] == 2
    for name in ("train.loss", "test.accuracy", "effective_depth.value"):
        assert found[name] == pytest.approx(expected[name]), name
    assert any("sigmoid" in note for note in found["notes"]) == (shape == "sigmoid")


def test_the_batch_that_a_network_cannot_take_is_named_among_the_first_samples() -> None:
    torch.manual_seed(0)
    data = [(torch.randn(1, 5), torch.tensor([i % 2])) for i in range(6)]
    data[4] = (torch.randn(1, 6), data[4][1])
    with pytest.raises(ValueError, match="train, batch 4"):
        rd.diagnose(nn.Sequential(nn.Linear(5, 2)), data, data[:4], measures=["logits"])
