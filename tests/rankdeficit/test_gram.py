import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit import Gram, centre, centred_rank, numerical_rank, rank_curve, spectrum
from rankdeficit.spectrum import Convention
from tests.processes import run_together


def rows(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=dtype) * torch.logspace(
        0, -4, d, dtype=dtype
    )


def gram_of(*batches: torch.Tensor) -> Gram:
    gram = Gram(batches[0].shape[1])
    for batch in batches:
        gram.update(batch)
    return gram


def assert_same(one: Gram, other: Gram) -> None:
    assert one.rows == other.rows
    torch.testing.assert_close(one.matrix, other.matrix, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one.singular_values(), other.singular_values(), rtol=1e-7, atol=1e-7)


@given(
    cuts=st.lists(st.integers(1, 299), max_size=6, unique=True),
    seed=st.integers(0, 10**6),
    d=st.sampled_from([1, 5, 40, 150]),
)
def test_batch_size_and_order_do_not_matter(cuts: list[int], seed: int, d: int) -> None:
    data = rows(300, d, seed)
    generator = torch.Generator().manual_seed(seed)
    bounds = [0, *sorted(cuts), 300]
    batches = [data[a:b] for a, b in pairwise(bounds)]
    shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator)]
    assert_same(gram_of(data), gram_of(*shuffled))


@given(st.integers(0, 10**6), st.integers(1, 200))
def test_merge_is_associative_and_equals_one_pass(seed: int, d: int) -> None:
    a, b, c = (rows(70, d, seed + i) for i in range(3))
    left = gram_of(a).merge(gram_of(b)).merge(gram_of(c))
    right = gram_of(a).merge(gram_of(b).merge(gram_of(c)))
    assert_same(left, right)
    assert_same(left, gram_of(torch.cat([a, b, c])))
    torch.testing.assert_close(left.matrix, left.matrix.mT, rtol=0, atol=0)


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_few_rows_have_the_spectrum_of_the_smaller_gram_matrix(seed: int, d: int) -> None:
    data = rows(8, d, seed, dtype=torch.float64)
    parts = gram_of(data[:3], data[3:])
    merged = gram_of(data[:3]).merge(gram_of(data[3:]))
    for gram in (parts, merged):
        found, exact = gram.spectrum(), torch.linalg.svdvals(data)
        assert bool((found.lower <= exact).all() and (exact <= found.upper).all())
        torch.testing.assert_close(gram.matrix, data.mT @ data)


@pytest.mark.parametrize("convention", ["matrix", "class-centred", "sample-centred", "covariance"])
@pytest.mark.parametrize("n", [12, 300])
def test_every_convention_is_that_of_the_whole_matrix(convention: Convention, n: int) -> None:
    data = rows(n, 20, dtype=torch.float64) + torch.linspace(0, 2, 20).double()
    whole = {
        "matrix": data,
        "class-centred": centre(data),
        "sample-centred": data - data.mean(dim=0),
        "covariance": data - data.mean(dim=0),
    }[convention]
    exact = torch.linalg.svdvals(whole)
    exact = exact.square() / n if convention == "covariance" else exact
    half = n // 2
    found = gram_of(*data[:half].split(5)).merge(gram_of(data[half:])).spectrum(convention)
    torch.testing.assert_close(found.singular_values[:8], exact[:8], rtol=1e-9, atol=0)
    assert bool((found.lower <= exact * (1 + 1e-12)).all() and (exact <= found.upper).all())
    for gamma in (1e-3, 1e-2, 3e-2):
        assert found.rank(gamma) == numerical_rank(data, gamma, convention=convention)


@pytest.mark.parametrize("convention", ["class-centred", "sample-centred"])
def test_intervals_cover_what_large_means_cost(convention: Convention) -> None:
    data = rows(200, 20, dtype=torch.float64)
    centred = data - data.mean(dim=0) if convention == "sample-centred" else centre(data)
    offset = 1e6 * (torch.randn(20).double() if convention == "sample-centred" else torch.ones(20))
    exact = torch.linalg.svdvals(centred)
    found = gram_of(*(data + offset).split(30)).spectrum(convention)
    assert (found.singular_values - exact).abs().max() > 1e-3
    assert bool((found.lower <= exact).all() and (exact <= found.upper).all())


@pytest.mark.parametrize("convention", ["matrix", "class-centred", "sample-centred"])
def test_wide_rows_are_read_in_blocks(
    convention: Convention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rankdeficit.gram.COLUMNS", 64)
    data = torch.randn(15, 250, generator=torch.Generator().manual_seed(0)).double() + 3
    gram = Gram(250, memory=15 * 250 * 8)  # room for the rows, not for 250^2 numbers
    for batch in data.split(4):
        gram.update(batch)
    whole = {"matrix": data, "class-centred": centre(data), "sample-centred": data - data.mean(0)}
    exact = torch.linalg.svdvals(whole[convention])[:14]
    found = gram.spectrum(convention).singular_values[:14]
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=0)
    joined = gram.merge(gram)
    assert joined.reason is not None  # 30 rows have no room


def test_the_memory_holds_the_smaller_gram_matrix_too() -> None:
    gram = Gram(250, memory=200 * 250 * 4)  # room for 200 rows in float32, not for 200^2 in float64
    gram.update(rows(150, 250))
    assert gram.reason is None
    gram.update(rows(50, 250))
    assert gram.reason is not None


def test_a_merge_with_a_state_that_has_forgotten_its_rows_keeps_the_reason() -> None:
    small = Gram(250, memory=100)
    small.update(rows(10, 250))
    assert small.reason is not None
    assert gram_of(rows(10, 250)).merge(small).reason == small.reason


@pytest.mark.parametrize("count", [40, 300])
def test_more_rows_than_the_memory_holds_have_no_spectrum_and_a_reason(count: int) -> None:
    gram = Gram(250, memory=8 * 100**2)
    for batch in rows(count, 250).split(30):
        gram.update(batch)
    assert gram.rows == count
    if count * 250 * 4 <= 8 * 100**2:
        assert gram.reason is None
        return
    assert gram.reason is not None
    assert gram._gram.numel() == 0
    with pytest.raises(ValueError, match="memory"):
        gram.spectrum()


def _wide_share(rank: int, count: int, folder: Path, memory: int) -> None:
    gram = Gram(50, memory=memory)
    gram.update(rows(30, 50).double()[10 * rank : 10 + 20 * rank])
    gram.all_reduce()
    forgotten = Gram(500, memory=19_000)  # room for 20 x 500 bytes, not for one share
    forgotten.update(rows(10, 500))
    forgotten.all_reduce()
    values = None if gram.reason else gram.singular_values()
    torch.save([gram.rows, gram.reason, values, forgotten.reason], folder / f"{rank}.pt")


@pytest.mark.parametrize("memory", [30 * 50 * 8, 20 * 50 * 8])
def test_processes_with_wide_rows_share_them_where_all_have_room(
    tmp_path: Path, memory: int
) -> None:
    run_together(_wide_share, tmp_path, tmp_path, memory)
    for rank in range(2):
        count, reason, values, other = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert count == 30
        assert other is not None
        assert (reason is None) == (memory == 30 * 50 * 8)
        if reason is None:
            exact = torch.linalg.svdvals(rows(30, 50).double())
            torch.testing.assert_close(values, exact, rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(values[:3], exact[:3], rtol=1e-11, atol=0)


def test_merge_leaves_its_arguments_alone() -> None:
    one, other = gram_of(rows(5, 3)), gram_of(rows(7, 3, seed=1))
    before = one.matrix.clone()
    merged = one.merge(other)
    merged.update(rows(2, 3))
    assert torch.equal(one.matrix, before)
    assert (one.rows, other.rows, merged.rows) == (5, 7, 14)


@pytest.mark.parametrize("n", [3, 30, 1000])
def test_spectrum_equals_that_of_the_whole_matrix(n: int) -> None:
    data = rows(n, 20)
    gram = gram_of(*data.split(17))
    ours, whole = gram.spectrum(), torch.linalg.svdvals(data.double())
    torch.testing.assert_close(ours.singular_values, whole, rtol=1e-6, atol=1e-8)
    assert (ours.lower <= whole).all()
    assert (whole <= ours.upper).all()
    assert ours.rank_curve().tolist() == rank_curve(data).tolist()
    low, high = gram.rank_interval(1e-3)
    assert low == high == rank_curve(data, (1e-3,))


def test_the_error_bound_covers_the_true_error_and_is_small() -> None:
    data = rows(5000, 30, dtype=torch.float64)
    gram = gram_of(*data.split(100))
    exact = torch.tensor(
        [[math.fsum((data[:, i] * data[:, j]).tolist()) for j in range(30)] for i in range(30)],
        dtype=torch.float64,
    )
    error = torch.linalg.matrix_norm(gram.matrix - exact, ord=2)
    assert 0 < error <= gram.error
    assert gram.error < 1e-12 * gram.matrix.trace()


def test_centred_logits_stream() -> None:
    logits = rows(400, 6, dtype=torch.float64) + 1e3
    gram = gram_of(*(centre(batch) for batch in logits.split(33)))
    assert gram.spectrum().rank(1e-6) == centred_rank(logits, 1e-6) == 5


def test_float32_rows_beyond_float32_squares() -> None:
    data = 1e30 * rows(50, 4)
    assert gram_of(data).spectrum().rank(1e-3).item() == int(spectrum(data).rank(1e-3))


def _share(rank: int, count: int, folder: Path) -> None:
    gram = gram_of(*rows(301, 12).tensor_split(count)[rank].split(40))
    gram.all_reduce()
    centred = gram.spectrum("sample-centred").singular_values
    torch.save([gram.matrix, gram.error, gram.rows, centred], folder / f"{rank}.pt")


def test_two_gloo_processes_equal_one(tmp_path: Path) -> None:
    run_together(_share, tmp_path, tmp_path)
    one = gram_of(rows(301, 12))
    shares = [gram_of(*share.split(40)) for share in rows(301, 12).tensor_split(2)]
    merged_error = shares[0].merge(shares[1]).error
    for rank in range(2):
        matrix, error, count, centred = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert count == 301
        torch.testing.assert_close(centred, one.spectrum("sample-centred").singular_values)
        torch.testing.assert_close(matrix, one.matrix, rtol=1e-12, atol=1e-12)
        assert torch.linalg.matrix_norm(matrix - one.matrix, ord=2) <= error + one.error
        assert merged_error <= error <= 2 * merged_error


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("batch", "match"),
    [
        (torch.zeros(3, 4), r"must be \(rows, 5\)"),
        (torch.zeros(5), "at least 2 dimension"),
        (torch.zeros(0, 5), "empty"),
        (torch.tensor([[1.0, 2.0, 3.0, 4.0, math.nan]]), "NaN or infinite"),
        (torch.ones(2, 5).long(), "dtype torch.int64"),
        (torch.full((1, 5), 1e200, dtype=torch.float64), "divide it"),
    ],
)
def test_a_bad_batch_is_refused_and_changes_nothing(batch: torch.Tensor, match: str) -> None:
    gram = gram_of(rows(9, 5))
    before = gram.matrix
    with pytest.raises(ValueError, match=match):
        gram.update(batch)
    assert gram.rows == 9
    assert torch.equal(gram.matrix, before)


@pytest.mark.usefixtures("unchecked")
def test_bad_states() -> None:
    with pytest.raises(ValueError, match="features is 0"):
        Gram(0)
    with pytest.raises(ValueError, match="no rows"):
        Gram(3).spectrum()
    with pytest.raises(ValueError, match="4 features"):
        Gram(3).merge(Gram(4))


def test_gpu_state_equals_cpu_state(device: torch.device) -> None:
    gram = Gram(20, device=device)
    gram.update(rows(500, 20).to(device))
    torch.testing.assert_close(gram.matrix.cpu(), gram_of(rows(500, 20)).matrix)
