"""Small, middling and large scales of the logits: each theory against the softmax itself."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit import numerical_rank, softmax
from rankdeficit.scaled_logits import (
    critical_scales,
    dropout_temperatures,
    gaussian_large_n_rank,
    kernel_spectrum,
    large_n_rank,
    large_scale_rank,
    random_logits,
    rank_bounds,
    small_scale_ranks,
)

GAMMA = 1e-3


def crossing(logits: torch.Tensor, k: int) -> float:
    """The scale at which singular value k + 1 of the softmax reaches gamma sigma_1, by bisection."""
    low, high = 1e-4, 1e-1
    for _ in range(20):
        scale = math.sqrt(low * high)
        values = torch.linalg.svdvals(torch.softmax(scale * logits, dim=-1))
        low, high = (low, scale) if values[k] > GAMMA * values[0] else (scale, high)
    return math.sqrt(low * high)


@pytest.mark.parametrize(("n", "rank"), [(12, 1), (30, 2), (60, 3), (60, 5)])
def test_each_singular_value_crosses_gamma_at_its_critical_scale(n: int, rank: int) -> None:
    for logits in random_logits(n, rank, [0, 1, 2]):
        scales = critical_scales(logits, GAMMA)
        assert scales.isfinite().tolist() == [True] * rank + [False] * (n - rank)
        crossings = [crossing(logits, k) for k in range(1, rank + 1)]
        assert scales[:rank].tolist() == pytest.approx(crossings, rel=0.01)


@pytest.mark.parametrize("shape", [(9, 4), (3, 20)])
def test_critical_scales_of_samples_and_classes(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(*shape, generator=generator, dtype=torch.float64)
    scales, few = critical_scales(logits, GAMMA), min(shape) - 1
    assert scales.isfinite().tolist() == [True] * few + [False]
    crossings = [crossing(logits, k) for k in range(1, few + 1)]
    assert scales[:few].tolist() == pytest.approx(crossings, rel=0.05)
    bounds = dropout_temperatures(logits, GAMMA)
    assert (bounds.lower <= 1 / scales[:few]).all()
    assert (1 / scales[:few] <= bounds.upper).all()
    assert small_scale_ranks(logits, 0.5 * scales[0].item(), GAMMA) == (1, 1)
    assert small_scale_ranks(logits, 2 * scales[few - 1].item(), GAMMA) == (few + 1, few + 1)
    for scale in scales[:few].tolist():
        proven = small_scale_ranks(logits, scale, GAMMA)
        assert proven is not None
        assert proven[0] <= numerical_rank(softmax(scale * logits), GAMMA).item() <= proven[1]


def test_critical_scales_err_in_proportion_to_gamma() -> None:
    # The O(s^2) left out is a share O(s) = O(gamma) of sigma_{k+1}.
    (logits,) = random_logits(20, 2, [0])
    errors = []
    for gamma in (1e-4, 1e-3, 1e-2):
        scale = critical_scales(logits, gamma)[1]
        values = torch.linalg.svdvals(torch.softmax(scale * logits, dim=-1))
        errors.append((values[2] / values[0] / gamma - 1).abs().item())
    assert errors[0] < 0.2 * errors[1] < 0.04 * errors[2] < 0.01


@given(st.integers(0, 10**6), st.integers(2, 12), st.floats(0.01, 100.0))
def test_critical_scales_know_only_what_the_softmax_sees(seed: int, n: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, n, generator=generator, dtype=torch.float64)
    scales = critical_scales(logits, GAMMA)
    assert scales[: n - 1].isfinite().all()
    assert scales[-1] == math.inf
    # Shifts of rows change no softmax, and those of columns, to first order, no rank.
    shifts = torch.randn(2, n, generator=generator, dtype=torch.float64)
    shifted = logits + shifts[0] + shifts[1, :, None]
    torch.testing.assert_close(critical_scales(shifted, GAMMA), scales, rtol=1e-6, atol=0)
    torch.testing.assert_close(critical_scales(size * logits, GAMMA), scales / size)
    torch.testing.assert_close(critical_scales(logits, 10 * GAMMA), 10 * scales)
    order = torch.randperm(n, generator=generator)
    torch.testing.assert_close(critical_scales(logits[order].mT, GAMMA), scales)


def test_logits_that_are_all_equal_within_rows_never_cross() -> None:
    logits = torch.arange(5.0)[:, None].expand(5, 5)
    assert critical_scales(logits, GAMMA).tolist() == [math.inf] * 5


def uniform_singular_values(x: np.ndarray, y: np.ndarray, scale: float) -> np.ndarray:
    S = softmax(torch.from_numpy(scale * np.outer(x, y)))
    values = torch.linalg.eigvalsh(S.mT @ S).clamp(min=0).sqrt().flip(0).numpy()
    return values / values[0]


@pytest.mark.parametrize("scale", [0.5, 2.0, 10.0])
def test_the_kernel_is_the_limit_of_many_samples(scale: float) -> None:
    n = 1500
    x, y = 2 * np.random.default_rng(0).random((2, n)) - 1
    tau = kernel_spectrum(scale)
    tau = tau[tau > GAMMA]
    values = uniform_singular_values(x, y, scale)[: len(tau)]
    assert values == pytest.approx(tau, rel=3 / math.sqrt(n))


@pytest.mark.parametrize("scale", [0.5, 2.0, 10.0])
def test_evenly_spaced_samples_approach_the_kernel_as_their_number_squared(scale: float) -> None:
    tau = kernel_spectrum(scale)[:5]
    errors = []
    for n in (50, 100, 200):
        x = (2 * np.arange(n) + 1) / n - 1
        errors.append(np.abs(uniform_singular_values(x, x, scale)[:5] - tau).max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)
    assert errors[2] < 1e-3


@pytest.mark.parametrize("scale", [1e-6, 0.5, 2.0, 10.0, 40.0, 150.0])
def test_the_kernels_spectrum_has_converged_in_its_nodes(scale: float) -> None:
    values = kernel_spectrum(scale)
    assert values[0] == 1
    assert (np.diff(values) <= 0).all()
    doubled = kernel_spectrum(scale, 2 * len(values))
    assert np.abs(values - doubled[: len(values)]).max() < 1e-8


def test_the_kernel_at_small_scales_is_its_first_terms() -> None:
    # e^{sxy} sy / sinh(sy) = 1 + s x y + O(s^2): tau_1 = s ||x||^2 / ||1||^2 = s / 3.
    assert kernel_spectrum(1e-3)[1] == pytest.approx(1e-3 / 3, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("logits_rank", [1, 2, 3])
def test_large_n_rank_counts_tuples(logits_rank: int, gamma: float) -> None:
    for scale in (0.01, 0.3, 2.0, 10.0):
        tau = kernel_spectrum(scale)[:25]
        counted = sum(
            math.prod(values) > gamma for values in itertools.product(tau, repeat=logits_rank)
        )
        assert large_n_rank(scale, logits_rank, gamma) == counted


@pytest.mark.parametrize(("scale", "logits_rank"), [(0.01, 4), (0.1, 3), (1.0, 1), (0.3, 2)])
def test_large_n_rank_is_the_rank_of_a_large_softmax(scale: float, logits_rank: int) -> None:
    (logits,) = random_logits(700, logits_rank, [0])
    rank = numerical_rank(softmax(scale * logits), GAMMA).item()
    assert rank == pytest.approx(large_n_rank(scale, logits_rank, GAMMA), rel=0.05)


@given(st.integers(0, 10**6), st.integers(2, 40), st.data())
def test_large_scale_rank_is_the_rank_of_the_assignment(
    seed: int, n: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, min(n, 5)))
    (logits,) = random_logits(n, rank, [seed])
    expected = numerical_rank(softmax(1e9 * logits), GAMMA)
    assert large_scale_rank(logits, GAMMA) == expected
    assert expected == len(set(logits.argmax(dim=-1).tolist()))
    if rank == 1:
        assert expected <= 2


def test_large_scale_rank_drops_rare_argmaxes_below_gamma() -> None:
    # Singular values 3, 2 and 1.
    winners = torch.tensor([0] * 9 + [1] * 4 + [2])
    logits = torch.nn.functional.one_hot(winners, 5).double()
    ranks = [large_scale_rank(logits, gamma).item() for gamma in (0.3, 0.34, 0.66, 0.67)]
    assert ranks == [3, 2, 2, 1]


def test_batches_equal_single_matrices() -> None:
    logits = random_logits(10, 3, [4, 5, 6, 7])
    for i in range(4):
        torch.testing.assert_close(
            critical_scales(logits, GAMMA)[i], critical_scales(logits[i], GAMMA)
        )
        assert large_scale_rank(logits, GAMMA)[i] == large_scale_rank(logits[i], GAMMA)
    stacked = logits.view(2, 2, 10, 10)
    assert critical_scales(stacked, GAMMA).shape == (2, 2, 10)
    assert large_scale_rank(stacked, GAMMA).shape == (2, 2)


def test_random_logits_are_products_of_uniform_factors_of_their_own_seed() -> None:
    logits = random_logits(400, 3, [0, 1])
    assert torch.equal(random_logits(400, 3, [1])[0], logits[1])
    assert not torch.equal(logits[0], logits[1])
    assert torch.linalg.matrix_rank(logits).tolist() == [3, 3]
    # Entries are sums of three products of two variables of variance 1/3.
    assert logits.mean().item() == pytest.approx(0, abs=0.05)
    assert logits.var().item() == pytest.approx(1 / 3, rel=0.05)
    flat = random_logits(400, 1, [0])
    assert flat.abs().max() == pytest.approx(1, abs=0.02)


def test_a_singular_value_at_the_threshold_is_not_above_it() -> None:
    winners = torch.eye(3)[[0, 0, 0, 0, 1]]  # singular values 2, 1 and 0
    assert large_scale_rank(winners, 0.5) == 1
    assert large_scale_rank(winners, 0.499) == 2


SQUARE = torch.eye(3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("function", "arguments", "match"),
    [
        (critical_scales, (SQUARE, 0.0), "gamma is 0"),
        (critical_scales, (SQUARE * math.nan, GAMMA), "NaN"),
        (critical_scales, (SQUARE.long(), GAMMA), "dtype"),
        (rank_bounds, (SQUARE, 0.0, GAMMA), "temperature is 0"),
        (rank_bounds, (SQUARE, 1.0, 1.0), "gamma is 1"),
        (rank_bounds, (SQUARE * math.inf, 1.0, GAMMA), "NaN|inf"),
        (dropout_temperatures, (SQUARE, 0.0), "gamma is 0"),
        (dropout_temperatures, (SQUARE[0], GAMMA), "dimension"),
        (large_scale_rank, (SQUARE, 1.0), "gamma is 1"),
        (large_scale_rank, (SQUARE * math.nan, GAMMA), "NaN"),
        (large_scale_rank, (SQUARE[0], GAMMA), "dimension"),
        (kernel_spectrum, (0.0,), "scale is 0"),
        (kernel_spectrum, (math.inf,), "scale is inf"),
        (kernel_spectrum, (math.nan,), "scale is nan"),
        (kernel_spectrum, (1.0, 1), "nodes is 1"),
        (kernel_spectrum, (1.0, 0), "nodes is 0"),
        (large_n_rank, (1.0, 0, GAMMA), "logits_rank is 0"),
        (large_n_rank, (1.0, 2, 2.0), "gamma is 2"),
        (large_n_rank, (-1.0, 2, GAMMA), "scale is -1"),
        (random_logits, (0, 1, [0]), "n is 0"),
        (random_logits, (3, 0, [0]), "rank is 0"),
    ],
)
def test_bad_arguments(function: Any, arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        function(*arguments)


@pytest.mark.parametrize(("scale", "logits_rank"), [(0.01, 3), (0.1, 2), (0.3, 1), (0.2, 2)])
def test_the_gaussian_limit_is_the_rank_of_a_large_softmax(scale: float, logits_rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    Q, K = torch.randn(2, 900, logits_rank, generator=generator, dtype=torch.float64)
    values = torch.linalg.svdvals(softmax(scale * Q @ K.mT))
    values = values / values[0]
    u = math.sqrt((1 + 2 * scale**2) / (1 - 2 * scale**2))
    step = math.sqrt((u - 1) / (u + 1))
    expected = [step**p for p in range(3) for _ in range(math.comb(p + logits_rank - 1, p))]
    assert values[: len(expected)].tolist() == pytest.approx(expected, rel=0.25)
    gamma = step**1.5  # between the first and the second order
    assert (
        (values > gamma).sum()
        == gaussian_large_n_rank(scale, logits_rank, gamma)
        == 1 + logits_rank
    )


def test_the_gaussian_limit_at_its_ends() -> None:
    assert gaussian_large_n_rank(1e-9, 4, GAMMA) == 1
    assert gaussian_large_n_rank(2 * GAMMA, 4, GAMMA) == 5
    assert gaussian_large_n_rank(math.sqrt(0.5), 1, GAMMA) is None
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="scale"):
            gaussian_large_n_rank(scale, 1, GAMMA)


@given(st.integers(0, 10**6), st.integers(2, 10), st.floats(1e-5, 1.0))
def test_proven_ranks_hold(seed: int, n: int, x: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, n, generator=generator, dtype=torch.float64)
    spread = float((logits.amax(dim=1) - logits.amin(dim=1)).max())
    scale = 0.999 * x / spread
    proven = small_scale_ranks(logits, scale, GAMMA)
    assert proven is not None
    assert proven[0] <= numerical_rank(softmax(scale * logits), GAMMA).item() <= proven[1]
    assert proven[0] == proven[1] or x > 1e-4
    assert small_scale_ranks(logits, 1.01 / spread, GAMMA) is None


def test_proven_ranks_of_a_bad_scale() -> None:
    with pytest.raises(ValueError, match="scale"):
        small_scale_ranks(torch.eye(2), 0.0, GAMMA)
