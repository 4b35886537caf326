"""The batched deep UFM in training: batches against single runs, reparametrisations, bad arguments."""

import math
from typing import Any

import pytest
import torch

import rankdeficit as rd
from rankdeficit.toys.optimizers import make_optimizer
from rankdeficit.toys.ufm import DeepUfm, UfmShape, initial_parameters
from tests.rankdeficit.toys.reference import doubles, reference_objective


def train(shape: UfmShape, seeds: list[int], T: list[float], steps: int, **options: Any) -> DeepUfm:
    name, rate = options.pop("optimizer", "adam"), options.pop("lr", 0.02)
    momentum, epsilon = options.pop("momentum", 0.9), options.pop("epsilon", 1e-8)
    nesterov = name == "nesterov"
    name = "sgd" if nesterov else name
    start = options.pop("start", None)
    if start is None:
        start = initial_parameters(shape, seeds, dtype=torch.float64)
    model = DeepUfm(shape, start.clone(), doubles(*T), **options)
    optimizer = make_optimizer(
        name,
        model.parameters,
        model.gradient,
        rate,
        momentum=momentum,
        nesterov=nesterov,
        epsilon=epsilon,
    )
    for _ in range(steps):
        model.compute_gradient()
        optimizer.step()
    return model


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("optimizer", ["gd", "sgd", "adam"])
def test_a_batch_equals_its_runs_alone(activation: Any, optimizer: str) -> None:
    shape = UfmShape(5, 4, 8, 3, activation, bias=True)
    seeds, T = [3, 4, 5], [1.0, 10.0, 10.0]
    batch = train(shape, seeds, T, 60, optimizer=optimizer, weight_decay=1e-3)
    for run in range(3):
        alone = train(shape, [seeds[run]], [T[run]], 60, optimizer=optimizer, weight_decay=1e-3)
        torch.testing.assert_close(
            batch.parameters[run], alone.parameters[0], rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("optimizer", ["gd", "sgd", "adam"])
def test_optimizers_against_torch_on_a_single_run(optimizer: str) -> None:
    shape = UfmShape(3, 2, 4, 2)
    ours = train(shape, [0], [2.0], 40, optimizer=optimizer, lr=0.05, weight_decay=0.01)
    row = initial_parameters(shape, [0], dtype=torch.float64)[0].requires_grad_()
    reference: torch.optim.Optimizer
    if optimizer == "adam":
        reference = torch.optim.Adam([row], lr=0.05)
    else:
        reference = torch.optim.SGD([row], lr=0.05, momentum=0.9 if optimizer == "sgd" else 0.0)
    for _ in range(40):
        reference.zero_grad()
        reference_objective(shape, row, 2.0, "ce", 0.01, 0.01).backward()
        reference.step()
    torch.testing.assert_close(ours.parameters[0], row.detach(), rtol=1e-10, atol=1e-12)


T_HOT = 37.0


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("optimizer", ["gd", "sgd", "nesterov", "adam"])
def test_a_temperature_is_a_reparametrisation(depth: int, activation: Any, optimizer: str) -> None:
    """The run (T, theta_0, eta) is the run (1, theta_0 / a, eta') with a = T^(1/L)."""
    shape = UfmShape(4, 3, 6, depth, activation)
    L = depth + 1
    a = T_HOT ** (1 / L)
    lr, decay, epsilon = 0.05, 1e-3, 1e-8
    start = initial_parameters(shape, [0, 1], dtype=torch.float64)
    hot = train(
        shape, [0, 1], [T_HOT] * 2, 200,
        optimizer=optimizer, lr=lr, weight_decay=decay, epsilon=epsilon, start=start,
    )  # fmt: skip
    adam = optimizer == "adam"
    twin = train(
        shape, [0, 1], [1.0] * 2, 200, optimizer=optimizer, start=start / a,
        lr=lr / a if adam else lr / a**2, weight_decay=decay * a**2,
        epsilon=epsilon * a if adam else epsilon,
    )  # fmt: skip
    torch.testing.assert_close(hot.parameters, a * twin.parameters, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(hot.logits(), T_HOT * twin.logits(), rtol=1e-10, atol=1e-9)
    assert not torch.allclose(hot.parameters, start, rtol=0.01)


@pytest.mark.parametrize("optimizer", ["gd", "sgd"])
def test_biases_scale_with_their_layer_in_the_reparametrisation(optimizer: str) -> None:
    """The bias of layer l scales by a^l, with learning rate eta / a^(2 l)."""
    shape = UfmShape(4, 3, 6, 2, "relu", bias=True)
    a = T_HOT ** (1 / 3)
    start = initial_parameters(shape, [0], dtype=torch.float64)
    start += 0.05
    # Factors have degree 1; the bias after W_1 has degree 2, the one of the logits degree 3.
    scales = torch.full_like(start, a)
    for degree, bias in zip((2, 3), shape.unpack(scales).biases, strict=True):
        bias.fill_(a**degree)
    runs = []
    for T, rates, first in (
        (T_HOT, torch.ones_like(scales), start),
        (1.0, scales**-2, start / scales),
    ):
        model = DeepUfm(shape, first.clone(), doubles(T))
        velocity = torch.zeros_like(first)
        for _ in range(200):
            model.compute_gradient()
            velocity = (0.9 if optimizer == "sgd" else 0.0) * velocity + model.gradient
            model.parameters -= 0.05 * rates * velocity
        runs.append(model.parameters.clone())
    torch.testing.assert_close(runs[0], scales * runs[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("optimizer", ["gd", "sgd", "adam"])
def test_a_linear_head_absorbs_the_temperature(optimizer: str) -> None:
    """(T, W, b, eta) is (1, W/T, b/T, head rate eta/T^2); Adam: eta/T and eps T."""

    def backbone(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Linear(7, 9), torch.nn.LayerNorm(9), torch.nn.Tanh(), torch.nn.Linear(9, 8)
        ).double()

    x = torch.randn(30, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.arange(30) % 5
    rate = {"gd": 2.0, "sgd": 0.5, "adam": 0.01}[optimizer]
    losses = []
    with torch.random.fork_rng():
        for T, head_scale in ((T_HOT, 1.0), (1.0, 1 / T_HOT)):
            body = backbone(0)
            head = torch.nn.Linear(8, 5).double()
            with torch.no_grad():
                for parameter in head.parameters():
                    parameter.mul_(head_scale)
            groups = [{"params": body.parameters()}, {"params": head.parameters()}]
            if optimizer == "adam":
                groups[1] |= {"lr": rate * head_scale, "eps": 1e-8 / head_scale}
                opt: torch.optim.Optimizer = torch.optim.Adam(groups, lr=rate, eps=1e-8)
            else:
                groups[1] |= {"lr": rate * head_scale**2}
                momentum = 0.9 if optimizer == "sgd" else 0.0
                opt = torch.optim.SGD(groups, lr=rate, momentum=momentum)
            history = []
            for _ in range(100):
                opt.zero_grad()
                loss = rd.cross_entropy(head(body(x)), y, T)
                loss.backward()
                opt.step()
                history.append(loss.item())
            losses.append(history)
    assert losses[0] == pytest.approx(losses[1], rel=1e-10, abs=1e-10)
    assert losses[0][-1] < 0.95 * losses[0][0]


def test_runs_start_alike_alone_in_a_batch_and_in_any_dtype() -> None:
    shape = UfmShape(3, 2, 40, 2)
    together = initial_parameters(shape, [7, 8], 0.5, dtype=torch.float64)
    alone = initial_parameters(shape, [8], 0.5, dtype=torch.float64)
    assert torch.equal(together[1], alone[0])
    assert torch.equal(initial_parameters(shape, [8], 0.5)[0], alone[0].float())
    factors = shape.unpack(together)
    assert factors.weights[0].std().item() == pytest.approx(0.5 / 40**0.5, rel=0.1)
    assert factors.weights[1].shape == (2, 3, 40)
    assert factors.weights[1].std().item() == pytest.approx(0.5 / 40**0.5, rel=0.2)
    assert factors.features.std().item() == pytest.approx(0.5, rel=0.1)


def test_diverged_runs_do_not_touch_their_neighbours() -> None:
    shape = UfmShape(4, 3, 5, 3)
    start = initial_parameters(shape, [0, 1], dtype=torch.float64)
    start[1] *= 1e120
    both = train(shape, [], [1.0, 1.0], 20, start=start, optimizer="gd", lr=0.1)
    alone = train(shape, [0], [1.0], 20, optimizer="gd", lr=0.1)
    assert both.parameters[1].isnan().any()
    torch.testing.assert_close(both.parameters[0], alone.parameters[0], rtol=1e-12, atol=0)


def test_rank_deficit_at_high_temperature_in_a_small_model() -> None:
    shape = UfmShape(20, 5, 40, 4)
    seeds = [0, 1, 2]
    model = train(shape, seeds * 2, [1.0] * 3 + [100.0] * 3, 600, lr=0.01)
    logits = model.logits()
    assert (logits.argmax(-1) == shape.labels()).all()
    ranks = rd.numerical_rank(logits, 1e-2)
    assert ranks[3:].max() < ranks[:3].min()


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    good = UfmShape(3, 2, 4, 2)
    parameters = initial_parameters(good, [0])
    for call, match in (
        (lambda: UfmShape(1, 2, 4, 2), "classes is 1"),
        (lambda: UfmShape(3, 0, 4, 2), "samples_per_class is 0"),
        (lambda: UfmShape(3, 2, 0, 2), "width is 0"),
        (lambda: UfmShape(3, 2, 4, 0), "depth is 0"),
        (lambda: UfmShape(3, 2, 4, 2, "tanh"), "activation"),  # type: ignore[arg-type]
        (lambda: initial_parameters(good, []), "seeds is empty"),
        (lambda: initial_parameters(good, [0], 0.0), "init_scale"),
        (lambda: initial_parameters(good, [0], math.nan), "init_scale"),
        (lambda: DeepUfm(good, parameters, doubles(1, 2)), "parameters have shape"),
        (lambda: DeepUfm(good, parameters, doubles(-1)), "temperature"),
        (lambda: DeepUfm(good, parameters, doubles(1), weight_decay=-1), "weight_decay"),
        (lambda: DeepUfm(good, parameters, doubles(1), feature_decay=math.nan), "feature_decay"),
        (lambda: DeepUfm(good, parameters, doubles(1), loss="hinge"), "loss"),  # type: ignore[arg-type]
        (lambda: make_optimizer("lion", parameters, parameters, 0.1), "optimizer"),  # type: ignore[arg-type]
        (lambda: make_optimizer("gd", parameters, parameters, -0.1), "lr is"),
        (lambda: make_optimizer("gd", parameters, parameters, [0.1, 0.2]), "lr.* 2.* 1"),
        (lambda: make_optimizer("sgd", parameters, parameters, 0.1, momentum=1.0), "momentum"),
        (
            lambda: make_optimizer("sgd", parameters, parameters, 0.1, momentum=0.0, nesterov=True),
            "nesterov",
        ),
        (lambda: DeepUfm(good, parameters, doubles(1e-50)), "beyond torch.float32"),
        (lambda: DeepUfm(good, parameters, doubles(1e39)), "beyond torch.float32"),
        (lambda: DeepUfm(good, parameters.expand(2, -1), doubles(1, 1e39)), "beyond torch.float32"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_gpu_equals_cpu(device: torch.device) -> None:
    shape = UfmShape(4, 3, 5, 3, "relu", bias=True)
    on_cpu = train(shape, [0, 1], [1.0, 5.0], 50)
    start = initial_parameters(shape, [0, 1], dtype=torch.float64, device=device)
    on_gpu = train(shape, [], [1.0, 5.0], 50, start=start)
    torch.testing.assert_close(on_gpu.parameters.cpu(), on_cpu.parameters, rtol=1e-8, atol=1e-10)
