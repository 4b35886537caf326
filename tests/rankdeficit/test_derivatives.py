"""Derivatives of all differentiable functions against differences, at their special points too."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import grad, gradcheck, gradgradcheck

import rankdeficit as rd
from rankdeficit import bounds
from rankdeficit.diagnostics import measure_logits
from rankdeficit.gibbs import heat_capacity, mean_energy
from rankdeficit.scaled_logits import critical_scales
from rankdeficit.spectrum import PANEL, centre, effective_rank, spectrum, stable_rank
from rankdeficit.toys.mode_dynamics import escape_time, grow, ratio_at_escape


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def variable(values: Tensor) -> Tensor:
    return values.clone().requires_grad_()


LOGITS = {
    "random": 2 * normal(3, 4),
    "ties": torch.tensor([[1.0, 1, 0, -1], [2, 2, 2, 0], [0, 3, 3, 3]], dtype=torch.float64),
    "all equal": torch.full((3, 4), 5.0, dtype=torch.float64),
    "far apart": 40 * normal(3, 4),
}
LABELS = torch.tensor([0, 1, 3])
SOFT = torch.softmax(normal(3, 4, seed=1), dim=-1)
OF_LOGITS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "softmax": rd.softmax,
    "entropy": rd.entropy,
    "free energy": rd.free_energy,
    "cross-entropy": lambda e, T: rd.cross_entropy(e, LABELS, T, reduction="none"),
    "smoothed": lambda e, T: rd.cross_entropy(e, LABELS, T, label_smoothing=0.1),
    "squares": lambda e, T: rd.softmax_mse(e, LABELS, T, reduction="sum"),
}
ENERGIES = {"mean energy": mean_energy, "heat capacity": heat_capacity}
OF_TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cross-entropy": lambda e, y, T: rd.cross_entropy(e, y, T, validate=False),
    "squares": lambda e, y, T: rd.softmax_mse(e, y, T, validate=False),
}
TEMPERATURES = [
    torch.tensor(T, dtype=torch.float64) for T in (0.5, 1.0, 2.0, [1.0], [0.5, 1.0, 2.0])
]


@pytest.mark.parametrize("temperature", TEMPERATURES, ids=str)
@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("name", OF_LOGITS)
def test_softmax_losses_and_thermodynamics(name: str, logits: str, temperature: Tensor) -> None:
    arguments = variable(LOGITS[logits]), variable(temperature)
    assert gradcheck(OF_LOGITS[name], arguments)
    if logits != "far apart":  # where second differences are all rounding
        assert gradgradcheck(OF_LOGITS[name], arguments)


@pytest.mark.parametrize("temperature", TEMPERATURES, ids=str)
@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("name", OF_TARGETS)
def test_losses_of_soft_targets(name: str, logits: str, temperature: Tensor) -> None:
    arguments = variable(LOGITS[logits]), variable(SOFT), variable(temperature)
    assert gradcheck(OF_TARGETS[name], arguments)


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("name", ENERGIES)
def test_energies(name: str, logits: str) -> None:
    assert gradcheck(ENERGIES[name], (variable(LOGITS[logits]), variable(TEMPERATURES[-1])))


def test_temperatures_that_broadcast_over_runs() -> None:
    logits, temperatures = (
        variable(normal(2, 3, 4)),
        variable(torch.tensor([[1.0], [3.0]]).double()),
    )
    assert gradcheck(rd.softmax, (logits, temperatures))
    assert gradcheck(rd.free_energy, (logits, temperatures))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_thermodynamic_identities(temperature: float) -> None:
    # dF/de = -p, dF/dT = -H.
    logits, T = variable(LOGITS["ties"]), variable(torch.tensor(temperature, dtype=torch.float64))
    energy = rd.free_energy(logits, T)
    by_logits, by_temperature = grad(energy.sum(), (logits, T))
    torch.testing.assert_close(-by_logits, rd.softmax(logits, T).detach())
    torch.testing.assert_close(-by_temperature, rd.entropy(logits, T).sum().detach())


@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 1.0, 50.0, 1e30])
@pytest.mark.parametrize("name", ["softmax", "entropy", "free energy", "heat capacity"])
def test_underflowed_probabilities_have_finite_gradients(name: str, temperature: float) -> None:
    logits = variable(torch.tensor([[500.0, 0, 0], [1e30, -1e30, 0], [3e38, -3e38, 0], [7, 7, 7]]))
    T = variable(torch.tensor(temperature))
    values = (OF_LOGITS | ENERGIES)[name](logits, T)
    weights = torch.arange(1.0, 1 + values.numel()).reshape(values.shape)
    for gradient in grad((weights * values).sum(), (logits, T)):
        assert gradient.isfinite().all()


def test_gradient_of_an_overflowed_loss_is_that_of_its_label() -> None:
    logits = torch.tensor([[3e38, -3e38]])
    gradients = []
    for targets in (torch.tensor([1]), torch.tensor([[0.0, 1.0]])):
        own = variable(logits)
        gradients += grad(rd.cross_entropy(own, targets), own)
    assert gradients[0].tolist() == gradients[1].tolist() == [[1.0, -1.0]]


WIDE = PANEL + 20


@pytest.mark.parametrize("measure", [stable_rank, effective_rank])
@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (6, 6), (2, 5, 3)])
def test_soft_ranks(measure: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
    assert gradcheck(measure, (variable(normal(*shape)),))


@pytest.mark.parametrize("measure", [stable_rank, effective_rank])
def test_soft_ranks_of_more_columns_than_a_panel(measure: Callable[[Tensor], Tensor]) -> None:
    below = normal(WIDE, WIDE)
    first = (variable(normal(1, WIDE)),)
    assert gradcheck(lambda row: measure(torch.cat([row, below])), first, fast_mode=True)


@pytest.mark.parametrize("measure", [stable_rank, effective_rank])
def test_soft_ranks_along_matrices_of_deficient_rank(measure: Callable[[Tensor], Tensor]) -> None:
    factors = variable(normal(9, 2)), variable(normal(2, 5, seed=1))
    assert gradcheck(lambda left, right: measure(left @ right), factors)
    zero = variable(torch.zeros(4, 3, dtype=torch.float64))
    assert not grad(measure(zero), zero)[0].any()


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("method", ["gram", "svd"])
def test_singular_values(method: Any, centred: bool) -> None:
    def values(matrix: Tensor) -> Tensor:
        return spectrum(matrix, method=method, centred=centred).singular_values[:3]

    assert gradcheck(values, (variable(normal(300, 4)[::60]),))
    assert gradcheck(centre, (variable(normal(3, 4)),))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_measures_of_logits(temperature: float) -> None:
    def measures(logits: Tensor, T: Tensor) -> tuple[Tensor, ...]:
        found = measure_logits(logits, T)
        soft = found.stable_rank, found.effective_rank
        return *soft, found.logits_norm, found.effective_logits_norm

    T = torch.tensor(temperature, dtype=torch.float64)
    assert gradcheck(measures, (variable(normal(8, 5)), variable(T)))
    zero = variable(torch.zeros(4, 3, dtype=torch.float64))
    for value in measures(zero, T):
        assert not grad(value, zero, retain_graph=True)[0].any()


PROBABILITIES = {
    "random": torch.softmax(normal(4, 4), dim=0),
    "uniform": torch.full((4, 4), 0.25, dtype=torch.float64),
    "identity": torch.eye(4, dtype=torch.float64),
    "blocks": torch.block_diag(torch.softmax(normal(2, 2), dim=0), torch.eye(2).double()),
}
BOUNDS: list[Callable[[Tensor], Any]] = [
    bounds.singular_gap,
    bounds.gap_bound,
    bounds.refined_gap,
    bounds.largest_singular_value,
    bounds.smallest_singular_value,
    lambda S: bounds.numerical_rank_bounds(S, 1e-2),
    bounds.centred_interlacing,
]


def differentiable(found: Any) -> tuple[Tensor, ...]:
    values = found if isinstance(found, tuple) else (found,)
    return tuple(value for value in values if value.requires_grad)


@pytest.mark.parametrize("bound", BOUNDS)
def test_bounds_on_singular_values(bound: Callable[[Tensor], Any]) -> None:
    assert gradcheck(
        lambda logits: differentiable(bound(torch.softmax(logits, dim=0))),
        (variable(normal(4, 4)),),
    )
    for S in map(variable, PROBABILITIES.values()):  # kinks: some slope, never NaN
        for value in differentiable(bound(S)):
            assert grad(value.sum(), S, retain_graph=True)[0].isfinite().all()


@pytest.mark.parametrize(("n", "slope"), [(2, 2**0.5), (5, 1 + 0.5**0.5)])
def test_the_bound_in_r(n: int, slope: float) -> None:
    r = variable(torch.tensor([0.1, 0.2, 0.3, 0.45, 0.6, 0.9], dtype=torch.float64))
    assert gradcheck(lambda r: bounds.gap_bound_in_r(r, n), (r,))
    zero = variable(torch.zeros(1, dtype=torch.float64))
    assert grad(bounds.gap_bound_in_r(zero, n).sum(), zero)[0].item() == pytest.approx(slope)


def test_scales_and_slopes() -> None:
    assert gradcheck(lambda m: critical_scales(m, 1e-3)[:4], (variable(normal(5, 5)),))
    assert gradcheck(lambda m: bounds.frobenius_slope(m, 1.0), (variable(LOGITS["ties"]),))
    square = variable(torch.diag(torch.tensor([1.0, 0, 0], dtype=torch.float64)))
    assert grad(critical_scales(square, 1e-3)[0], square)[0].isfinite().all()


@pytest.mark.parametrize("factors", [2, 3, 5])
def test_mode_dynamics(factors: int) -> None:
    start, other, rate = (
        variable(torch.tensor([x], dtype=torch.float64)) for x in (0.01, 0.5, 0.2)
    )
    points = start, other, rate
    assert gradcheck(lambda s, t, g: grow(s, t, factors, g), points)
    assert gradcheck(lambda s, e, g: escape_time(s, e, factors, g), points)
    assert gradcheck(lambda s, f, e: ratio_at_escape(s, f, e, factors), points)


def test_forward_values_ignore_whether_gradients_are_wanted() -> None:
    logits = torch.tensor([[3e38, -3e38, 0, 1], [500.0, 0, 0, 1], [1.0, 1, 1, 1]])
    for T, (name, function) in itertools.product(
        (1e-30, 0.7, 1.0, 30.0), (OF_LOGITS | ENERGIES).items()
    ):
        plain = function(logits, torch.tensor(T))
        tracked = function(variable(logits), variable(torch.tensor(T)))
        assert torch.equal(plain, tracked.detach()), name


@pytest.mark.parametrize("name", OF_LOGITS | ENERGIES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_slope_in_temperature_ignores_a_constant_in_all_logits(
    name: str, temperature: float
) -> None:
    slopes = []
    for offset in (0.0, 2.0**20):
        T = variable(torch.tensor(temperature))
        logits = LOGITS["ties"].float() + offset  # exact
        values = (OF_LOGITS | ENERGIES)[name](logits, T)
        weights = torch.arange(1.0, 1 + values.numel()).reshape(values.shape)
        slopes += grad((weights * values).sum(), T)
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-6)
