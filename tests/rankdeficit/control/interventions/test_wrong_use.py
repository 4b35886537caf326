"""Interventions that cannot be had are refused with a reason, and leave the network as it was."""

import copy
import math

import pytest
import torch
from torch import nn

from rankdeficit.control import intervene
from rankdeficit.control.interventions import LossChange, find_interventions, intervention


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 5))


def with_nan() -> nn.Sequential:
    model = network()
    model[2].weight.data[0, 0] = math.nan  # type: ignore[union-attr,operator]
    return model


def with_zeros() -> nn.Sequential:
    model = network()
    nn.init.zeros_(model[2].weight)  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize(
    ("model", "spelled", "told"),
    [
        (network(), ["logit-norm=0"], "tau"),
        (network(), ["logit-norm=-1"], "tau"),
        (network(), ["learnable-temperature=0"], "positive"),
        (network(), ["z-loss=-1e-4"], "not negative"),
        (network(), ["encoder-entropy=-1"], "not negative"),
        (network(), ["soft-cap=nan"], "cap"),
        (network(), ["soft-cap=inf"], "cap"),
        (network(), ["cosine-head=ten"], "number"),
        (network(), ["elogit-norm=3"], "no value"),
        (network(), ["logit-nrom"], "logit-norm"),
        (network(), ["z-loss", "z-loss=1"], "twice"),
        (network(), ["cosine-head", "simplex-head"], "replace"),
        (network(), ["elogit-norm", "soft-cap"], "linear head"),
        (network(), ["simplex-head"], "4 features"),
        (with_nan(), ["soft-cap"], "NaN"),
        (with_zeros(), ["cosine-head"], "zeros"),
        (nn.Sequential(nn.Conv2d(3, 5, 1), nn.Flatten()), ["soft-cap"], "no linear layer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refused(model: nn.Module, spelled: list[str], told: str) -> None:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=told) as error:
        intervene(model, *spelled)
    assert "\n" not in str(error.value)
    assert model.state_dict().keys() == before.keys()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperatures(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        intervene(network(), "z-loss", temperature=temperature)


def test_a_convolution_is_no_head() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4), nn.Unflatten(1, (4, 1)), nn.Conv1d(4, 5, 1), nn.Flatten()
    )
    with pytest.raises(ValueError, match="linear layer"):
        intervene(model, "soft-cap", batch=torch.randn(8, 4))


def test_names_are_taken_once() -> None:
    """The same class again, as when its module is reloaded, replaces itself."""

    class Another(LossChange):
        """Does nothing."""

        diagnosed = "raw logits"

    with pytest.raises(ValueError, match="twice"):
        intervention("z-loss")(Another)
    (own,) = find_interventions(["z-loss"])
    assert type(own).__name__ == "ZLoss"
    Another.__doc__ = None
    with pytest.raises(ValueError, match="docstring"):
        intervention("nothing")(Another)
