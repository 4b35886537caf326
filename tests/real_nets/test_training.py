"""Training: rates and their rules against exact equivalences, resuming at any step, divergence."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankdeficit import cross_entropy, softmax_mse
from rankdeficit.images import Normalisation
from real_nets.batches import InMemoryBatches
from real_nets.models import Architecture
from real_nets.rates import homogeneous_layers, parameter_groups, shape_at
from real_nets.training import LOSSES_AT_ONCE, DivergedError, Recipe, Training, _seed_dropout
from tests.images import image_set
from tests.stand_in import waits

CPU = torch.device("cpu")
PLAIN = Recipe(epochs=4, batch_size=8, lr=0.05, clip_norm=None, augmentation="crop-flip")
SHORT = 0.03
"""A gradient norm that clips the small networks here at every step."""


def network(name: str = "mlp", **options: Any) -> nn.Module:
    return Architecture(name, 2, (3, 8, 8), **options).build(0)


def small_mlp(scale: float = 1.0) -> nn.Module:
    return network(width=16, depth=3, init_scale=scale)


def with_dropout(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 2)
        )


def training(
    model: nn.Module,
    recipe: Recipe = PLAIN,
    temperature: float = 1.0,
    seed: int = 0,
    *,
    images: int = 20,
    device: torch.device = CPU,
) -> Training:
    chosen = image_set(images)
    batches = InMemoryBatches(
        chosen.to(device), Normalisation.of(chosen), batch_size=recipe.batch_size,
        augmentation=recipe.augmentation, seed=seed,
    )  # fmt: skip
    return Training(model, batches, recipe, temperature=temperature, seed=seed, device=device)


def trained(*arguments: Any, **options: Any) -> dict[str, Tensor]:
    job = training(*arguments, **options)
    job.run_until(job.steps, lambda step: None)
    return {name: value.double() for name, value in job.model.state_dict().items()}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("clip_norm", [None, SHORT])
def test_reparametrised_sgd_of_a_homogeneous_network_is_a_smaller_start(
    momentum: float, weight_decay: float, clip_norm: float | None
) -> None:
    temperature, depth = 8.0, 3
    scale = temperature ** (1 / depth)
    recipe = replace(PLAIN, momentum=momentum, weight_decay=weight_decay, clip_norm=clip_norm)
    hot = trained(small_mlp(), replace(recipe, lr_rule="reparametrised"), temperature=temperature)
    cold = trained(small_mlp(1 / scale), recipe)
    linear = [name for name in hot if name.endswith("weight")]
    for layer, name in enumerate(linear, start=1):
        bias = name.replace("weight", "bias")
        torch.testing.assert_close(hot[name], cold[name] * scale, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(hot[bias], cold[bias] * scale**layer, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("clip_norm", [None, SHORT])
def test_reparametrised_adamw_of_a_homogeneous_network_is_a_smaller_start(
    clip_norm: float | None,
) -> None:
    temperature, scale = 8.0, 2.0
    recipe = replace(PLAIN, optimizer="adamw", lr=1e-3, weight_decay=0.1, clip_norm=clip_norm)
    hot = trained(small_mlp(), replace(recipe, lr_rule="reparametrised"), temperature=temperature)
    cold = trained(small_mlp(1 / scale), recipe)
    weight = "1.weight"
    torch.testing.assert_close(hot[weight], cold[weight] * scale, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("clip_norm", [None, SHORT])
def test_reparametrised_sgd_of_any_other_network_shrinks_its_classifier(
    clip_norm: float | None,
) -> None:
    temperature = 10.0
    recipe = replace(PLAIN, weight_decay=1e-3, clip_norm=clip_norm)
    options = {"width": 4, "stem": "cifar"}
    hot = trained(
        network("resnet20", **options), replace(recipe, lr_rule="reparametrised"),
        temperature=temperature,
    )  # fmt: skip
    cold = network("resnet20", **options)
    with torch.no_grad():
        for parameter in (cold.fc.weight, cold.fc.bias):  # type: ignore[union-attr]
            parameter /= temperature  # type: ignore[operator]
    expected = trained(cold, recipe)
    for name, value in expected.items():
        head = temperature if name.startswith("fc.") else 1.0
        torch.testing.assert_close(hot[name], value * head, rtol=1e-2, atol=1e-3)


@pytest.fixture
def compiled_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that torch.compile makes graphs for."""
    sizes: list[int] = []

    def record(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        sizes.extend(value.shape[0] for value in inputs if value.ndim == 4)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=record))
    return sizes


def test_a_compiled_network_trains_alike_with_a_graph_for_each_size_of_batch(
    compiled_sizes: list[int],
) -> None:
    expected = trained(small_mlp())
    found = trained(small_mlp(), replace(PLAIN, compile=True))
    assert compiled_sizes == [8, 4]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value)


def test_networks_compiled_before_do_not_leave_the_next_one_uncompiled(
    compiled_sizes: list[int],
) -> None:
    for width in range(8, 14):
        trained(network(width=width, depth=3), replace(PLAIN, epochs=1, compile=True))
    assert compiled_sizes == [8, 4] * 6


def test_matched_rates_are_the_same_at_every_temperature() -> None:
    model = small_mlp()
    same = {"lr": 0.1, "weight_decay": 0.01, "optimizer": "sgd", "rule": "matched"}
    (cold,), (hot,) = (parameter_groups(model, T, **same) for T in (1.0, 50.0))  # type: ignore[arg-type]
    assert (cold["peak"], cold["weight_decay"]) == (hot["peak"], hot["weight_decay"]) == (0.1, 0.01)
    assert len(hot["params"]) == 6


def test_every_parameter_is_in_one_group() -> None:
    for model in (small_mlp(), network("resnet20", width=4)):
        groups = parameter_groups(
            model, 7.0, lr=0.1, weight_decay=0.0, optimizer="adamw", rule="reparametrised"
        )
        grouped = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


def test_only_plain_chains_are_homogeneous() -> None:
    assert len(homogeneous_layers(small_mlp())) == 3
    assert homogeneous_layers(network(width=16, depth=3, norm="layer")) == []
    assert homogeneous_layers(network("resnet20", width=4)) == []


def test_the_last_of_several_linear_layers_takes_the_rates_of_the_classifier() -> None:
    model = Architecture("vgg19", 2, (3, 32, 32), width=4).build(0)
    others, head = parameter_groups(
        model, 7.0, lr=0.1, weight_decay=0.0, optimizer="sgd", rule="reparametrised"
    )
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(linear) > 1
    last = model.classifier[-1]  # type: ignore[index]
    assert [id(parameter) for parameter in head["params"]] == [id(last.weight), id(last.bias)]  # type: ignore[union-attr]
    assert (others["peak"], head["peak"]) == (0.1, pytest.approx(0.1 * 7**2))


def test_the_shapes_of_schedules() -> None:
    assert [shape_at(s, 4, "constant") for s in range(4)] == [1, 1, 1, 1]
    assert [shape_at(s, 8, "step") for s in (0, 3, 4, 5, 6, 7)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert shape_at(0, 10, "cosine") == 1
    assert shape_at(5, 10, "cosine") == pytest.approx(0.5)
    assert shape_at(10, 10, "cosine") == pytest.approx(0)
    rising = [shape_at(s, 100, "constant", warmup=4.0) for s in range(6)]
    assert rising == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_the_rate_rises_over_epochs_of_warmup() -> None:
    job = training(small_mlp(), replace(PLAIN, warmup_epochs=2.0, schedule="constant"))
    rates = []
    for step in range(1, 9):
        job.run_until(step, lambda step: None)
        rates.append(job.optimizer.param_groups[0]["lr"] / PLAIN.lr)
    assert rates == pytest.approx([1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 1, 1])


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_those_of_plain_sgd_with_the_same_momentum(nesterov: bool) -> None:
    job = training(small_mlp(), replace(PLAIN, schedule="constant", nesterov=nesterov))
    job.run_until(3, lambda step: None)
    model = small_mlp()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=PLAIN.lr, momentum=PLAIN.momentum, nesterov=nesterov
    )
    for inputs, labels in job.batches.epoch(0):
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    for found, expected in zip(job.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_squared_errors_are_of_probabilities_at_the_temperature() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 4, generator=generator), torch.arange(6) % 4
    recipe = replace(PLAIN, loss="mse")
    found = {T: recipe.mean_loss(logits, labels, T) for T in (1.0, 5.0)}
    for temperature, loss in found.items():
        assert torch.equal(loss, softmax_mse(logits, labels, temperature))
    assert found[1.0] != found[5.0]


@pytest.mark.parametrize("stop", [1, 3, 5])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_resumes_to_the_bit_at_any_step(stop: int, optimizer: Any) -> None:
    recipe = replace(PLAIN, optimizer=optimizer, label_smoothing=0.1, warmup_epochs=1.0)
    if stop == 3:
        recipe = replace(recipe, loss="mse", label_smoothing=0.0, schedule="step")
    whole = training(with_dropout(0), recipe, temperature=5.0)
    whole.run_until(7, lambda step: None)
    first = training(with_dropout(0), recipe, temperature=5.0)
    first.run_until(stop, lambda step: None)
    state = first.state()
    second = training(with_dropout(3), recipe, temperature=5.0)
    torch.rand(5)  # what was drawn elsewhere does not count
    second.restore(state)
    heard: list[int] = []
    second.run_until(7, heard.append)
    assert heard == list(range(stop + 1, 8))
    for a, b in zip(
        whole.model.state_dict().values(), second.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_a_checkpoint_of_other_steps_is_refused() -> None:
    state = training(small_mlp()).state()
    with pytest.raises(
        ValueError, match=r"with 2 steps an epoch; with 1 processes they are 3: start"
    ):
        training(small_mlp()).restore(state | {"steps_per_epoch": 2})


def test_dropout_depends_on_the_seed_and_not_on_the_batches_alone() -> None:
    batches = training(with_dropout(0)).batches
    found = []
    for seed in (0, 0, 1):
        job = Training(with_dropout(0), batches, PLAIN, temperature=1.0, seed=seed, device=CPU)
        job.run_until(1, lambda step: None)
        found.append(job.model.get_parameter("4.weight").detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_dropout_is_seeded_on_the_gpu_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    current, seeded = [0], {}

    @contextmanager
    def chosen(device: torch.device) -> Iterator[None]:
        before, current[0] = current[0], device.index
        yield
        current[0] = before

    monkeypatch.setattr(torch.cuda, "device", chosen)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seeded.update({current[0]: seed}))
    with torch.random.fork_rng(devices=[]):
        _seed_dropout(7, torch.device("cuda", 1))
    assert seeded == {1: 7}


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(with_dropout(0))
    assert torch.equal(torch.rand(3), expected)


def test_temperature_divides_the_logits() -> None:
    recipe = replace(PLAIN, momentum=0.0, epochs=1, batch_size=20)
    changes = []
    for temperature in (1.0, 100.0):
        model = small_mlp()
        before = model[1].weight.detach().clone()  # type: ignore[index]
        job = training(model, recipe, temperature=temperature)
        job.run_until(1, lambda step: None)
        changes.append(float((model[1].weight.detach() - before).norm()))  # type: ignore[index]
    assert changes[0] > 20 * changes[1]


def test_gradients_are_clipped() -> None:
    recipe = replace(PLAIN, momentum=0.0, clip_norm=1e-3, lr=1.0, schedule="constant")
    model = small_mlp()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    job = training(model, recipe)
    job.run_until(1, lambda step: None)
    moved = math.sqrt(
        sum(
            float((p.detach() - q).square().sum())
            for p, q in zip(model.parameters(), before, strict=True)
        )
    )
    assert moved == pytest.approx(1e-3, rel=1e-2)


def test_a_loss_that_is_no_number_names_step_temperature_and_advice() -> None:
    model = small_mlp()
    job = training(model, replace(PLAIN, lr=1e25, epochs=20), temperature=50.0, seed=3)
    with pytest.raises(
        DivergedError,
        match=r"T = 50, seed 3: the loss is not finite at step \d+ \(epoch \d.*\); lower --lr "
        r"\(now 1e\+25\), or shorten gradients with --clip-norm",
    ) as caught:
        job.run_until(job.steps, lambda step: None)
    step = int(str(caught.value).split("step ")[1].split(" ")[0])
    fresh = training(small_mlp(), replace(PLAIN, lr=1e25, epochs=20), temperature=50.0, seed=3)
    fresh.run_until(step - 1, lambda step: None)  # all losses up to here were numbers


def first_step(model: nn.Module, weight: nn.Parameter, recipe: Recipe) -> Tensor:
    before = weight.detach().clone()
    training(model, recipe).run_until(1, lambda step: None)
    return weight.detach() - before


@pytest.mark.parametrize("change", [
    {"augmentation": "none", "clip_norm": 1.0},
    {"augmentation": "flip", "loss": "mse"},
    {"augmentation": "crop-flip", "channels_last": True},
    {"augmentation": "resized-crop", "optimizer": "adamw", "label_smoothing": 0.1},
])  # fmt: skip
def test_steps_wait_for_a_gpu_only_to_look_at_losses(
    change: dict[str, Any], device: torch.device
) -> None:
    recipe = replace(PLAIN, epochs=3 * LOSSES_AT_ONCE, batch_size=256, **change)
    job = training(
        network("resnet20", width=4, stem="cifar"), recipe, 50.0, images=512, device=device
    )
    job.run_until(2, lambda step: None)
    with waits(device) as found:
        job.run_until(2 + LOSSES_AT_ONCE, lambda step: None)
    assert len(found) == 1


def test_channels_last_takes_the_same_step() -> None:
    def step(recipe: Recipe) -> Tensor:
        model = network("resnet20", width=16, stem="cifar")
        return first_step(model, model.conv1.weight, recipe)  # type: ignore[arg-type]

    plain, layout = step(PLAIN), step(replace(PLAIN, channels_last=True))
    torch.testing.assert_close(layout, plain, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("width", "kept"), [(4, False), (16, True)])
def test_channels_last_is_left_out_where_a_cpu_would_spoil_memory(width: int, kept: bool) -> None:
    one = training(
        network("resnet20", width=width, stem="cifar"), replace(PLAIN, channels_last=True)
    )
    seen = []
    one.model.conv1.register_forward_hook(  # type: ignore[union-attr]
        lambda module, inputs, output: seen.append(
            inputs[0].is_contiguous(memory_format=torch.channels_last)
        )
    )
    one.run_until(1, lambda step: None)
    weight = one.model.layer2[0].conv1.weight  # type: ignore[index,union-attr]
    layouts = {weight.is_contiguous(memory_format=torch.channels_last), *seen}  # type: ignore[union-attr]
    assert layouts == {kept}


def test_bf16_takes_about_the_same_step() -> None:
    def step(recipe: Recipe) -> Tensor:
        model = small_mlp()
        return first_step(model, model[1].weight, recipe)  # type: ignore[index]

    plain, half = step(PLAIN), step(replace(PLAIN, precision="bf16"))
    assert 0 < (half - plain).norm() < 0.05 * plain.norm()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"epochs": -1}, "epochs is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"warmup_epochs": math.inf}, "warmup_epochs is inf"),
        (
            {"epochs": 2, "warmup_epochs": 2.0},
            "warmup_epochs is 2; it must be less than the 2 epochs",
        ),
        ({"stop_accuracy": 1.5}, "stop_accuracy is 1.5"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"label_smoothing": 0.1, "loss": "mse"}, "label_smoothing is for cross-entropy"),
        ({"nesterov": True, "optimizer": "adamw"}, "nesterov is for SGD"),
    ],
)
def test_recipes_that_make_no_sense(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(PLAIN, **change)
