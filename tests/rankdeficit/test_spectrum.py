import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

import rankdeficit as rd


def matrix_with(values: torch.Tensor, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """A dense float64 matrix with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    k = len(values)
    left = torch.linalg.qr(torch.randn(rows, k, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(columns, k, generator=generator, dtype=torch.float64)).Q
    return left @ torch.diag(values) @ right.mT


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    decades=st.floats(0, 6),
    seed=st.integers(0, 10**6),
    method=st.sampled_from(["gram", "svd"]),
)
def test_spectrum_against_scipy(
    rows: int, columns: int, decades: float, seed: int, method: str
) -> None:
    planted = torch.logspace(0, -decades, min(rows, columns), dtype=torch.float64)
    matrix = matrix_with(planted, rows, columns, seed)
    ours = rd.spectrum(matrix, method=method)  # type: ignore[arg-type]
    reference = torch.from_numpy(scipy.linalg.svdvals(matrix.numpy()))
    resolution = 1e-9 if method == "gram" else 1e-14
    torch.testing.assert_close(ours.singular_values, reference, rtol=1e-6, atol=resolution)
    slack = 1e-15 * reference[0]
    assert (ours.lower <= reference + slack).all()
    assert (reference <= ours.upper + slack).all()


@given(st.integers(1, 60), st.floats(1e-6, 0.5), st.integers(0, 10**6))
def test_numerical_rank_is_the_planted_one(k: int, gamma: float, seed: int) -> None:
    size = 60
    values = torch.full((size,), gamma / 2, dtype=torch.float64)
    values[0], values[1:k] = 1.0, 2 * gamma
    assert rd.numerical_rank(matrix_with(values, 90, size, seed), gamma) == k


def test_numerical_rank_matches_the_count_of_float64_singular_values_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(3000, 64, generator=generator) * torch.logspace(0, -7, 64)
    reference = torch.linalg.svdvals(matrix.double())
    for gamma in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        assert rd.numerical_rank(matrix, gamma) == (reference > gamma * reference[0]).sum()


def test_ranks_below_the_gram_resolution_come_from_the_svd() -> None:
    values = torch.tensor([1.0, 1e-4, 1e-9, 1e-11], dtype=torch.float64)
    matrix = matrix_with(values, 600, 20)
    low, high = rd.spectrum(matrix).rank_interval(1e-10)
    assert low < high
    assert rd.rank_curve(matrix, (1e-10, 1e-12, 1e-3)).tolist() == [3, 4, 1]


def test_weyl_interval_is_a_point_where_the_threshold_is_clear() -> None:
    matrix = matrix_with(torch.tensor([1.0, 0.5, 1e-5], dtype=torch.float64), 50, 20)
    low, high = rd.spectrum(matrix).rank_interval(1e-3)
    assert (int(low), int(high)) == (2, 2)
    edge = torch.diag(torch.tensor([1.0, 1e-3, 0.0], dtype=torch.float64))
    low, high = rd.spectrum(edge).rank_interval(1e-3)
    assert (int(low), int(high)) == (1, 2)


def test_batches_equal_single_matrices() -> None:
    batch = torch.randn(2, 3, 8, 5, generator=torch.Generator().manual_seed(0))
    batch[1, 2] = 0
    curves = rd.rank_curve(batch)
    stable, effective = rd.stable_rank(batch), rd.effective_rank(batch)
    assert curves.shape == (2, 3, len(rd.GAMMAS))
    for i in range(2):
        for j in range(3):
            assert torch.equal(curves[i, j], rd.rank_curve(batch[i, j]))
            torch.testing.assert_close(stable[i, j], rd.stable_rank(batch[i, j]))
            torch.testing.assert_close(effective[i, j], rd.effective_rank(batch[i, j]))


@pytest.mark.parametrize("scale", [1e-130, 1e-30, 1.0, 1e30, 1e130])
@pytest.mark.parametrize("shape", [(700, 30), (30, 700)])
def test_ranks_do_not_depend_on_scale_or_on_transposition(
    scale: float, shape: tuple[int, int]
) -> None:
    values = torch.logspace(0, -5, 30, dtype=torch.float64)
    matrix = scale * matrix_with(values, *shape)
    assert rd.rank_curve(matrix).tolist() == [24, 18, 12, 9, 6]
    assert rd.stable_rank(matrix).item() == pytest.approx(values.square().sum().item())


def test_stable_and_effective_rank_of_known_spectra() -> None:
    projector = torch.diag(torch.tensor([1.0] * 4 + [0.0] * 3))
    assert rd.stable_rank(projector).item() == pytest.approx(4)
    assert rd.effective_rank(projector).item() == pytest.approx(4)
    values = torch.tensor([4.0, 2.0, 1.0, 1.0])
    share = values / 8
    expected = math.exp(-(share * share.log()).sum().item())
    assert rd.effective_rank(torch.diag(values)).item() == pytest.approx(expected, rel=1e-6)


def test_the_zero_matrix_has_rank_zero() -> None:
    zero = torch.zeros(4, 3)
    assert rd.rank_curve(zero).tolist() == [0] * len(rd.GAMMAS)
    assert rd.stable_rank(zero) == 0
    assert rd.effective_rank(zero) == 0


@pytest.mark.parametrize("value", [0.1, -3.0, 1e30, 65504.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_all_equal_logits_have_rank_one_and_centred_rank_zero(
    value: float, dtype: torch.dtype
) -> None:
    logits = torch.full((50, 7), min(value, torch.finfo(dtype).max), dtype=dtype)
    assert rd.numerical_rank(logits) == 1
    assert rd.centred_rank(logits) == 0


@given(st.integers(2, 8), st.integers(0, 10**6), st.floats(0, 1e6))
def test_centring_removes_what_the_softmax_cannot_see(c: int, seed: int, offset: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(40, c, generator=generator, dtype=torch.float64)
    offsets = offset * torch.randn(40, 1, generator=generator, dtype=torch.float64)
    assert rd.centred_rank(logits) == rd.centred_rank(logits + offsets) == c - 1


def test_half_precision_is_counted_in_float64() -> None:
    logits = torch.tensor([[6e4, 0.0], [0.0, 100.0]])
    for dtype in (torch.float16, torch.bfloat16):
        assert rd.numerical_rank(logits.to(dtype)) == 2
        assert rd.numerical_rank(logits.to(dtype), 1e-2) == 1


def test_memory_beyond_the_input_is_a_few_blocks() -> None:
    matrix = torch.ones(1).expand(40_000, 64) + torch.eye(64).repeat(625, 1)
    with torch.profiler.profile(profile_memory=True) as profile:
        rd.numerical_rank(matrix)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest <= 8 * 64 * 256 + 1024 < matrix.nbytes / 50


@pytest.mark.parametrize("method", ["gram", "svd"])
@pytest.mark.parametrize("rows", [1, 257, 300_000])
def test_intervals_cover_the_value_of_tall_matrices(rows: int, method: str) -> None:
    ones = rd.spectrum(torch.ones(rows, 1).double(), method=method)  # type: ignore[arg-type]
    assert ones.lower <= rows**0.5 <= ones.upper
    # Two columns at a known angle: singular values sqrt(rows (1 +- cos)).
    columns = torch.tensor([[1.0, 0.6], [0.0, 0.8]], dtype=torch.float64).repeat(rows, 1)
    values = rd.spectrum(columns, method=method)  # type: ignore[arg-type]
    expected = torch.tensor([1.6, 0.4], dtype=torch.float64).mul(rows).sqrt()
    slack = 4e-16 * expected[0]
    assert (values.lower <= expected + slack).all()
    assert (expected <= values.upper + slack).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("gamma", [0.0, 1.0, -1e-3, 2.0, math.nan])
def test_bad_gamma(gamma: float) -> None:
    for measure in (rd.numerical_rank, rd.centred_rank):
        with pytest.raises(ValueError, match="gamma is"):
            measure(torch.eye(3), gamma)
    with pytest.raises(ValueError, match="gamma is"):
        rd.rank_curve(torch.eye(3), (1e-3, gamma))
    for bad in ("a", None, True):
        with pytest.raises(ValueError, match="gamma is"):
            rd.numerical_rank(torch.eye(3), bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"gammas.*empty"):
        rd.rank_curve(torch.eye(3), ())
    with pytest.raises(ValueError, match=r"gammas.*empty"):
        rd.spectrum(torch.eye(3)).rank_curve(())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (torch.zeros(0, 3), "empty"),
        (torch.zeros(3), "at least 2 dimension"),
        (torch.tensor([[1.0, math.nan]]), "NaN or infinite"),
        (torch.tensor([[-math.inf, 1.0]]), "NaN or infinite"),
        (torch.eye(3).long(), "dtype torch.int64"),
        (torch.eye(3) * 1j, "dtype torch.complex64"),
        (np.eye(3), "is a ndarray"),
        (torch.tensor([[1e200]], dtype=torch.float64), "divide it"),
        (torch.tensor([[1e-200]], dtype=torch.float64), "divide it"),
    ],
)
def test_bad_matrices(matrix: object, match: str) -> None:
    for measure in (rd.numerical_rank, rd.rank_curve, rd.stable_rank, rd.effective_rank):
        with pytest.raises(ValueError, match=match):
            measure(matrix)  # type: ignore[operator]


def test_gpu_equals_cpu(device: torch.device) -> None:
    matrix = torch.randn(2, 500, 40, generator=torch.Generator().manual_seed(0))
    ours = rd.spectrum(matrix.to(device))
    torch.testing.assert_close(ours.singular_values.cpu(), rd.spectrum(matrix).singular_values)
    assert torch.equal(rd.rank_curve(matrix.to(device)).cpu(), rd.rank_curve(matrix))


def test_conventions_of_the_numerical_rank_are_those_of_direct_decompositions() -> None:
    """Logits whose means over classes and over samples are large, so that all four ranks differ."""
    n, c, gammas = 60, 12, (1e-4, 1e-3, 1e-2, 3e-2, 1e-1)
    M = matrix_with(torch.logspace(0, -4.5, c, dtype=torch.float64), n, c, seed=1)
    generator = torch.Generator().manual_seed(2)
    M = M + 30 * torch.randn(n, 1, dtype=torch.float64, generator=generator)
    M = M + 3 * torch.randn(1, c, dtype=torch.float64, generator=generator)
    A = M.numpy()

    def singular(matrix: np.ndarray, gamma: float) -> int:
        values = scipy.linalg.svdvals(matrix)
        return int((values > gamma * values[0]).sum())

    def eigen(gamma: float) -> int:
        values = np.linalg.eigvalsh(np.cov(A, rowvar=False))
        return int((values > gamma * values[-1]).sum())

    expected = {
        "matrix": [singular(A, gamma) for gamma in gammas],
        "class-centred": [singular(A - A.mean(axis=1, keepdims=True), gamma) for gamma in gammas],
        "sample-centred": [singular(A - A.mean(axis=0), gamma) for gamma in gammas],
        "covariance": [eigen(gamma) for gamma in gammas],
    }
    assert len({tuple(ranks) for ranks in expected.values()}) == 4
    for name, ranks in expected.items():
        assert rd.rank_curve(M, gammas, convention=name).tolist() == ranks  # type: ignore[arg-type]
        pair = torch.stack([M, M.flip(0)])
        found = rd.numerical_rank(pair, 1e-2, convention=name)  # type: ignore[arg-type]
        assert found.tolist() == [ranks[2]] * 2
    assert rd.rank_curve(M, gammas).tolist() == expected["matrix"]
    assert rd.rank_curve(M, gammas, centred=True).tolist() == expected["class-centred"]


@pytest.mark.usefixtures("unchecked")
def test_bad_conventions() -> None:
    with pytest.raises(ValueError, match="sample-centred"):
        rd.numerical_rank(torch.eye(3), convention="columns")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="centred"):
        rd.numerical_rank(torch.eye(3), centred=True, convention="matrix")
    with pytest.raises(ValueError, match="gamma is 2"):
        rd.numerical_rank(torch.eye(3), 2.0, convention="covariance")
