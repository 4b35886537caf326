"""A training at a temperature and its twin at another."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from rankdeficit.control import equivalent
from real_nets.models import Architecture

Make = Callable[[nn.Module], Optimizer]

MAKERS: dict[str, Make] = {
    "sgd": lambda model: SGD(model.parameters(), lr=0.1, weight_decay=1e-3),
    "momentum": lambda model: SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda model: SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3
    ),
    "adam": lambda model: Adam(model.parameters(), lr=1e-3, weight_decay=1e-3, amsgrad=True),
    "adamw": lambda model: AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2),
}


def resnet() -> tuple[nn.Module, Tensor, Tensor]:
    """A narrow residual network in float64, with a batch."""
    generator = torch.Generator().manual_seed(0)
    model = Architecture("resnet20", 5, (3, 6, 6), width=2).build(0).double().train()
    images = torch.randn(12, 3, 6, 6, generator=generator, dtype=torch.float64)
    return model, images, torch.arange(12) % 5


def mlp() -> tuple[nn.Module, Tensor, Tensor]:
    """Three layers with biases and a convolution, homogeneous in all of them."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Sequential(nn.Linear(16, 12), nn.LeakyReLU()), nn.Linear(12, 5),
    ).double()  # fmt: skip
    return model, torch.randn(12, 3, 6, 6, dtype=torch.float64), torch.arange(12) % 5


def losses(
    model: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    temperature: float,
    steps: int,
) -> list[float]:
    """Losses of a training, each before its step."""
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images) / temperature, labels)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("temperature", [0.3, 37.0])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_mlp_with_all_weights(make: Make, temperature: float) -> None:
    """Steps at T are steps at another temperature, in losses and in logits."""
    model, images, labels = mlp()
    optimizer = make(model)
    twin, other = equivalent(model, optimizer, temperature, to=2.0, where="all")
    expected = losses(model, optimizer, images, labels, temperature, 50)
    found = losses(twin, other, images, labels, 2.0, 50)
    assert abs(expected[-1] / expected[0] - 1) > 1e-5
    assert found == pytest.approx(expected, rel=1e-10)
    with torch.no_grad():
        distance = (model(images) / temperature - twin(images) / 2.0).abs().max()
        assert distance <= 1e-10 * (model(images) / temperature).abs().max()


STEPS = pytest.mark.parametrize("steps", [pytest.param(200, marks=pytest.mark.slow, id="200"), 8])


@STEPS
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_resnet_with_its_head(make: Make, steps: int) -> None:
    """A run at T is a run at 1."""
    model, images, labels = resnet()
    optimizer = make(model)
    twin, other = equivalent(model, optimizer, 37.0, batch=images)
    expected = losses(model, optimizer, images, labels, 37.0, steps)
    assert losses(twin, other, images, labels, 1.0, steps) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_there_and_back_in_the_middle_of_a_training(make: Make) -> None:
    """What the optimizer remembers is converted; back again, everything is as it was."""
    model, images, labels = mlp()
    optimizer = make(model)
    losses(model, optimizer, images, labels, 8.0, 5)
    twin, other = equivalent(model, optimizer, 8.0)
    back, again = equivalent(twin, other, 1.0, to=8.0)  # powers of two: no rounding
    for own, old in zip(back.parameters(), model.parameters(), strict=True):
        assert torch.equal(own, old)
    expected = losses(model, optimizer, images, labels, 8.0, 5)
    assert losses(back, again, images, labels, 8.0, 5) == expected
    assert losses(twin, other, images, labels, 1.0, 5) == pytest.approx(expected, rel=1e-12)


def test_groups_keep_their_options() -> None:
    """Groups with options of their own are split at the head; schedules start at converted rates."""
    model, *_ = mlp()
    groups = [
        {"params": [own for own in model.parameters() if own.ndim > 1], "weight_decay": 0.1},
        {"params": [own for own in model.parameters() if own.ndim == 1], "lr": 0.5},
    ]
    optimizer = SGD(groups, lr=0.2, momentum=0.7)
    torch.optim.lr_scheduler.StepLR(optimizer, 10)
    _, other = equivalent(model, optimizer, 10.0)
    rates = sorted(group["lr"] for group in other.param_groups)
    assert rates == pytest.approx([0.002, 0.005, 0.2, 0.5])
    assert sorted(group["initial_lr"] for group in other.param_groups) == pytest.approx(rates)
    decays = sorted(group["weight_decay"] for group in other.param_groups)
    assert decays == pytest.approx([0, 0, 0.1, 10])
    assert all(group["momentum"] == 0.7 for group in other.param_groups)


def test_original_is_unchanged() -> None:
    model, *_ = mlp()
    optimizer = MAKERS["adamw"](model)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    equivalent(model, optimizer, 50.0)
    assert all(torch.equal(own, before[0][name]) for name, own in model.state_dict().items())
    assert optimizer.state_dict()["param_groups"] == before[1]["param_groups"]


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.right, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.right(rows)
        return logits


def test_a_batch_tells_the_head() -> None:
    """The layer registered last may be another one."""
    model = TwoHeads()
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="batch"):
        equivalent(model, optimizer, 10.0)
    twin, _ = equivalent(model, optimizer, 10.0, batch=torch.randn(8, 4))
    assert torch.equal(twin.right.weight, model.right.weight / 10)
    assert torch.equal(twin.unused.weight, model.unused.weight)


def test_a_head_of_zeros() -> None:
    """Vision transformers start so; at any temperature they stay twins."""
    model, images, labels = mlp()
    nn.init.zeros_(model[-1].weight), nn.init.zeros_(model[-1].bias)
    optimizer = MAKERS["adamw"](model)
    twin, other = equivalent(model, optimizer, 20.0, batch=images)
    expected = losses(model, optimizer, images, labels, 20.0, 10)
    assert losses(twin, other, images, labels, 1.0, 10) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("behind", [nn.LayerNorm(3), nn.Softmax(dim=1), nn.Tanh()], ids=str)
def test_layers_behind_the_head_need_a_batch(behind: nn.Module) -> None:
    """Without a batch nothing shows that logits are not proportional to the linear layer."""
    model = nn.Sequential(nn.Linear(4, 3), behind)
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="batch"):
        equivalent(model, optimizer, 10.0)
    with pytest.raises(ValueError, match="logits"):
        equivalent(model, optimizer, 10.0, batch=torch.randn(8, 4))
    passing = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1), nn.Identity())
    twin, _ = equivalent(passing, SGD(passing.parameters(), lr=0.1), 10.0)
    assert torch.equal(twin[0].weight, passing[0].weight / 10)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": 2.0, "to": -1.0}, "temperature"),
        ({"temperature": 2.0, "where": "body"}, "where"),
        ({"temperature": 2.0, "where": "all"}, "where"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_options(options: dict[str, Any], told: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    with pytest.raises(ValueError, match=told):
        equivalent(model, SGD(model.parameters(), lr=0.1), **options)


def test_wrong_optimizers() -> None:
    model = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="RMSprop"):
        equivalent(model, RMSprop(model.parameters()), 2.0)
    with pytest.raises(ValueError, match="optimizer"):
        equivalent(model, SGD(nn.Linear(4, 3).parameters(), lr=0.1), 2.0)
    other = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="no linear layer"):
        equivalent(other, SGD(other.parameters(), lr=0.1), 2.0)
