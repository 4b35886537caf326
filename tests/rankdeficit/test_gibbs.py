"""Gibbs states against two-level systems, derivatives, sampling-free limits and exact minimisers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor
from torch.autograd import grad, gradcheck

import rankdeficit as rd
from rankdeficit import gibbs
from rankdeficit.diagnostics.measures.scaling import fit_temperature
from rankdeficit.gibbs import LinearHead, gaussian_logits, gaussian_rank, predict_alike
from rankdeficit.toys.optima import decayed_margins, two_factor_optimum

TEMPERATURES = (0.05, 0.7, 1.0, 30.0, 1e4)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


LOGITS = 2 * normal(40, 6)
SOFT = torch.softmax(2 * normal(40, 6, seed=1), dim=-1)


@pytest.mark.parametrize("T", TEMPERATURES)
def test_two_levels(T: float) -> None:
    """Energies -g and 0: <E> = -g s(g / T), and Schottky's heat capacity."""
    gap = torch.linspace(0, 5, 11, dtype=torch.float64)
    logits = torch.stack([gap, torch.zeros_like(gap)], dim=-1)
    upper = torch.sigmoid(gap / T)
    torch.testing.assert_close(gibbs.mean_energy(logits, T), -gap * upper)
    variance = gap**2 * upper * torch.sigmoid(-gap / T)
    torch.testing.assert_close(gibbs.logits_variance(logits, T), variance)
    torch.testing.assert_close(gibbs.heat_capacity(logits, T), variance / T**2)


@pytest.mark.parametrize("T", TEMPERATURES)
def test_energy_entropy_and_free_energy_belong_together(T: float) -> None:
    energy, entropy = gibbs.mean_energy(LOGITS, T), rd.entropy(LOGITS, T)
    torch.testing.assert_close(rd.free_energy(LOGITS, T), energy - T * entropy)
    temperature = torch.full((40,), T, dtype=torch.float64, requires_grad=True)
    for value in (gibbs.mean_energy(LOGITS, temperature), T * rd.entropy(LOGITS, temperature)):
        (slope,) = grad(value.sum(), temperature)
        torch.testing.assert_close(slope, gibbs.heat_capacity(LOGITS, T), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("T", TEMPERATURES)
def test_the_gibbs_state_has_the_least_free_energy(T: float) -> None:
    q = torch.cat([SOFT, torch.eye(6, dtype=torch.float64), rd.softmax(LOGITS[:1], T)])
    logits = LOGITS[:1].expand_as(q)
    excess = gibbs.variational_free_energy(q, logits, T) - rd.free_energy(logits, T)
    divergence = gibbs.kl_divergence(q, logits, T)
    torch.testing.assert_close(excess, T * divergence, rtol=1e-9, atol=1e-12 * max(T, 1))
    reference = torch.nn.functional.kl_div(
        torch.log_softmax(logits / T, dim=-1), q, reduction="none"
    ).sum(dim=-1)
    torch.testing.assert_close(divergence, reference, rtol=1e-9, atol=1e-13)
    assert divergence.min() >= -1e-14
    assert divergence[:40].min() > 0
    assert divergence[-1].abs() < 1e-14


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_do_not_round_the_targets(dtype: torch.dtype) -> None:
    logits = LOGITS.to(dtype)
    excess = gibbs.variational_free_energy(SOFT, logits) - rd.free_energy(logits)
    torch.testing.assert_close(excess, gibbs.kl_divergence(SOFT, logits), rtol=1e-4, atol=1e-5)


def test_the_cold_limit_is_uniform_over_ties() -> None:
    logits = torch.tensor([[3.0, 1, 3, 1, 1], [2, 1, 1, 1, 1], [7, 7, 7, 7, 7]]).double()
    limit = gibbs.cold_limit(logits)
    assert limit.tolist() == [[0.5, 0, 0.5, 0, 0], [1, 0, 0, 0, 0], [0.2] * 5]
    for T in (0.02, 0.1, 1.0, 50.0):
        distance = (rd.softmax(logits, T) - limit).abs().sum(dim=-1) / 2
        bound = gibbs.cold_bound(logits, T)
        # all others are equal, so the bound is the odds of the distance
        torch.testing.assert_close(distance, bound / (1 + bound), rtol=1e-12, atol=1e-17)
        p_max = rd.softmax(LOGITS, T).amax(dim=-1)
        assert (1 - p_max <= gibbs.cold_bound(LOGITS, T) + 1e-15).all()


@pytest.mark.parametrize("T", [0.3, 1.0, 4.0, 100.0])
def test_the_hot_entropy_is_within_its_error(T: float) -> None:
    value, error = gibbs.hot_entropy(LOGITS, T)
    assert ((rd.entropy(LOGITS, T) - value).abs() <= error).all()


def test_the_next_term_of_the_hot_entropy_is_the_third_moment() -> None:
    T = 300.0
    rest = (rd.entropy(LOGITS, T) - gibbs.hot_entropy(LOGITS, T).value) * T**3
    centred = LOGITS - LOGITS.mean(dim=-1, keepdim=True)
    torch.testing.assert_close(rest, -centred.pow(3).mean(dim=-1) / 3, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("soft", [False, True])
def test_the_slope_in_beta(soft: bool) -> None:
    targets = SOFT if soft else torch.arange(40) % 6
    slopes = []
    for beta in (0.01, 0.5, 2.0, 10.0):
        b = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
        (slope,) = grad(rd.cross_entropy(b * LOGITS, targets), b, create_graph=True)
        (curvature,) = grad(slope, b)
        slopes.append(gibbs.nll_slope(LOGITS, targets, 1 / beta))
        torch.testing.assert_close(slopes[-1], slope.detach())
        torch.testing.assert_close(gibbs.logits_variance(LOGITS, 1 / beta).mean(), curvature)
    assert slopes == sorted(slopes)


def test_a_fitted_temperature_has_no_slope() -> None:
    labels = LOGITS.argmax(dim=-1)
    labels[:10] = (labels[:10] + 1) % 6
    T = fit_temperature(LOGITS, labels)
    assert abs(gibbs.nll_slope(LOGITS, labels, T)) < 1e-9
    predictions = rd.softmax(LOGITS, T).argmax(dim=-1)
    assert torch.equal(predictions, LOGITS.argmax(dim=-1))


@pytest.mark.parametrize("T", [0.3, 1.0, 50.0])
def test_optimal_logits_predict_the_truth(T: float) -> None:
    logits = gibbs.optimal_logits(SOFT, T)
    torch.testing.assert_close(rd.softmax(logits + 3, T), SOFT)
    torch.testing.assert_close(logits.sum(dim=-1), torch.zeros(40).double(), atol=1e-10, rtol=0)
    moved = logits.clone().requires_grad_()
    rd.cross_entropy(moved, SOFT, T).backward()
    assert moved.grad is not None
    assert moved.grad.abs().max() < 1e-16 / min(T, 1) * 10
    q = torch.tensor([0.9, 0.1], dtype=torch.float64)
    first, second = gibbs.optimal_logits(q, T).tolist()
    assert first - second == pytest.approx(T * math.log(9))


HEAD = LinearHead(normal(4, 3), normal(4, seed=1), 1.5, 2.0)
ALIKE = {
    "the same": HEAD,
    "all scaled": HEAD._replace(scale=3.0, bias=2 * HEAD.bias, temperature=4.0),
    "scale in the weight": HEAD._replace(weight=1.5 * HEAD.weight, scale=1.0),
    "shifted rows": HEAD._replace(weight=HEAD.weight + normal(3), bias=HEAD.bias + 7),
}
UNLIKE = {
    "temperature": HEAD._replace(temperature=2.1),
    "scale": HEAD._replace(scale=1.6),
    "scale and temperature": HEAD._replace(scale=3.0, temperature=4.0),
    "bias": HEAD._replace(bias=HEAD.bias + torch.eye(4)[0]),
}


def predictions(head: LinearHead, inputs: Tensor) -> Tensor:
    return rd.softmax(head.scale * inputs @ head.weight.mT + head.bias, head.temperature)


@pytest.mark.parametrize("name", [*ALIKE, *UNLIKE])
def test_heads_predict_alike_iff_scale_and_bias_over_temperature_agree(name: str) -> None:
    other = (ALIKE | UNLIKE)[name]
    inputs = torch.cat([torch.zeros(1, 3).double(), torch.eye(3).double()])  # affinely span
    difference = (predictions(HEAD, inputs) - predictions(other, inputs)).abs().max()
    assert predict_alike(HEAD, other) == (difference < 1e-12) == (name in ALIKE)


def test_inputs_that_do_not_span_leave_more_open() -> None:
    other = HEAD._replace(weight=HEAD.weight + normal(4, seed=3)[:, None] * torch.eye(3)[2])
    flat = normal(50, 3) * torch.tensor([1.0, 1.0, 0.0])
    torch.testing.assert_close(predictions(HEAD, flat), predictions(other, flat))
    assert not predict_alike(HEAD, other)


def test_effective_temperatures() -> None:
    heated = LOGITS / 7 + normal(40, 1)
    T, residual = gibbs.effective_temperature(heated, LOGITS)
    assert T.item() == pytest.approx(7)
    assert residual < 1e-15
    first, second = torch.tensor([[1.0, -1, 0], [0, 0, 0]]), torch.tensor([[1.0, 1, -2], [0, 0, 0]])
    T, residual = gibbs.effective_temperature(
        torch.stack([first, 0 * first]), second.expand(2, 2, 3)
    )
    assert T.tolist() == [math.inf, math.inf]
    assert residual.tolist() == [1, 0]
    arguments = normal(4, 3).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    assert gradcheck(gibbs.effective_temperature, arguments)


def test_decay_heats_the_two_factor_optimum_and_not_the_linear_classifier() -> None:
    etf = torch.eye(5, dtype=torch.float64)
    weak, strong = (
        two_factor_optimum(5, 2, 3.0, decay, decay).margin * etf for decay in (0.01, 0.03)
    )
    T, residual = gibbs.effective_temperature(strong, weak)
    assert residual < 1e-12
    assert T > 1
    margins = [decayed_margins(torch.tensor([1.0, 3.0]), 3.0, decay) for decay in (1e-4, 1e-2)]
    logits = [torch.stack([m, -m], dim=-1) for m in margins]
    assert gibbs.effective_temperature(logits[1], logits[0]).residual > 0.1


@pytest.mark.parametrize("decay", [1e-9, 1e-3, 1.0, 1e9])
def test_decayed_margins_are_stationary(decay: float) -> None:
    lengths, T = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64), 2.0
    margins = decayed_margins(lengths, T, decay)
    theta = (margins / lengths).requires_grad_()
    loss = torch.nn.functional.softplus(-lengths * theta / T).mean()
    (slope,) = grad(loss, theta)
    torch.testing.assert_close(-slope, decay * theta.detach(), rtol=1e-10, atol=0)
    ratios = margins / margins[0]
    assert ratios[2] == pytest.approx(36, rel=1e-6) if decay == 1e9 else ratios[2] < 36


def test_the_posterior_of_gaussian_clusters() -> None:
    means, inputs, sigma = normal(5, 2), 2 * normal(30, 2, seed=1), 0.8
    densities = torch.stack(
        [torch.from_numpy(multivariate_normal(m, sigma**2).pdf(inputs)) for m in means.numpy()],
        dim=-1,
    )
    posterior = rd.softmax(gaussian_logits(inputs, means), 2 * sigma**2)
    torch.testing.assert_close(posterior, densities / densities.sum(dim=-1, keepdim=True))


ANGLES = torch.arange(7, dtype=torch.float64)
MEANS = {
    "simplex": (normal(4, 6), 3, 3),
    "circle": (5 + torch.stack([ANGLES.cos(), ANGLES.sin(), 0 * ANGLES], dim=-1), 2, 2),
    "line": (torch.tensor([[-1.0, 0], [0, 0], [1, 0]]), 1, 2),
    "plane": (normal(7, 2), 2, 3),
    "point": (torch.ones(3, 2), 0, 0),
}


@pytest.mark.parametrize("name", MEANS)
def test_the_rank_of_gaussian_logits_is_that_of_the_span_on_a_sphere_only(name: str) -> None:
    means, span, rank = MEANS[name]
    assert gaussian_rank(means) == (span, rank)
    inputs = 2 * normal(40, means.shape[1], seed=2)
    assert rd.centred_rank(gaussian_logits(inputs, means.double()), 1e-6) == rank


def test_derivatives_in_targets() -> None:
    q, logits, T = SOFT[:3].clone(), LOGITS[:3].clone(), torch.tensor([0.5, 1, 2]).double()
    arguments = [x.requires_grad_() for x in (q, logits, T)]
    free = gibbs.variational_free_energy
    assert gradcheck(lambda *a: free(*a, validate=False), arguments)
    assert gradcheck(lambda *a: gibbs.kl_divergence(*a, validate=False), arguments)
    assert gradcheck(lambda q, z, T: gibbs.nll_slope(z, q, T, validate=False), arguments)
    assert gradcheck(lambda q, T: gibbs.optimal_logits(q, T, validate=False), (q, T))
    assert gradcheck(lambda z, T: tuple(gibbs.hot_entropy(z, T)), arguments[1:])
    assert gradcheck(gibbs.cold_bound, arguments[1:])
    assert gradcheck(gibbs.logits_variance, arguments[1:])
    assert gradcheck(
        gaussian_logits, (normal(3, 2).requires_grad_(), normal(4, 2).requires_grad_())
    )
    certain = torch.eye(6, dtype=torch.float64).requires_grad_()
    (slope,) = grad(gibbs.kl_divergence(certain, LOGITS[:6]).sum(), certain)
    assert slope.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("T", [1e-30, 1.0, 1e30])
def test_extreme_logits_never_give_nan(dtype: torch.dtype, T: float) -> None:
    top = min(1e30, torch.finfo(dtype).max / 2)
    logits = torch.tensor([[top, -top, 0.0], [top, top, top], [1, 0, 0]], dtype=dtype)
    for measure in (gibbs.mean_energy, gibbs.heat_capacity, gibbs.cold_bound):
        found = measure(logits, T)
        assert found.dtype == torch.float32
        assert found.isfinite().all()
    assert not gibbs.kl_divergence(torch.eye(3, dtype=dtype), logits, T).isnan().any()


ROW, HALF = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "temperature 0": (lambda: gibbs.mean_energy(ROW, 0.0), "temperature is 0"),
    "temperature -1": (lambda: gibbs.cold_bound(ROW, -1.0), "temperature is -1"),
    "NaN temperature": (lambda: gibbs.heat_capacity(ROW, math.nan), "temperature is nan"),
    "NaN logits": (lambda: gibbs.logits_variance(ROW * math.nan), "logits have NaN"),
    "NaN when hot": (lambda: gibbs.hot_entropy(ROW * math.nan), "logits have NaN"),
    "NaN when cold": (lambda: gibbs.cold_limit(ROW * math.nan), "logits have NaN"),
    "not summing to 1": (lambda: gibbs.kl_divergence(2 * HALF, ROW), "targets.*sum to 1"),
    "NaN targets": (lambda: gibbs.variational_free_energy(HALF * math.nan, ROW), "targets.*sum"),
    "labels": (lambda: gibbs.kl_divergence(HALF.long(), ROW), r"targets.*double\(\)"),
    "labels of the slope": (lambda: gibbs.nll_slope(ROW, torch.tensor([2])), "targets range"),
    "certain targets": (lambda: gibbs.optimal_logits(ROW), "targets have zeros"),
    "weight": (lambda: gibbs.log_odds(HEAD._replace(weight=HEAD.weight * math.nan)), "weight"),
    "head's temperature": (lambda: gibbs.log_odds(HEAD._replace(temperature=0.0)), "temperature"),
    "head's scale": (lambda: gibbs.log_odds(HEAD._replace(scale=math.inf)), "scale is inf"),
    "head's bias": (lambda: gibbs.log_odds(HEAD._replace(bias=HALF[0])), "bias has shape"),
    "heads": (
        lambda: predict_alike(HEAD, LinearHead(HALF, HALF[0, :1])),
        "shapes",
    ),
    "reference": (lambda: gibbs.effective_temperature(ROW, HALF), "reference.* same"),
    "shapes": (lambda: gibbs.effective_temperature(ROW, ROW.expand(2, 2)), "reference"),
    "lengths": (lambda: decayed_margins(torch.tensor([0.0]), 1.0, 1.0), "lengths are"),
    "decay": (lambda: decayed_margins(torch.tensor([1.0]), 1.0, 0.0), "weight_decay is 0"),
    "means": (lambda: gaussian_rank(ROW * math.nan), "means has NaN"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_one_clear_line(name: str) -> None:
    call, words = BAD[name]
    with pytest.raises(ValueError, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)
