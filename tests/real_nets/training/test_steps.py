"""Steps: losses, momentum, clipping and dropout as they are meant, resuming at any step, divergence."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from rankdeficit import cross_entropy, softmax_mse
from real_nets.training.loop import DivergedError, Training, _seed_dropout
from tests.real_nets.training.small import (
    CPU,
    PLAIN,
    small_mlp,
    trained,
    training,
    with_dropout,
)


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
    with pytest.raises(ValueError, match=r"2 steps.* 1 processes.* 3"):
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
        match=r"T = 50, seed 3.* loss.* step \d+ \(epoch \d.*\).* --lr .*1e\+25.* --clip-norm",
    ) as caught:
        job.run_until(job.steps, lambda step: None)
    step = int(str(caught.value).split("step ")[1].split(" ")[0])
    fresh = training(small_mlp(), replace(PLAIN, lr=1e25, epochs=20), temperature=50.0, seed=3)
    fresh.run_until(step - 1, lambda step: None)  # all losses up to here were numbers


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
        ({"epochs": 2, "warmup_epochs": 2.0}, "warmup_epochs.* 2.* less .*2 epochs"),
        ({"stop_accuracy": 1.5}, "stop_accuracy is 1.5"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"label_smoothing": 0.1, "loss": "mse"}, "label_smoothing.* cross-entropy"),
        ({"nesterov": True, "optimizer": "adamw"}, "nesterov.* SGD"),
    ],
)
def test_recipes_that_make_no_sense(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(PLAIN, **change)
