"""Where the logits are in what a network returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import find_layers, pick_logits
from tests.rankdeficit.diagnostics.taps.networks import VECTORS, names, seeded


class Returning(nn.Module):
    """Two linear layers, and an output in a form of choice."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.hidden, self.last, self.form = nn.Linear(6, 5), nn.Linear(5, 4), form

    def forward(self, x: Tensor) -> Any:
        hidden = torch.relu(self.hidden(x))
        return self.form(self.last(hidden), hidden)


@dataclass
class Output:
    features: Tensor
    logits: Tensor


@dataclass
class Unnamed:
    score: Tensor


@pytest.mark.parametrize(
    "form",
    [
        lambda logits, _: logits,
        lambda logits, _: (logits,),
        lambda logits, _: [logits, None],
        lambda logits, hidden: (hidden[:, :, None], logits),
        lambda logits, _: {"loss": torch.zeros(()), "scores": logits},
        lambda logits, hidden: {"features": hidden, "logits": logits},
        lambda logits, hidden: Output(hidden, logits),
    ],
)
def test_logits_are_found_in_what_the_network_returns(form: Callable[..., Any]) -> None:
    model = seeded(Returning(form))
    assert names(model, VECTORS) == ["hidden", "last"]
    with torch.no_grad():
        expected = model.last(torch.relu(model.hidden(VECTORS)))
        torch.testing.assert_close(pick_logits(model(VECTORS)), expected)
        network = Network.of(model, VECTORS, None, pick_logits)
        torch.testing.assert_close(network.logits(VECTORS), expected)
    assert network.classifier is model.last


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda logits, hidden: (logits, hidden), "tuple.* 2 tensors"),
        (lambda logits, hidden: {"a": logits, "b": hidden}, "dict.* 2 tensors"),
        (lambda logits, _: (logits[:, :, None],), "tuple.* 0 tensors"),
        (lambda logits, _: Unnamed(logits), "Unnamed.*logits"),
        (lambda _, __: None, "NoneType.*logits"),
    ],
)
def test_ambiguous_outputs_ask_for_the_logits(form: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_layers(Returning(form), VECTORS)


def test_select_settles_ambiguous_outputs() -> None:
    model = Returning(lambda logits, hidden: (hidden, logits))
    layers = find_layers(model, VECTORS, select=lambda output: output[1])
    assert [layer.name for layer in layers.chosen] == ["hidden", "last"]
    assert [layer.name for layer in find_layers(model, VECTORS, select=lambda o: o[0]).chosen] == [
        "hidden"
    ]


def test_outputs_that_are_no_logits_are_an_error() -> None:
    for form, shape in (
        (lambda logits, _: logits[:, :, None], r"\(2, 4, 1\)"),
        (lambda logits, _: logits.sum(0, keepdim=True), r"\(1, 4\)"),
    ):
        with pytest.raises(ValueError, match=rf"{shape}.* 2 inputs.*logits"):
            Network.of(Returning(form), VECTORS, None, lambda output: output)
