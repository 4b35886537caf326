"""Options of the classifier are refused where the logits do not come from one classifier alone."""

from typing import Any

import pytest
import torch
from torch import nn

from rankdeficit import numerical_rank
from real_nets.models import MODELS, Architecture, Definition
from real_nets.models.parts import Shape
from tests.real_nets.models.headed import OneHead, TwoHeads, WithBypass
from tests.real_nets.models.narrow import random_images

CLASSES = 6
OPTIONS = [{"head_rank": 2}, {"head_norm": "layer"}, {"head_norm": "batch"}, {"head_scale": 0.5}]


def build(network: nn.Module, monkeypatch: pytest.MonkeyPatch, **options: Any) -> nn.Module:
    def own(*, inputs: Shape, classes: int) -> nn.Module:
        return network

    monkeypatch.setitem(MODELS, "own", Definition(own, "own"))
    return Architecture("own", CLASSES, (3, 8, 8), **options).build(0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_one_of_several_classifiers_is_not_changed_alone(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ((name, value),) = options.items()
    told = f"^{name} is {value}, .* other: .* one; .*model$"
    with pytest.raises(ValueError, match=told):
        build(TwoHeads(CLASSES), monkeypatch, **options)
    assert isinstance(build(TwoHeads(CLASSES), monkeypatch), TwoHeads)


def test_a_way_around_the_classifier_needs_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"head_rank is 2.*classifier head; "):
        build(WithBypass(CLASSES, 16), monkeypatch, head_rank=2)


@pytest.mark.parametrize("width", [16, CLASSES], ids=["wide", "as wide as the classes"])
def test_layers_before_and_gains_after_the_classifier_are_no_other_way(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in OPTIONS:
        build(OneHead(CLASSES, width), monkeypatch, **options)
    with torch.no_grad():
        model = build(OneHead(CLASSES, width), monkeypatch, head_rank=2)
        logits = model(random_images(40, 8)).double()
    assert int(numerical_rank(logits, 1e-6)) == 2


def test_looking_for_other_ways_leaves_all_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    network = OneHead(CLASSES, 16)
    network.body.append(nn.BatchNorm1d(16)).append(nn.Dropout())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    model = build(network, monkeypatch, head_norm="layer")
    assert torch.equal(torch.get_rng_state(), state)
    after = model.state_dict()
    assert [value.tolist() for value in after.values()] == [v.tolist() for v in before.values()]
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("name", "other"), [
    ("deit_tiny_distilled_patch16_224", "head"), ("levit_128s", "head.linear"),
])  # fmt: skip
def test_distilled_transformers_have_two_classifiers(name: str, other: str) -> None:
    pytest.importorskip("timm")
    model = Architecture(f"timm:{name}", 5, (3, 224, 224), head_rank=2)
    with pytest.raises(ValueError, match=rf"head_rank is 2, .*head_dist.*: .*{other};"):
        model.build(0)
