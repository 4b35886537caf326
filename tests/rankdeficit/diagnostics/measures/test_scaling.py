"""Vector scaling against SciPy, and the temperature that Gaussian logits would have."""

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

from rankdeficit.diagnostics.arrays import diagnose_outputs
from rankdeficit.diagnostics.measures.calibration import temperature_scaling, vector_scaling
from rankdeficit.diagnostics.measures.scaling import (
    VectorScaling,
    _VectorLoss,
    fit_temperature,
    fit_vector_scaling,
    gaussian_temperature,
)


def sample(n: int, c: int, seed: int, spread: float = 0.0) -> tuple[Tensor, Tensor]:
    """Logits, and labels of softmax(w z + b) with w and b that vary by this much."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, c, dtype=torch.float64, generator=generator)
    w, b = spread * torch.randn(2, c, dtype=torch.float64, generator=generator)
    probabilities = torch.softmax((1 + w) * logits + b, dim=1)
    return logits, torch.multinomial(probabilities, 1, generator=generator).squeeze(1)


def fitted(logits: Tensor, labels: Tensor) -> VectorScaling:
    found = fit_vector_scaling(logits, labels)
    assert found is not None
    return found


def loss(found: VectorScaling, logits: Tensor, labels: Tensor) -> float:
    return float(cross_entropy(logits * found.weights + found.biases, labels))


@pytest.mark.parametrize(("n", "c"), [(80, 2), (150, 3), (300, 5), (400, 8)])
def test_vector_scaling_is_scipys_optimum(n: int, c: int) -> None:
    for seed in range(3):
        logits, labels = sample(n, c, seed, spread=0.4)
        found = fitted(logits, labels)

        def objective(x: object) -> tuple[float, object]:
            point = torch.as_tensor(x).view(2, c).requires_grad_()
            value = cross_entropy(logits * point[0] + point[1], labels)  # noqa: B023
            (gradient,) = torch.autograd.grad(value, point)
            return float(value.detach()), gradient.flatten().numpy()

        start = torch.zeros(2 * c, dtype=torch.float64).numpy()
        best = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-9})
        assert loss(found, logits, labels) == pytest.approx(best.fun, rel=1e-12)
        weights, biases = torch.as_tensor(best.x).view(2, c)
        torch.testing.assert_close(found.weights, weights, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.biases, biases - biases.mean(), rtol=1e-5, atol=1e-6)


def test_planted_weights_and_biases_are_recovered() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(8_000, 4, dtype=torch.float64, generator=generator)
    w = torch.tensor([0.5, 1.0, 1.5, 0.8], dtype=torch.float64)
    b = torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(w * logits + b, dim=1), 1, generator=generator)[:, 0]
    found = fitted(logits, labels)
    torch.testing.assert_close(found.weights, w, rtol=0, atol=0.12)
    torch.testing.assert_close(found.biases, b, rtol=0, atol=0.12)
    after = vector_scaling(logits, labels)
    assert after is not None
    assert after.after.nll < temperature_scaling(logits, labels).after.nll - 0.05
    assert after.accuracy > float((logits.argmax(dim=1) == labels).double().mean()) + 0.02


def test_the_scale_and_the_offset_of_each_class_do_not_matter() -> None:
    logits, labels = sample(300, 5, 1, spread=0.3)
    plain = fitted(logits, labels)
    factors = torch.tensor([1e-3, 1.0, 50.0, 2.0, 1e4], dtype=torch.float64)
    offsets = torch.tensor([1e3, -2.0, 7.0, 0.0, 1.0], dtype=torch.float64)
    moved = fitted(factors * logits + offsets, labels)
    torch.testing.assert_close(moved.weights * factors, plain.weights, rtol=1e-6, atol=1e-8)
    biases = plain.biases - moved.weights * offsets
    torch.testing.assert_close(moved.biases, biases - biases.mean(), rtol=1e-6, atol=1e-6)


def test_vector_scaling_fits_no_worse_than_a_temperature() -> None:
    logits, labels = sample(200, 4, 5)
    scaled = logits / fit_temperature(logits, labels)
    assert loss(fitted(logits, labels), logits, labels) <= float(cross_entropy(scaled, labels))


def test_products_with_the_hessian_agree_with_its_matrix_and_with_autograd() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(90, 5).double(), torch.randint(5, (90,))
    loss = _VectorLoss(logits, labels, torch.arange(3, 90))
    point, direction = torch.randn(2, 2, 5).double()
    x = (logits[3:] - loss.mean) / loss.deviation

    def value(at: Tensor) -> Tensor:
        return cross_entropy(x * at[0] + at[1], labels[3:])

    _, exact = torch.autograd.functional.vhp(value, point, direction)
    product = loss.product(point, direction)
    matrix = (loss.hessian(point) @ direction.flatten()).view_as(direction)
    assert torch.allclose(product, exact, rtol=1e-12, atol=1e-14)
    assert torch.allclose(matrix, exact, rtol=1e-12, atol=1e-14)


def test_there_is_no_vector_scaling_without_a_finite_optimum() -> None:
    logits, labels = sample(200, 4, 2)
    assert fit_vector_scaling(logits, logits.argmax(dim=1)) is None
    skewed = logits * torch.tensor([1.0, 3.0, 0.5, 1.0]) + torch.tensor([3.0, 0.0, -2.0, 0.0])
    assert fit_vector_scaling(skewed, logits.argmax(dim=1)) is None  # right after scaling alone
    assert fit_vector_scaling(logits, labels.clamp(max=2)) is None
    told = logits.clone()
    told[:, 3] = torch.where(labels == 3, 1.0, -1.0)  # of class 3 alone without fault
    assert fit_vector_scaling(told, labels) is None
    assert vector_scaling(logits, logits.argmax(dim=1)) is None


@pytest.mark.parametrize("c", [2, 10])
def test_gaussian_logits_have_the_temperature_of_their_moments(c: int) -> None:
    """z ~ N(a e_y, s^2 I) plus any shift of a sample: T = s^2 / a."""
    generator = torch.Generator().manual_seed(c)
    labels = torch.arange(20_000) % c
    for a, s in ((4.0, 2.0), (30.0, 9.0)):
        noise, shifts = (
            torch.randn(20_000, k, dtype=torch.float64, generator=generator) for k in (c, 1)
        )
        logits = a * torch.eye(c, dtype=torch.float64)[labels] + s * noise + 100 * shifts
        found = gaussian_temperature(logits, labels)
        assert found == pytest.approx(s**2 / a, rel=0.03)
        assert found == pytest.approx(fit_temperature(logits, labels), rel=0.04)
        assert gaussian_temperature(7 * logits, labels) == pytest.approx(7 * found)


def test_without_a_margin_or_a_variance_there_is_no_gaussian_temperature() -> None:
    logits, labels = torch.eye(4, dtype=torch.float64), torch.arange(4)
    assert gaussian_temperature(logits, labels) is None  # a sample per class
    twice = torch.cat([logits, logits])
    assert gaussian_temperature(-twice, labels.repeat(2)) is None
    assert gaussian_temperature(twice, labels.repeat(2)) == 0


def test_a_report_has_the_numbers_of_the_functions_beside_the_temperature_of_training() -> None:
    logits, labels = sample(600, 4, 9, spread=0.5)
    logits = 50 * logits
    splits = {"train": logits, "test": logits}, {"train": labels, "test": labels}
    found = diagnose_outputs(
        logits=splits[0], labels=splits[1], temperature=50.0, measures=["calibration"]
    )
    own = found.record["calibration"]
    assert own["gaussian_temperature"] == pytest.approx(gaussian_temperature(logits, labels))
    for T in own["temperatures"]:
        assert pytest.approx(fit_temperature(logits, labels), rel=0.3) == T
    assert own["vector"]["nll"] < own["after"]["nll"]
    assert 0 < own["vector"]["smooth_ece"] < 0.2
    accuracy = float((logits.argmax(dim=1) == labels).double().mean())
    assert own["vector"]["accuracy"] > accuracy
    told = " ".join(str(found).split())
    assert f"{own['gaussian_temperature'] / 50:.3g}" in told
    for T in own["temperatures"]:
        assert f"{T / 50:.3g} " in told
    assert f"{own['vector']['smooth_ece']:.1%}" in told
