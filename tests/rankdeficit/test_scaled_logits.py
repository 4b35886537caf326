"""Small, middling and large scales of the logits: each theory against the softmax itself."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit import numerical_rank, scaled_logits, softmax
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


def skewed(seed: int, n: int, c: int) -> torch.Tensor:
    """Logits of a random size with spread singular values, shifts of rows and columns, and ties."""
    generator = torch.Generator().manual_seed(seed)
    k = min(n, c)
    A, B = (torch.randn(size, k, dtype=torch.float64, generator=generator) for size in (n, c))
    M = A * 0.3 ** torch.arange(k) @ B.mT + A[:, :1]
    M[seed % n] = M[0]
    return M * 10.0 ** (seed % 5 - 2)


@given(
    st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.5, 0.1, 1e-3])
)
def test_the_rank_lies_within_its_bounds_at_every_temperature(
    seed: int, n: int, c: int, gamma: float
) -> None:
    M, T = skewed(seed, n, c), torch.logspace(-4, 6, 21, dtype=torch.float64)
    values = torch.linalg.svdvals(softmax(M / T[:, None, None]))
    values = values / values[:, :1]
    lower, upper = rank_bounds(M, T, gamma)
    assert (lower >= 1).all()
    assert (upper <= min(n, c)).all()
    assert (lower <= (values > gamma * (1 - 1e-9)).sum(dim=-1)).all()
    assert ((values > gamma * (1 + 1e-9)).sum(dim=-1) <= upper).all()
    both = rank_bounds(torch.stack([M, 2 * M]), T[7].item(), gamma)
    assert [x.tolist() for x in both] == [
        [x[7].item(), y.item()]
        for x, y in zip((lower, upper), rank_bounds(M, T[7].item() / 2, gamma), strict=True)
    ]


def test_the_bounds_meet_at_high_and_low_temperatures() -> None:
    (logits,) = random_logits(20, 3, [0])
    gamma = 1e-5
    for T, rank in ((1e-6, int(large_scale_rank(logits, gamma))), (3e3, 4), (1e6, 1)):
        lower, upper = rank_bounds(logits, T, gamma)
        assert lower == upper == rank == numerical_rank(softmax(logits / T), gamma)
    for T in (6.0, 100.0, 1e3):  # no wider than those of `small_scale_ranks`
        lower, upper = rank_bounds(logits, T, gamma)
        wide = small_scale_ranks(logits, 1 / T, gamma)
        assert wide is not None
        assert wide[0] <= lower <= upper <= wide[1]
    lower, upper = rank_bounds(logits, 1.0, gamma)
    assert lower < upper


@pytest.mark.parametrize(("n", "c", "gamma"), [(6, 4, 1e-3), (4, 6, 0.02), (5, 5, 1e-6)])
def test_each_mode_drops_out_within_its_bounds(n: int, c: int, gamma: float) -> None:
    generator = torch.Generator().manual_seed(n)
    M = torch.randn(n, c, dtype=torch.float64, generator=generator)
    first_order, lower, upper = dropout_temperatures(M, gamma)
    assert first_order.shape == (min(n, c) - 1,)
    assert (lower > 0).any()
    for i, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
        for T, above in ((low * (1 - 1e-9), True), (high, False), (2 * high, False)):
            if T > 0:
                values = torch.linalg.svdvals(softmax(M / T))
                assert (values[i + 1] > gamma * values[0]) == above
    assert (lower <= first_order).all()
    assert (first_order <= upper).all()
    # the relative distance of both ends from the first order is about gamma w^2 / (4 mu^2)
    square = (M.amax(dim=-1) - M.amin(dim=-1)).pow(4).mean().sqrt()
    relative = gamma * square / (gamma * first_order).square() / 4
    small = relative < 0.05
    assert (upper / first_order - 1)[small].tolist() == pytest.approx(relative[small], rel=0.2)
    assert (1 - lower / first_order)[small].tolist() == pytest.approx(relative[small], rel=0.2)


def proven_by_formula(M: np.ndarray, T: float, gamma: float) -> tuple[int, int]:
    """The bounds of the docstring, sample by sample."""
    n, c = M.shape
    mu = (
        np.linalg.svd(M - M.mean(0) - M.mean(1)[:, None] + M.mean(), compute_uv=False)
        / (n * c) ** 0.5
    )
    x = [(row.max() - row.min()) / T for row in M]
    half = (sum((math.expm1(a) - a) ** 2 for a in x) / n) ** 0.5 / 2
    growth = sum(math.cosh(a / 2) ** 2 for a in x) / n
    tops = [sorted(row / T) for row in M]
    E = (2 * sum(((c - 1) / (math.exp(t[-1] - t[-2]) + c - 1)) ** 2 for t in tops)) ** 0.5
    a = sorted((float((M.argmax(1) == k).sum()) ** 0.5 for k in range(c)), reverse=True)[
        : min(n, c)
    ]
    lower = (
        1 + sum(m / T > gamma * growth + half for m in mu[:-1]),
        sum(v > gamma * a[0] + (1 + gamma) * E for v in a),
    )
    upper = (
        1 + sum(m / T > gamma - half for m in mu[:-1]),
        sum(v > gamma * a[0] - (1 + gamma) * E for v in a),
    )
    return max(lower), min(upper)


@pytest.mark.parametrize(("n", "c", "gamma"), [(6, 3, 0.02), (4, 7, 1e-3), (9, 2, 0.3)])
def test_rank_bounds_are_those_of_the_formula(n: int, c: int, gamma: float) -> None:
    generator = torch.Generator().manual_seed(n)
    M = torch.randn(n, c, generator=generator, dtype=torch.float64)
    M = M * torch.logspace(0, 1, n).double()[:, None]
    T = torch.logspace(-1, 5, 300).double()
    found = torch.stack(rank_bounds(M, T, gamma), dim=-1).tolist()
    expected = [[*proven_by_formula(M.numpy(), t, gamma)] for t in T.tolist()]
    assert found == expected
    assert len({tuple(pair) for pair in expected}) >= 3


@pytest.mark.parametrize(("n", "c"), [(5, 5), (7, 4)])
def test_small_scale_ranks_are_those_of_the_formula(n: int, c: int) -> None:
    generator = torch.Generator().manual_seed(n)
    logits = torch.randn(n, c, generator=generator, dtype=torch.float64)
    M, seen = logits.numpy(), set()
    w = max(row.max() - row.min() for row in M)
    mu = np.linalg.svd(M - M.mean(0) - M.mean(1)[:, None] + M.mean(), compute_uv=False)[:-1]
    mu = mu / (n * c) ** 0.5
    for x in np.geomspace(1e-3, 0.999, 200):
        s, found = x / w, small_scale_ranks(logits, x / w, 0.01)
        expected = tuple(1 + int((s * mu + sign * x**2 / 2 > 0.01).sum()) for sign in (-1, 1))
        assert found == expected
        seen.add(found)
    assert len(seen) > 5


@pytest.mark.parametrize("gamma", [1e-3, 0.03, 0.05152, 0.06, 0.2])
def test_dropout_temperatures_solve_their_equations(gamma: float) -> None:
    M = skewed(5, 8, 6)
    ranges = (M.amax(dim=1) - M.amin(dim=1))[:, None]

    def errors(s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = s * ranges
        return (x.expm1() - x).square().mean(0).sqrt() / 2, (x / 2).cosh().square().mean(0)

    first_order, lower, upper = dropout_temperatures(M, gamma)
    mu = gamma * first_order
    half, _ = errors(1 / upper)
    torch.testing.assert_close(mu / upper + half, torch.full_like(mu, gamma))
    grid = torch.linspace(0, 3 / ranges.mean().item(), 20_000, dtype=torch.float64)
    half, growth = errors(grid)
    surplus = mu[:, None] * grid - half - gamma * growth
    assert torch.equal(lower > 0, surplus.amax(dim=1) > 0)
    for i in torch.nonzero(lower > 0).flatten().tolist():
        first = grid[torch.nonzero(surplus[i] > 0)[0, 0]]
        assert 1 / lower[i].item() == pytest.approx(first.item(), abs=grid[1].item())


@pytest.mark.parametrize("n", [7, 400, 2000])
def test_ranges_of_many_samples_are_grouped_from_above(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ranges = 3 * torch.randn(n, generator=generator, dtype=torch.float64).exp()
    grouped = scaled_logits._grouped(ranges)
    assert grouped.shares.sum().item() == pytest.approx(1)
    assert len(grouped.shares) <= 512
    scales = torch.tensor([1e-4, 0.01, 0.1], dtype=torch.float64, requires_grad=True)
    half, growth = grouped.errors(scales)
    x = scales[:, None].detach() * ranges
    exact = (x.expm1() - x).square().mean(dim=1).sqrt() / 2, (x / 2).cosh().square().mean(dim=1)
    for ours, theirs in zip((half, growth), exact, strict=True):
        assert (ours >= theirs * (1 - 1e-12)).all()
        assert (ours <= theirs * (1.005 if n > 512 else 1 + 1e-12)).all()
    slopes = grouped.slopes(scales.detach())
    for value, slope in zip((half, growth), slopes, strict=True):
        (expected,) = torch.autograd.grad(value.sum(), scales, retain_graph=True)
        torch.testing.assert_close(slope, expected)


@pytest.mark.parametrize("ranges", [[1.0] * 5, [0.0, 2.0], [1e4] + [1.0] * 5000, [7.0]])
def test_the_largest_scale_has_a_finite_error_beyond_any_gamma(ranges: list[float]) -> None:
    grouped = scaled_logits._grouped(torch.tensor(ranges).double())
    assert 1 < grouped.errors(grouped.large_scale)[0] < math.inf
    assert all(slope.isfinite() for slope in grouped.slopes(grouped.large_scale))


def test_one_far_sample_does_not_spoil_the_bounds() -> None:
    """As in trained networks, whose largest range is far above most of the others."""
    gamma = 2e-3
    generator = torch.Generator().manual_seed(0)
    M = torch.randn(3000, 4, generator=generator, dtype=torch.float64)
    M[0] *= 10
    first_order, lower, upper = dropout_temperatures(M, gamma)
    assert (lower > 0.95 * first_order).all()
    assert (upper < 1.05 * first_order).all()
    far = (M.amax(dim=1) - M.amin(dim=1)).max()
    assert (
        gamma * far**2 / (4 * (gamma * first_order[-1]) ** 2) > 1
    )  # beyond what it alone would prove


def test_dropout_temperatures_scale_with_the_logits_and_ignore_shifts() -> None:
    M = skewed(3, 7, 5)
    base = dropout_temperatures(M, 1e-4)
    for changed, factor in (
        (100 * M, 100.0),
        (M + torch.arange(7.0)[:, None], 1.0),
        (M[[*range(6, -1, -1)]], 1.0),
    ):
        for a, b in zip(dropout_temperatures(changed, 1e-4), base, strict=True):
            torch.testing.assert_close(a, factor * b, rtol=1e-6, atol=1e-9)
    stacked = dropout_temperatures(torch.stack([M, 2 * M]), 1e-4)
    for a, b in zip(stacked, base, strict=True):
        torch.testing.assert_close(a, torch.stack([b, 2 * b]))
    constant = dropout_temperatures(torch.ones(4, 3), 0.1)
    assert torch.stack(constant).tolist() == [[0.0, 0.0]] * 3


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
