"""Closed-form optima of the linear UFM against optimisation, and the crossovers between codes."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize

import rankdeficit as rd
from rankdeficit import constructions
from rankdeficit.toys.optima import (
    best_scale,
    code_objective,
    least_loss,
    merging_imbalance,
    merging_temperature,
    two_factor_optimum,
)
from rankdeficit.toys.optimizers import make_optimizer
from rankdeficit.toys.ufm import DeepUfm, UfmShape, initial_parameters


def lbfgs(shape: UfmShape, T: float, weight_decay: float, feature_decay: float) -> DeepUfm:
    """Minimise one run with SciPy's L-BFGS on the batched model's own gradient."""
    start = initial_parameters(shape, [0], dtype=torch.float64)
    model = DeepUfm(
        shape, start, torch.tensor([T], dtype=torch.float64),
        weight_decay=weight_decay, feature_decay=feature_decay,
    )  # fmt: skip

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        model.parameters.copy_(torch.from_numpy(x)[None])
        model.compute_gradient()
        return model.objective().item(), model.gradient[0].numpy().copy()

    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0, "gtol": 1e-13, "maxcor": 50}
    result = minimize(
        value_and_gradient, start[0].numpy().copy(), jac=True, method="L-BFGS-B", options=options
    )
    model.parameters.copy_(torch.from_numpy(result.x)[None])
    return model


@pytest.mark.parametrize(
    ("classes", "samples", "T", "weight_decay", "feature_decay"),
    [(4, 3, 1.0, 5e-3, 5e-3), (10, 2, 5.0, 1e-3, 4e-3), (3, 5, 20.0, 1e-3, 1e-4)],
)
def test_two_factor_optimum_is_reached_to_1e_10(
    classes: int, samples: int, T: float, weight_decay: float, feature_decay: float
) -> None:
    expected = two_factor_optimum(classes, samples, T, weight_decay, feature_decay)
    model = lbfgs(UfmShape(classes, samples, classes + 1, 1), T, weight_decay, feature_decay)
    assert model.objective().item() == pytest.approx(expected.value, abs=1e-10)
    logits, labels = model.logits()[0], model.shape.labels()
    wrong = torch.ones_like(logits, dtype=torch.bool).scatter_(1, labels[:, None], False)
    own = logits.gather(1, labels[:, None])
    margins = (own - logits)[wrong]
    expected_margins = torch.full_like(margins, expected.margin)
    # Margins lie on a flat bottom: an objective 1e-16 off leaves 1e-8 of freedom in each ...
    torch.testing.assert_close(margins, expected_margins, rtol=1e-7, atol=1e-7)
    # ... which a last stretch of gradient descent removes.
    polished = polish(model)
    margins = (polished.gather(1, labels[:, None]) - polished)[wrong]
    torch.testing.assert_close(margins, expected_margins, rtol=1e-10, atol=1e-10)
    wrong_probabilities = rd.softmax(polished, T)[wrong]
    torch.testing.assert_close(
        wrong_probabilities, torch.full_like(margins, expected.wrong_probability),
        rtol=1e-10, atol=1e-12,
    )  # fmt: skip


def polish(model: DeepUfm) -> torch.Tensor:
    """Gradient descent from near the minimum until the gradient is all rounding."""
    rate = 1.0 if model.temperatures.item() < 10 else 5.0
    optimizer = make_optimizer("sgd", model.parameters, model.gradient, rate, momentum=0.95)
    for _ in range(40_000):
        model.compute_gradient()
        if model.gradient.abs().max() < 1e-15:
            break
        optimizer.step()
    return model.logits()[0].clone()


@pytest.mark.parametrize(("T", "collapses"), [(24.9, False), (25.1, True)])
def test_beyond_the_critical_temperature_zero_is_the_optimum(T: float, collapses: bool) -> None:
    # tau = T sqrt(N lw lh) = T / 100 meets 1/c = 1/4 at T = 25.
    optimum = two_factor_optimum(4, 4, T, 5e-3, 5e-3)
    assert (optimum.margin == 0) == collapses
    if collapses:
        assert optimum.value == math.log(4)
        model = lbfgs(UfmShape(4, 4, 5, 1), T, 5e-3, 5e-3)
        assert model.objective().item() == pytest.approx(math.log(4), abs=1e-10)
        assert model.parameters.abs().max() < 1e-3


def planted(
    code: constructions.Code, scale: float, depth: int, samples: int, width: int
) -> torch.Tensor:
    """Parameters of balanced factors whose logits are the code's at this scale."""
    shape = UfmShape(code.classes, samples, width, depth)
    K, L = code.rank, depth + 1
    sigma = samples**0.5 * scale * code.classes / K
    basis = code.directions * (K / code.classes) ** 0.5
    embed = torch.eye(K, width, dtype=torch.float64)
    parameters = torch.zeros(1, shape.parameter_count, dtype=torch.float64)
    factors = shape.unpack(parameters)
    for W in factors.weights[:-1]:
        W[0] = sigma ** (1 / L) * embed.mT @ embed
    factors.weights[-1][0] = sigma ** (1 / L) * basis @ embed
    expanded = basis.repeat_interleave(samples, dim=0) / samples**0.5
    factors.features[0] = sigma ** (1 / L) * expanded @ embed
    return parameters


@pytest.mark.parametrize(
    "make",
    [
        lambda: constructions.simplex_etf(10),
        lambda: constructions.pairs(10),
        lambda: constructions.petersen(),
        lambda: constructions.circle(10),
    ],
    ids=["etf", "pairs", "petersen", "circle"],
)
@pytest.mark.parametrize(("depth", "samples", "T"), [(1, 3, 1.0), (2, 1, 7.0), (3, 2, 1.0)])
def test_planted_codes_are_stationary_with_the_stated_objective(
    make: Callable[[], constructions.Code], depth: int, samples: int, T: float
) -> None:
    code, decay = make(), 1e-3
    best = best_scale(code, depth + 1, samples, T, decay)
    assert best.scale > 0
    shape = UfmShape(10, samples, 12, depth)
    model = DeepUfm(
        shape,
        planted(code, best.scale, depth, samples, 12),
        torch.tensor([T], dtype=torch.float64),
        weight_decay=decay,
    )
    assert model.objective().item() == pytest.approx(best.value, abs=1e-12)
    model.compute_gradient()
    assert model.gradient.abs().max() < 1e-8
    expected = code.logits(shape.labels(), best.scale)
    torch.testing.assert_close(model.logits()[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("large", "small", "T"), [(3, 2, 20.0), (4, 4, 10.0), (2, 2, 5.0)])
def test_imbalance_and_temperature_of_merging_agree(large: int, small: int, T: float) -> None:
    N, decays = 10**8, (1e-6, 4e-7)
    r = merging_imbalance(large, small, N, T, *decays)
    assert r > 1.5
    for factor, merged in ((0.99, False), (1.01, True)):
        few = round(N / (factor * r))
        critical = merging_temperature(large * N + small * few, few, *decays)
        assert (critical <= T) == merged
    zero = merging_temperature((large + small) * N, N, *decays)
    assert merging_imbalance(large, small, N, 1.001 * zero, *decays) == 1
    assert merging_imbalance(large, small, N, 0.999 * zero, *decays) >= 1


@pytest.mark.parametrize("loss", ["ce", "mse"])
@pytest.mark.parametrize("classes", [2, 10, 35])
def test_no_logits_of_a_norm_have_a_lower_loss(loss: Literal["ce", "mse"], classes: int) -> None:
    function = rd.cross_entropy if loss == "ce" else rd.softmax_mse
    generator = torch.Generator().manual_seed(classes)
    labels = torch.arange(6) % classes
    simplex = torch.nn.functional.one_hot(labels, classes).double() - 1 / classes
    for size, noise in ((0.1, 1.0), (2.0, 0.1), (5.0, 0.01), (3.0, 0.0)):
        sizes = (
            torch.ones(6, 1).double()
            if noise == 0
            else torch.rand(6, 1, generator=generator).double()
        )
        wobble = torch.randn(6, classes, generator=generator, dtype=torch.float64)
        logits = 7 * size * sizes * (simplex + noise * wobble)
        R = (logits - logits.mean(dim=1, keepdim=True)).norm().item() / math.sqrt(6) / 7
        found = function(logits, labels, 7.0).item()
        least = least_loss(R, classes, loss)
        assert found == pytest.approx(least) if noise == 0 else found > least
    assert least_loss(0.0, classes) == pytest.approx(math.log(classes))
    assert least_loss(0.0, classes, "mse") == pytest.approx(1 - 1 / classes)


def test_samples_of_unequal_norms_have_a_lower_mse_for_many_classes() -> None:
    for classes, lower in ((35, False), (36, True), (1000, True)):
        q = (15 + math.sqrt(33)) / 24
        R = math.log((classes - 1) * (1 - q) / q) * math.sqrt(1 - 1 / classes)
        ends = [least_loss(R * math.sqrt(1 + sign / 100), classes, "mse") for sign in (1, -1)]
        assert (sum(ends) / 2 < least_loss(R, classes, "mse")) == lower


def test_closed_forms_of_the_losses() -> None:
    a = 2.7
    for code, scale, expected in (
        (constructions.simplex_etf(10), a * 0.9, math.log(1 + 9 * math.exp(-a))),
        (constructions.pairs(10), a, math.log(1 + 8 * math.exp(-a) + math.exp(-2 * a))),
        (
            constructions.petersen(),
            a,
            math.log(1 + 6 * math.exp(-5 * a / 6) + 3 * math.exp(-5 * a / 3)),
        ),
    ):
        loss = code_objective(code, scale, 2, 1, 1.0, 1e-300)
        assert loss == pytest.approx(expected, abs=1e-14)


def test_etf_objective_is_the_two_factor_optimum() -> None:
    expected = two_factor_optimum(10, 3, 4.0, 1e-3, 1e-3)
    best = best_scale(constructions.simplex_etf(10), 2, 3, 4.0, 1e-3)
    assert best.value == pytest.approx(expected.value, abs=1e-12)
    assert best.scale * 10 / 9 == pytest.approx(expected.margin, rel=1e-5)


def value(code: constructions.Code, L: int, T: float, decay: float) -> float:
    return best_scale(code, L, 1, T, decay).value


def test_best_structures_at_ten_classes() -> None:
    """Rank 9 at L = 2, the Petersen code at L = 4 with loss 0.0411546."""
    codes = [
        constructions.simplex_etf(10),
        constructions.pairs(10),
        constructions.petersen(),
        constructions.circle(10),
    ]
    ranks = {L: min(codes, key=lambda code: value(code, L, 1.0, 1e-3)).rank for L in (2, 3, 4, 8)}
    assert ranks == {2: 9, 3: 5, 4: 4, 8: 2}
    assert value(constructions.petersen(), 4, 1.0, 1e-3) == pytest.approx(0.0411546, abs=5e-8)
    assert value(constructions.circle(10), 8, 1.0, 1e-3) == pytest.approx(0.0310464, abs=5e-8)


def test_zero_is_best_at_a_large_decay() -> None:
    for code in (constructions.simplex_etf(4), constructions.pairs(4)):
        assert best_scale(code, 3, 1, 3000.0, 1e-3) == (0.0, math.log(4))
        assert best_scale(code, 3, 1, 1000.0, 1e-3).value < math.log(4)


def test_codes_of_many_classes_have_their_best_scale() -> None:
    best = best_scale(constructions.circle(3000), 8, 1, 1.0, 1e-9)
    assert best.scale > 1e6
    assert best.value < 2e-4


def test_temperature_alone_changes_the_global_minimum() -> None:
    """At c = 4, L = 3, lambda = 1e-3, N = 1: ETF, pairs from T = 40.3, zero from 2023."""
    etf, pairs = constructions.simplex_etf(4), constructions.pairs(4)
    first = brentq(lambda T: value(etf, 3, T, 1e-3) - value(pairs, 3, T, 1e-3), 10, 200, xtol=1e-9)
    last = brentq(lambda T: value(pairs, 3, T, 1e-3) - math.log(4) + 1e-9, 500, 3000, xtol=1e-9)
    assert first == pytest.approx(40.3, abs=0.05)
    assert last == pytest.approx(2023, abs=1)
    assert 1e-3 * first ** (2 / 3) == pytest.approx(0.0117605, abs=5e-8)
    assert 1e-3 * last ** (2 / 3) == pytest.approx(0.1599627, abs=1e-6)


@pytest.mark.parametrize(("depth", "rank", "runs"), [(1, 9, 2), (2, 5, 3), (3, 4, 3)])
def test_training_finds_the_predicted_structure(depth: int, rank: int, runs: int) -> None:
    """The best of several starts has rank 9, 5, 4 at L = 2, 3, 4."""
    shape = UfmShape(10, 1, 20, depth)
    start = initial_parameters(shape, list(range(runs)), 0.7, dtype=torch.float64)
    ones = torch.ones(runs, dtype=torch.float64)
    model = DeepUfm(shape, start, ones, weight_decay=1e-3)
    for rate in (0.02, 0.002):
        optimizer = make_optimizer("adam", model.parameters, model.gradient, rate)
        for _ in range(1500):
            model.compute_gradient()
            optimizer.step()
    objective = model.objective()
    logits = model.logits()[objective.argmin()]
    assert (logits.argmax(-1) == shape.labels()).all()
    assert rd.numerical_rank(logits) == rank
    codes = {
        9: constructions.simplex_etf(10),
        5: constructions.pairs(10),
        4: constructions.petersen(),
    }
    expected = best_scale(codes[rank], depth + 1, 1, 1.0, 1e-3).value
    assert objective.min().item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    etf = constructions.simplex_etf(3)
    for call, match in (
        (lambda: two_factor_optimum(3, 1, 0.0, 1e-3, 1e-3), "temperature"),
        (lambda: two_factor_optimum(3, 1, 1.0, 0.0, 1e-3), "weight_decay"),
        (lambda: two_factor_optimum(3, 1, 1.0, 1e-3, math.inf), "feature_decay"),
        (lambda: code_objective(etf, 1.0, 2, 1, -1.0, 1e-3), "temperature"),
        (lambda: best_scale(etf, 2, 1, 1.0, 0.0), "weight_decay"),
        (lambda: two_factor_optimum(1, 1, 1.0, 1e-3, 1e-3), "classes"),
        (lambda: two_factor_optimum(3, 0, 1.0, 1e-3, 1e-3), "samples_per_class"),
        (lambda: merging_temperature(3, 0, 1e-3, 1e-3), "own is 0"),
        (lambda: merging_temperature(3, 4, 1e-3, 1e-3), "samples is 3"),
        (lambda: merging_temperature(3, 1, 0.0, 1e-3), "weight_decay is 0"),
        (lambda: merging_temperature(3, 1, 1e-3, -1.0), "feature_decay is -1"),
        (lambda: merging_imbalance(3, 1, 9, 1.0, 1e-3, 1e-3), "small is 1"),
        (lambda: merging_imbalance(2, 3, 9, 1.0, 1e-3, 1e-3), "large is 2"),
        (lambda: merging_imbalance(2, 2, 0, 1.0, 1e-3, 1e-3), "samples_per_class is 0"),
        (lambda: merging_imbalance(2, 2, 9, 0.0, 1e-3, 1e-3), "temperature is 0"),
        (lambda: merging_imbalance(2, 2, 9, 1.0, 1e-3, 0.0), "feature_decay is 0"),
        (lambda: least_loss(1.0, 1), "classes"),
        (lambda: least_loss(-1.0, 3), "norm is -1"),
        (lambda: least_loss(math.nan, 3), "norm is nan"),
        (lambda: least_loss(1.0, 3, "hinge"), "ce or mse"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=match):
            call()
