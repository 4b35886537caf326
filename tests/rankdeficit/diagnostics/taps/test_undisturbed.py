"""Looking at a network leaves it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import rankdeficit as rd
from rankdeficit.diagnostics.reading.taps import find_layers, reading, undisturbed
from tests.rankdeficit.diagnostics.taps.networks import IMAGES, CifarResNet, read_layers


def state(model: nn.Module) -> dict[str, Any]:
    """All that looking at a network might change."""
    hooks = [
        len(kind)
        for module in model.modules()
        for kind in (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._forward_hooks_with_kwargs,
            module._forward_pre_hooks_with_kwargs,
            module._backward_hooks,
        )
    ]
    return {
        "modes": [module.training for module in model.modules()],
        "hooks": hooks,
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "grad mode": torch.is_grad_enabled(),
    }


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    before = state(model)
    yield
    torch.testing.assert_close(state(model), before, rtol=0, atol=0)


def mixed_network() -> nn.Module:
    """Training mode but for a frozen part; one parameter frozen, one with a gradient, one hook."""
    model = CifarResNet(1, "after").train()
    model.blocks[0].eval()
    model.bn.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(10)
    model.conv.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("fast_path", [True, False])
def test_finding_and_reading_layers_leaves_the_network_as_it_was(fast_path: bool) -> None:
    model = mixed_network()
    torch.backends.mha.set_fastpath_enabled(fast_path)
    try:
        with unchanged(model):
            read_layers(model, IMAGES)
            find_layers(model, IMAGES, ["blocks.*"])
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_errors_in_the_forward_pass_leave_the_network_as_it_was() -> None:
    model = mixed_network()
    with unchanged(model):
        with pytest.raises(RuntimeError):
            find_layers(model, torch.zeros(2, 4, 32, 32))
        with pytest.raises(ValueError, match="'nothing'"):
            find_layers(model, IMAGES, ["nothing"])
        layers = find_layers(model, IMAGES)
        places = [layer.representation for layer in layers.chosen]

        def refuse(*_: Any) -> None:
            raise KeyError("reader")

        with (
            pytest.raises(KeyError, match="reader"),
            undisturbed(model),
            reading(model, places, refuse),
        ):
            model(IMAGES)
    compiled = torch.compile(model, backend="eager")
    compiled(IMAGES)  # and compiling is allowed again


class Restless(nn.Module):
    """Counts its calls, observes what it gets and changes it in place; its weight is normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 4))
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen = x.detach().clone()
        return self.linear(x.mul_(2).add_(1))


def test_diagnosing_and_watching_restless_networks_leaves_them_and_their_inputs_as_they_were() -> (
    None
):
    torch.manual_seed(0)
    model = Restless().train()
    x, y = torch.randn(40, 5), torch.arange(40) % 4
    batches, before = [(x, y)], x.clone()
    options: dict[str, Any] = {"measures": ["logits", "alignment", "gradient_ranks"]}
    with unchanged(model):
        found = rd.diagnose(model, batches, batches, **options)
        with rd.Watch(model, batches, every=1) as watch:
            watch.step()
    assert torch.equal(x, before)
    assert watch.rows[0]["loss"] == watch.rows[1]["loss"] == pytest.approx(found["train.loss"])
    plain = nn.Linear(5, 4)
    plain.load_state_dict({"weight": model.linear.eval().weight, "bias": model.linear.bias})
    data = [(2 * x + 1, y)]
    expected = rd.diagnose(plain, data, data, **options)
    for name in ("train.loss", "test.loss", "alignment"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)
    ranks = [own["layers"][0]["gradient"]["stable_rank"] for own in (found, expected)]
    assert ranks[0] == pytest.approx(ranks[1], rel=1e-5)
