"""Spectra of gradients against autograd on the whole batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rankdeficit import softmax_mse
from rankdeficit.diagnostics.measures.gradients import GradientSpectra, gradient_spectra
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.diagnostics.reading.unfolding import input_rows, weight_matrix


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(count: int, classes: int) -> Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(9))


def seeded(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return model.double()


def spectra(
    model: nn.Module, inputs: Tensor, *patterns: str, temperature: float = 1.0, classes: int = 4
) -> dict[str, GradientSpectra]:
    network = Network.of(model, inputs, patterns or None, pick_logits)
    return gradient_spectra(network, inputs, labels(len(inputs), classes), temperature)


def assert_spectrum(found: Tensor, matrix: Tensor) -> None:
    """Singular values of the matrix; a Gram matrix resolves them to 1e-7 of the largest."""
    expected = torch.linalg.svdvals(matrix.double())
    assert len(found) == len(expected)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=3e-7 * float(expected[0]))


def small_network() -> nn.Module:
    """Convolutions, BatchNorm and dropout, linear layers, for 3 x 6 x 6 images."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Conv2d(4, 5, 3, stride=2), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(20, 7), nn.ReLU(), nn.Linear(7, 4),
    )  # fmt: skip


@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("count", [5, 64, 150])
def test_spectra_are_those_of_autograd_on_the_whole_batch(count: int, temperature: float) -> None:
    model, inputs = seeded(small_network()).train(), normal(count, 3, 6, 6)
    found = spectra(model, inputs, temperature=temperature)
    assert list(found) == ["0", "3", "7", "9"]
    model.eval()
    loss = functional.cross_entropy(model(inputs) / temperature, labels(count, 4))
    for name, (gradient, read) in found.items():
        module = model[int(name)]
        (expected,) = torch.autograd.grad(loss, module.weight, retain_graph=True)
        assert_spectrum(gradient.singular_values, expected.flatten(1))
        before = model[: int(name)](inputs).detach()
        assert_spectrum(read.singular_values, input_rows(module, before))


def test_spectra_are_of_the_loss_that_is_named() -> None:
    model, inputs, targets = seeded(small_network()).eval(), normal(70, 3, 6, 6), labels(70, 4)
    network = Network.of(model, inputs, None, pick_logits)
    found = gradient_spectra(network, inputs, targets, 5.0, softmax_mse)
    softmax_mse(model(inputs), targets, 5.0).backward()
    for name, (gradient, _) in found.items():
        assert_spectrum(gradient.singular_values, model[int(name)].weight.grad.flatten(1))


def test_spectra_of_float32_networks_agree_with_float64() -> None:
    model, inputs = seeded(small_network()), normal(70, 3, 6, 6)
    exact = spectra(model, inputs)
    rounded = spectra(model.float(), inputs)
    for name in exact:
        for one, other in zip(exact[name], rounded[name], strict=True):
            scale = float(one.singular_values[0])
            torch.testing.assert_close(
                one.singular_values, other.singular_values, rtol=0, atol=1e-5 * scale
            )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_rank_of_the_gradient_is_at_most_that_of_what_the_layer_reads(rank: int) -> None:
    # Planted: the inputs span a subspace, or a narrow layer makes what follows it so.
    model = seeded(nn.Sequential(nn.Linear(12, 9), nn.Linear(9, rank), nn.Linear(rank, 8)))
    inputs = normal(90, rank + 1) @ normal(rank + 1, 12, seed=1)
    found = spectra(model, inputs, classes=8)
    assert {name: int(s.inputs.rank(1e-6)) for name, s in found.items()} == {
        "0": rank + 1,
        "1": rank + 2,  # the bias adds one direction
        "2": rank,
    }
    # The narrow layer passes at most `rank` directions of the error back.
    ranks = {name: int(s.gradient.rank(1e-6)) for name, s in found.items()}
    assert ranks == {"0": rank, "1": rank, "2": rank}


def test_frozen_networks_have_the_same_gradients_and_stay_frozen() -> None:
    model, inputs = seeded(small_network()), normal(70, 3, 6, 6)
    expected = spectra(model, inputs)
    model.requires_grad_(False)
    model[9].weight.requires_grad_(True)
    model[9].bias.grad = torch.ones(4, dtype=torch.float64)
    with torch.no_grad():
        found = spectra(model, inputs)
    for name in expected:
        torch.testing.assert_close(
            found[name].gradient.singular_values, expected[name].gradient.singular_values
        )
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["9.weight"]
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["9.bias"]
    assert model[9].bias.grad.tolist() == [1.0] * 4


def test_networks_are_left_frozen_after_an_error_too() -> None:
    model = seeded(small_network()).requires_grad_(False).train()
    network = Network.of(model, normal(2, 3, 6, 6), None, pick_logits)
    with pytest.raises(RuntimeError):
        gradient_spectra(network, normal(3, 3, 7, 9), labels(3, 4))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 4)

    def steps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        one = torch.relu(self.first(x))
        two = torch.tanh(self.shared(one))
        return one, two, self.last(torch.tanh(self.shared(two)))

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(x)[2]


def test_a_module_that_runs_twice_has_one_gradient_and_the_inputs_of_both_calls() -> None:
    model, inputs = seeded(Shared()), normal(80, 6)
    found = spectra(model, inputs)
    assert list(found) == ["first", "shared", "last"]
    one, two, logits = model.steps(inputs)
    loss = functional.cross_entropy(logits, labels(80, 4))
    (expected,) = torch.autograd.grad(loss, model.shared.weight)
    assert_spectrum(found["shared"].gradient.singular_values, expected)
    assert_spectrum(found["shared"].inputs.singular_values, torch.cat([one, two]).detach())


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_attention_has_the_gradient_of_its_projection_to_queries_keys_and_values() -> None:
    model, tokens = seeded(Attention()), normal(70, 5, 6)
    found = spectra(model, tokens)
    assert list(found) == ["attention", "last"]
    loss = functional.cross_entropy(model(tokens), labels(70, 4))
    (expected,) = torch.autograd.grad(loss, model.attention.in_proj_weight)
    assert_spectrum(found["attention"].gradient.singular_values, expected)
    assert_spectrum(found["attention"].inputs.singular_values, tokens.flatten(0, 1))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "normalise",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.weight_norm,  # of old, computed in a hook
    ],
)
def test_normalised_weights_have_the_gradient_of_the_weight_that_is_used(
    normalise: Callable[[nn.Module], nn.Module], frozen: bool
) -> None:
    model = seeded(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)))
    normalise(model[0])
    plain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).double()
    model.eval().requires_grad_(not frozen)
    with torch.no_grad():
        plain[0].weight.copy_(model[0].weight)
        plain[0].bias.copy_(model[0].bias)
    plain[2].load_state_dict(model[2].state_dict())
    inputs = normal(80, 6)
    expected, found = spectra(plain, inputs), spectra(model, inputs)
    for name in expected:
        torch.testing.assert_close(
            found[name].gradient.singular_values, expected[name].gradient.singular_values
        )
    assert all(parameter.requires_grad != frozen for parameter in model.parameters())


class Branch(nn.Module):
    """A branch that the logits do not depend on, and a part that passes no gradients on."""

    def __init__(self, passing: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.aside, self.last = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 4)
        self.passing = passing

    def forward(self, x: Tensor) -> Any:
        hidden = torch.relu(self.first(x))
        return {"aside": self.aside(hidden), "logits": self.passing(self.last(hidden.detach()))}


def test_weights_that_the_loss_does_not_depend_on_have_no_gradient() -> None:
    model, inputs = seeded(Branch(lambda logits: logits)), normal(80, 6)
    found = spectra(model, inputs, "first", "aside", "last")
    ranks = {name: int(value.gradient.rank()) for name, value in found.items()}
    assert ranks == {"first": 0, "aside": 0, "last": 3}
    assert int(found["aside"].inputs.rank()) == 5


def test_models_that_run_without_gradients_are_an_error() -> None:
    model = seeded(Branch(lambda logits: logits.detach()))
    with pytest.raises(ValueError, match="without gradients"):
        spectra(model, normal(8, 6))


def test_layers_without_one_matrix_are_left_out() -> None:
    model = seeded(
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4))
    )
    assert list(spectra(model, normal(8, 4, 4, 4))) == ["3"]
    assert weight_matrix(model[0]) is None
