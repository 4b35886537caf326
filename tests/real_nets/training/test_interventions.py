"""Trainings with interventions: of the network, of the loss, and what cannot be trained."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from rankdeficit import cross_entropy
from rankdeficit.control import intervene
from real_nets.models import Architecture
from real_nets.training.recipe import Recipe
from tests.real_nets.training.small import PLAIN, network, trained, training

MLP = {"width": 16, "depth": 3}


@pytest.mark.parametrize(
    "spelled",
    [
        ("logit-norm=0.5", "z-loss=0.1"),
        ("elogit-norm",),
        ("encoder-entropy=0.5", "soft-cap=2"),
        ("cosine-head=4", "learnable-temperature=2"),
        ("simplex-head",),
    ],
    ids=" ".join,
)
def test_steps_are_those_of_a_plain_loop(spelled: tuple[str, ...]) -> None:
    recipe = replace(PLAIN, intervention=spelled, schedule="constant")
    job = training(network(**MLP, intervention=spelled), recipe, 5.0)
    job.run_until(3, lambda step: None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Architecture("mlp", 2, (3, 8, 8), **MLP).build(0)
        mean_loss = partial(cross_entropy, validate=False)
        model, loss = intervene(model, *spelled, temperature=5.0, loss=mean_loss)
    model.load_state_dict(network(**MLP, intervention=spelled).state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=PLAIN.lr, momentum=PLAIN.momentum)
    for inputs, labels in job.batches.epoch(0):
        optimizer.zero_grad()
        loss(model(inputs), labels).backward()
        optimizer.step()
    for found, expected in zip(job.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_compiled_network_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features that a loss reads are those of the compiled network."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    spelled = ("encoder-entropy=0.5",)
    recipe = replace(PLAIN, intervention=spelled, epochs=1)
    expected = trained(network(**MLP, intervention=spelled), recipe)
    found = trained(network(**MLP, intervention=spelled), replace(recipe, compile=True))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    plain = trained(network(**MLP), replace(PLAIN, epochs=1))
    assert not torch.allclose(plain["1.weight"], expected["1.weight"])


def test_a_diagnosis_has_the_loss_of_the_logits_alone() -> None:
    """Logits of zero: the penalty of the normaliser is there, the entropy of features is not."""
    spelled = ("z-loss=0.5", "encoder-entropy")
    recipe = Recipe(intervention=spelled)
    loss = recipe.loss_of(network(**MLP, intervention=spelled))
    logits = torch.zeros(6, 2, requires_grad=True)
    ln2 = float(torch.tensor(2.0).log())
    found = loss(logits, torch.arange(6) % 2, 3.0)
    assert found.item() == pytest.approx(ln2 + 0.5 * ln2**2)
    assert len(recipe.notes_on_interventions) == 2
    plain = Recipe()
    assert plain.loss_of(network(**MLP)) == plain.mean_loss


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"intervention": ("z-los",)}, "z-loss"),
        ({"intervention": ("soft-cap=-1",)}, "cap"),
        ({"intervention": ("z-loss",), "lr_rule": "reparametrised"}, "matched"),
        ({"intervention": ("encoder-entropy",), "batch_size": 1}, "batch_size"),
        ({"temperature_schedule": "up", "lr_rule": "reparametrised"}, "temperature_schedule"),
    ],
    ids=str,
)
def test_recipes_that_contradict_themselves(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Recipe(**options)


def test_networks_that_cannot_have_an_intervention() -> None:
    with pytest.raises(ValueError, match="features"):
        Architecture("mlp", 10, (3, 8, 8), width=4, intervention=("simplex-head",)).build(0)
    with pytest.raises(ValueError, match="head_scale"):
        Architecture("mlp", 2, (3, 8, 8), head_scale=0.1, intervention=("cosine-head",))
    with pytest.raises(ValueError, match="no linear layer"):
        Architecture("torchvision:squeezenet1_0", 2, (3, 64, 64), intervention=("soft-cap",)).build(
            0
        )


def test_the_head_keeps_its_place() -> None:
    model = network(**MLP, intervention=("soft-cap=2", "encoder-entropy"))
    names = [name for name, own in model.named_modules() if isinstance(own, nn.Linear)]
    plain = [name for name, own in network(**MLP).named_modules() if isinstance(own, nn.Linear)]
    assert names[:-1] == plain[:-1]
    assert names[-1].startswith(plain[-1])
