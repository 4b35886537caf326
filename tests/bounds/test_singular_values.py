"""Proposition 3.1 and its refinements, on random and on extremal probability matrices."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit import bounds, constructions, softmax, spectrum, testing

SLACK = 1e-12


@given(testing.probability_matrices(square=True))
def test_proposition_3_1(S: torch.Tensor) -> None:
    lower, gap, upper, r = bounds.singular_gap(S)
    assert lower == 0
    assert -SLACK <= gap <= upper + SLACK
    gram = S.mT @ S
    assert r.item() == pytest.approx((gram.sum(1) - gram.diagonal()).max().item(), abs=1e-12)


@given(testing.probability_matrices(square=True))
def test_the_bound_alone_is_the_proposition_s(S: torch.Tensor) -> None:
    assert torch.equal(bounds.gap_bound(S), bounds.singular_gap(S).upper)
    G, n = S.mT @ S, S.shape[-1]
    r = max(sum(G[i, j].item() for j in range(n) if j != i) for i in range(n))
    upper = math.sqrt(1 + r) - math.sqrt(max(1 / n - r, 0))
    assert bounds.gap_bound(S).item() == pytest.approx(upper, abs=1e-6)


def test_the_bound_alone_needs_no_singular_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.linalg, "svdvals")
    S = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    S[1, :2, 1] = torch.tensor([1.0, 0.0])  # two equal columns: r = 1
    assert bounds.gap_bound(S).tolist() == pytest.approx([0.5, 2**0.5, 0.5])


@given(testing.probability_matrices(square=True))
def test_refinements_hold_and_are_never_worse_than_the_proposition(S: torch.Tensor) -> None:
    refined, plain = bounds.refined_gap(S), bounds.singular_gap(S)
    assert refined.lower - SLACK <= refined.value <= refined.upper + SLACK
    assert refined.upper <= plain.upper + SLACK
    assert bounds.gap_bound_in_r(plain.r, S.shape[-1]) <= plain.upper + SLACK
    assert plain.gap <= bounds.gap_bound_in_r(plain.r, S.shape[-1]) + SLACK


@given(testing.probability_matrices())
def test_largest_singular_value_lies_within_its_bounds(S: torch.Tensor) -> None:
    lower, value, upper = bounds.largest_singular_value(S)
    assert lower - SLACK <= value <= upper + SLACK
    m, n = S.shape
    rho = S.sum(1)
    assert lower >= math.sqrt(n / m) - SLACK
    assert lower >= (rho.square().sum() / n).sqrt() - SLACK
    assert upper <= rho.max().sqrt() + SLACK


@given(testing.probability_matrices(square=True))
def test_smallest_singular_value_lies_within_its_bounds(S: torch.Tensor) -> None:
    # Values near zero are known to about sqrt(eps) through Cassini's square roots.
    lower, value, upper = bounds.smallest_singular_value(S)
    assert lower.square() - SLACK <= value.square() <= upper.square() + SLACK


def test_collatz_wielandt_bounds_in_fractions() -> None:
    """With v = G 1 = (36, 29, 21)/16 the ratios (G v)_i / v_i are 91/48, 869/464 and 617/336.

    No other bound is as tight: ||rho||^2 / n = 43/24, max rho = max <s_i, rho> = 9/4, Cassini 2.045.
    """
    S = torch.tensor([[0, 0, 4], [0, 1, 3], [1, 1, 2]], dtype=torch.float64).mT / 4
    lower, value, upper = bounds.largest_singular_value(S)
    assert lower.square().item() == pytest.approx(617 / 336, rel=1e-14)
    assert upper.square().item() == pytest.approx(91 / 48, rel=1e-14)
    assert lower < value < upper
    turned = bounds.largest_singular_value(S[:, [2, 0, 1]])  # no column is first by nature
    torch.testing.assert_close(torch.stack(turned), torch.stack((lower, value, upper)))


def test_the_row_bound_in_fractions() -> None:
    """min_k (2 ||t_k||^2 - rho_k) = 2 (3/4)^2 - 3/4 = 3/8, above Gershgorin's and Cassini's 5/16."""
    S = torch.tensor([[0, 0, 4], [0, 3, 1], [3, 0, 1]], dtype=torch.float64).mT / 4
    lower, value, _ = bounds.smallest_singular_value(S)
    assert lower.square().item() == pytest.approx(3 / 8, rel=1e-14)
    assert lower < value


@pytest.mark.parametrize("shape", [(2, 7), (7, 2), (5, 5), (1, 4)])
def test_bounds_on_a_count_are_possible_counts(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    S = torch.rand(20, *shape, generator=generator, dtype=torch.float64) ** 8
    S = torch.cat([S / S.sum(dim=1, keepdim=True), torch.eye(*shape).double()[None]])
    S[-1, 0, S[-1].sum(dim=0) == 0] = 1
    for gamma in (1e-4, 1e-3, 0.1, 0.9):
        lower, count, upper = bounds.numerical_rank_bounds(S, gamma)
        assert bool((lower >= 1).all())
        assert bool((upper <= min(shape)).all())
        assert bool(((lower <= count + 1e-12) & (count <= upper + 1e-12)).all())


@given(testing.probability_matrices(), st.sampled_from([1e-3, 1e-2, 0.1, 0.5]))
def test_stable_rank_brackets_the_numerical_rank(S: torch.Tensor, gamma: float) -> None:
    lower, value, upper = bounds.numerical_rank_bounds(S, gamma)
    assert lower - 1e-9 <= value <= upper + 1e-9
    assert value == spectrum(S, method="svd").rank(gamma)


@given(testing.probability_matrices())
def test_centring_interlaces(S: torch.Tensor) -> None:
    lower, values, upper = bounds.centred_interlacing(S)
    assert (lower - SLACK <= values).all()
    assert (values <= upper + SLACK).all()


@given(st.integers(0, 10**6), st.floats(0.01, 30))
def test_the_frobenius_norm_of_probabilities_never_falls_with_scale(
    seed: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    s = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    torch.softmax(s * logits, dim=-1).square().sum().backward()
    slope = bounds.frobenius_slope(logits, scale)
    assert slope >= -1e-15
    assert s.grad is not None
    torch.testing.assert_close(slope, s.grad, rtol=1e-9, atol=1e-12)
    shifted = bounds.frobenius_slope(logits + 2**20, scale)
    torch.testing.assert_close(shifted, slope, rtol=1e-6, atol=1e-9)


def attains(S: torch.Tensor) -> tuple[bool, bool]:
    lower, gap, upper, _ = bounds.singular_gap(S)
    return abs(gap - lower) < 1e-9, abs(upper - gap) < 1e-9


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_assignment_matrices_attain_exactly_one_side(n: int) -> None:
    assignments = torch.tensor(list(itertools.product(range(n), repeat=n)))
    S = torch.nn.functional.one_hot(assignments, n).double().mT
    lower, gap, upper, _ = bounds.singular_gap(S)
    permutation = (assignments.sort(dim=1).values == torch.arange(n)).all(dim=1)
    assert torch.equal((gap - lower).abs() < 1e-7, permutation)
    assert torch.equal((upper - gap).abs() < 1e-7, ~permutation)


def test_the_upper_side_with_columns_that_are_not_one_hot() -> None:
    # m = 3 equal one-hot columns and others without that entry, with R_i <= m - 1 = 2.
    S = torch.zeros(5, 5, dtype=torch.float64)
    S[0, :3] = 1
    S[1:, 3] = torch.tensor([0.4, 0.3, 0.2, 0.1])
    S[1:, 4] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert attains(S) == (False, True)


@given(st.integers(2, 8), st.floats(0.1, 20), st.integers(0, 10**6))
def test_no_softmax_of_finite_logits_attains_either_side(n: int, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.rand(n, n, generator=generator, dtype=torch.float64)
    lower, gap, upper, _ = bounds.singular_gap(softmax(logits).mT)
    assert lower < gap < upper


@pytest.mark.parametrize("r", [0.05, 0.2, 0.41, 0.45, 0.49, 0.53, 0.6, 0.9])
def test_two_columns_reach_their_bound_and_never_pass_it(r: float) -> None:
    # All 2 x 2 probability matrices with <s_1, s_2> = r: x y + (1 - x)(1 - y) = r.
    x = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    y = (r - 1 + x) / (2 * x - 1)
    valid = (y >= 0) & (y <= 1)
    x, y = x[valid], y[valid]
    S = torch.stack([torch.stack([x, y], -1), torch.stack([1 - x, 1 - y], -1)], -2)
    best = bounds.singular_gap(S).gap.max()
    bound = bounds.gap_bound_in_r(torch.tensor(r, dtype=torch.float64), 2)
    assert best <= bound + 1e-9
    assert best.item() == pytest.approx(bound.item(), abs=1e-3)


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.2), (10, 0.7), (50, 0.999)])
def test_equality_case_of_the_lower_bound_on_the_gap(n: int, alpha: float) -> None:
    S = alpha * torch.eye(n, dtype=torch.float64) + (1 - alpha) / n
    lower, gap, _ = bounds.refined_gap(S)
    assert gap.item() == pytest.approx(1 - alpha, abs=1e-12)
    assert lower.item() == pytest.approx(1 - alpha, abs=1e-12)
    r = bounds.singular_gap(S).r
    assert r.item() == pytest.approx((n - 1) * (1 - alpha**2) / n, abs=1e-12)


@pytest.mark.parametrize("margin", [0.5, 3.0])
def test_softmax_of_an_etf_is_the_equality_case(margin: float) -> None:
    n = 7
    code = constructions.simplex_etf(n)
    S = softmax(code.logits(torch.arange(n), margin / code.margin)).mT
    alpha = (math.exp(margin) - 1) / (math.exp(margin) + n - 1)
    expected = alpha * torch.eye(n, dtype=torch.float64) + (1 - alpha) / n
    torch.testing.assert_close(S, expected, rtol=1e-12, atol=1e-12)
    assert bounds.refined_gap(S).value.item() == pytest.approx(1 - alpha, abs=1e-12)


@pytest.mark.parametrize(
    ("r", "n", "square"),
    [
        (0.0, 5, 1.0),
        (0.21, 5, 0.7 - 0.21 * 2**0.5),  # x = 7/10 has x (1 - x) = 0.21
        (0.24, 10**6, 0.6 - 0.24 * 2**0.5),
        (0.25, 3, 1 - 3.5 / 4),  # none of these from 1/4 on
        (0.26, 3, 1 - 3.5 * 0.26),
        (0.26, 4, 0.0),
        (0.3, 3, 1 / 3 - 0.3),
        (0.1, 1, 1.0 - 0.1),
        (0.9, 7, 0.0),
    ],
)
def test_gap_bound_in_r_by_hand(r: float, n: int, square: float) -> None:
    found = bounds.gap_bound_in_r(torch.tensor(r, dtype=torch.float64), n).item()
    assert found == pytest.approx((1 + r) ** 0.5 - square**0.5, abs=1e-8)


def test_the_bound_grows_with_the_scale_of_rank_one_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (2 * torch.rand(100, 1, generator=generator, dtype=torch.float64) - 1 for _ in range(2))
    uppers = [bounds.singular_gap(softmax(s * a @ b.mT).mT).upper.item() for s in (1, 10, 1000)]
    assert uppers == sorted(uppers)
    assert uppers[0] == pytest.approx(2**0.5, abs=0.05)
    assert uppers[-1] > 6


def test_batches_equal_single_matrices() -> None:
    generator = torch.Generator().manual_seed(0)
    S = softmax(torch.randn(4, 6, 6, generator=generator, dtype=torch.float64)).mT
    for function in (bounds.singular_gap, bounds.refined_gap, bounds.largest_singular_value):
        batched = function(S)
        for i in range(4):
            for ours, single in zip(batched, function(S[i]), strict=True):
                torch.testing.assert_close(ours[i], single)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("S", "match"),
    [
        (torch.full((2, 3), 0.5), "square"),
        (torch.tensor([[0.5, 0.5], [0.1, 0.9]]), r"pass S\.mT"),
        (torch.tensor([[1.5, 0.0], [-0.5, 1.0]]), "non-negative"),
        (torch.tensor([[math.nan, 0.0], [0.0, 1.0]]), "NaN"),
        (torch.eye(2).long(), "dtype"),
        (torch.zeros(0, 0), "empty"),
        (torch.zeros(300, 300, dtype=torch.float16), "non-negative"),
        (torch.zeros(40, 40, dtype=torch.bfloat16), "non-negative"),
    ],
)
def test_bad_matrices(S: torch.Tensor, match: str) -> None:
    for function in (
        bounds.singular_gap, bounds.gap_bound, bounds.refined_gap, bounds.smallest_singular_value
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            function(S)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf])
def test_bad_scales(scale: float) -> None:
    with pytest.raises(ValueError, match="scale is"):
        bounds.frobenius_slope(torch.eye(2), scale)


def test_float32_probabilities_are_accepted() -> None:
    S = softmax(torch.randn(300, 300, generator=torch.Generator().manual_seed(0))).mT
    gap = bounds.singular_gap(S)
    assert 0 <= gap.gap <= gap.upper
