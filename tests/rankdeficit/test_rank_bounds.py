"""Proven bounds on the rank after the softmax at every temperature, and where modes drop out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit import numerical_rank, scaled_logits, softmax
from rankdeficit.scaled_logits import (
    dropout_temperatures,
    large_scale_rank,
    random_logits,
    rank_bounds,
    small_scale_ranks,
)


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
    # both ends differ from the first-order value by about gamma w^2 / (4 mu^2) of it
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
