"""Training in balls against hand calculations, autograd and torch's optimisers."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from flint import arb, fmpq

from proofs.networks import LINEAR, NORMALISED, RELU, TANH, Activation
from proofs.temperature_equivalence import twin_settings, uniform_powers
from proofs.training import Problem, Settings, train
from rankdeficit.toys.optimizers import make_optimizer
from rankdeficit.toys.ufm import DeepUfm, UfmShape

ONE_WEIGHT_PER_CLASS = Problem(LINEAR, (1, 2), (0,), False, (Fraction(1),))


def floats(balls: list[arb]) -> np.ndarray:
    return np.array([float(ball.mid()) for ball in balls])


def test_twin_settings_by_hand() -> None:
    settings = Settings(fmpq(1), decay=fmpq(3), epsilon=fmpq(5))
    assert twin_settings("heavy_ball", settings, fmpq(2))[:2] == (fmpq(1, 4), 12)
    assert twin_settings("adam", settings, fmpq(2))[:3] == (fmpq(1, 2), 12, 10)
    assert twin_settings("adamw", settings, fmpq(2))[:3] == (fmpq(1, 2), 6, 10)


def test_first_steps_by_hand() -> None:
    """Zero logits of two classes at T = 2: the gradient is (-1/4, 1/4)."""
    settings = [Settings(fmpq(1, 2), epsilon=fmpq(1, 4))] * 2
    step = train(ONE_WEIGHT_PER_CLASS, "gradient_descent", [0, 0], settings, 2, 1)
    np.testing.assert_allclose(floats(step), [1 / 8, -1 / 8])
    step = train(ONE_WEIGHT_PER_CLASS, "adam", [0, 0], settings, 2, 1)
    np.testing.assert_allclose(floats(step), [1 / 4, -1 / 4])


def test_powers_count_the_factors_below_a_bias() -> None:
    data = Problem(RELU, (1, 1, 1), (0,), True, (Fraction(1),))
    assert uniform_powers(data) == [Fraction(1, 2)] * 2 + [Fraction(1, 2), Fraction(1)]
    free = Problem(RELU, (1, 1, 1), (0,), True, None)
    assert uniform_powers(free) == [Fraction(x, 3) for x in (1, 1, 2, 3, 1)]


@pytest.mark.parametrize("optimiser", ["gradient_descent", "heavy_ball", "nesterov", "adam"])
def test_training_against_the_batched_model(optimiser: str) -> None:
    shape = UfmShape(3, 2, 3, 2, "relu", bias=True)
    problem = Problem(RELU, (3, 3, 3), (0, 0, 1, 1, 2, 2), True, None)
    rng = np.random.default_rng(0)
    start = [Fraction(int(x), 100) for x in rng.integers(-150, 150, shape.parameter_count)]
    settings = Settings(fmpq(1, 4), epsilon=fmpq(1, 100))
    ours = train(problem, optimiser, [fmpq(x.numerator, x.denominator) for x in start],
                 [settings] * len(start), 3, 5)  # fmt: skip

    def in_their_order(entries: Any) -> np.ndarray:
        """Weights, biases and features as columns, to weights, features as rows, biases."""
        weights, biases, features = np.split(np.array(entries, dtype=float), [18, 24])
        return np.concatenate([weights, features.reshape(3, 6).T.ravel(), biases])

    parameters = torch.from_numpy(in_their_order(start)[None].copy())
    model = DeepUfm(shape, parameters, torch.tensor([3.0], dtype=torch.float64))
    names: dict[str, Any] = {"gradient_descent": "gd", "adam": "adam"}
    stepper = make_optimizer(
        names.get(optimiser, "sgd"), model.parameters, model.gradient, 0.25,
        nesterov=optimiser == "nesterov", epsilon=0.01,
    )  # fmt: skip
    for _ in range(5):
        model.compute_gradient()
        stepper.step()
    np.testing.assert_allclose(
        in_their_order(floats(ours)), model.parameters[0].numpy(), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(
    ("activation", "function"),
    [(TANH, torch.tanh), (NORMALISED, lambda z: z / z.norm(dim=0, keepdim=True))],
)
def test_gradients_against_autograd(activation: Activation, function: Any) -> None:
    rng = np.random.default_rng(1)
    data = tuple(Fraction(int(x), 10) for x in rng.integers(-9, 9, 6))
    problem = Problem(activation, (2, 3, 2), (0, 1, 1), False, data)
    start = [fmpq(int(x), 10) for x in rng.integers(-9, 9, 12)]
    parameters = torch.tensor([float(x.p) / float(x.q) for x in start], dtype=torch.float64)
    parameters.requires_grad_()
    X = torch.tensor([float(x) for x in data], dtype=torch.float64).view(2, 3)
    logits = parameters[6:].view(2, 3) @ function(parameters[:6].view(3, 2) @ X)
    torch.nn.functional.cross_entropy(logits.T / 3, torch.tensor([0, 1, 1])).backward()
    ours = problem.gradient([arb(x) for x in start], 3)
    np.testing.assert_allclose(floats(ours), parameters.grad, rtol=1e-10, atol=1e-14)
