"""Rows kept in memory or in files."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rankdeficit.diagnostics.reading.store import RowStore


def rows(count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), min_size=1, max_size=12),
    st.sampled_from([0, 1, 100, 400, 10**6]),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_rows_come_back_in_the_order_of_their_arrival(
    arrivals: list[tuple[str, int]], memory: int, reads: list[bool]
) -> None:
    widths = {"a": 1, "b": 4, "c": 7}
    expected: dict[str, list[Tensor]] = {}
    with RowStore(memory) as store:
        for number, ((name, count), read) in enumerate(zip(arrivals, reads, strict=False)):
            part = rows(count, widths[name], number)
            store.append(name, part)
            expected.setdefault(name, []).append(part)
            if read:  # between arrivals too
                assert torch.equal(store.read(name), torch.cat(expected[name]))
        for name, parts in expected.items():
            found = store.read(name)
            assert torch.equal(found, torch.cat(parts))
            assert torch.equal(store.read(name), found)


@pytest.mark.parametrize("memory", [0, 10**6])
@pytest.mark.parametrize(
    ("given_as", "kept_as"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_precision_is_kept_and_half_precision_becomes_float32(
    memory: int, given_as: torch.dtype, kept_as: torch.dtype
) -> None:
    part = (torch.arange(12).reshape(4, 3) / 7).to(given_as)
    with RowStore(memory) as store:
        store.append("a", part)
        found = store.read("a")
        assert found.dtype == kept_as
        assert torch.equal(found, part.to(kept_as))


def test_later_changes_of_what_was_given_do_not_matter() -> None:
    part = rows(4, 3)
    before = part.clone()
    with RowStore() as store:
        store.append("a", part)
        part.zero_()
        assert torch.equal(store.read("a"), before)


def test_changing_what_was_read_leaves_the_files_as_they_were() -> None:
    with RowStore(0) as store:
        store.append("a", rows(4, 3))
        store.read("a").zero_()
        assert torch.equal(store.read("a"), rows(4, 3))


def test_rows_may_be_transposed_views_that_require_gradients() -> None:
    part = rows(3, 4).requires_grad_().mT
    for memory in (0, 10**6):
        with RowStore(memory) as store:
            store.append("a", part)
            assert torch.equal(store.read("a"), part.detach())


@pytest.mark.parametrize("memory", [0, 10**6])
@pytest.mark.parametrize("wrong", [rows(2, 4), rows(2, 3).double()])
def test_rows_that_do_not_fit_those_before_are_an_error(memory: int, wrong: Tensor) -> None:
    with RowStore(memory) as store:
        store.append("layer 1", rows(2, 3))
        with pytest.raises(ValueError, match=r"layer 1 .*rows.* 3"):
            store.append("layer 1", wrong)
        assert torch.equal(store.read("layer 1"), rows(2, 3))


def test_files_are_made_only_beyond_the_limit_and_memory_stays_below_it(tmp_path: Path) -> None:
    limit = 10 * 8 * 4  # ten rows of eight float32 values
    with RowStore(limit, tmp_path) as store:
        store.append("a", rows(6, 8))
        store.append("b", rows(4, 8))
        assert list(tmp_path.iterdir()) == []
        for number in range(20):
            store.append("ab"[number % 2], rows(3, 8, number))
            held = sum(part.numel() * 4 for parts in store._parts.values() for part in parts)
            assert held <= limit
        assert held == 9 * 8 * 4  # files are written once in a while, not at every arrival
        (folder,) = tmp_path.iterdir()
        written = sum(file.stat().st_size for file in folder.iterdir())
        assert written + held == 70 * 8 * 4
        found = store.read("a")
        assert torch.equal(found[:6], rows(6, 8))
        assert len(found) == 36
        assert {p.numel() for parts in store._parts.values() for p in parts} == set()
    assert list(tmp_path.iterdir()) == []


def test_files_go_after_an_error_too(tmp_path: Path) -> None:
    def fail(store: RowStore) -> None:
        with store:
            store.append("a", rows(3, 2))
            store.read("a")
            assert len(list(tmp_path.iterdir())) == 1
            raise KeyError("consumer")

    with pytest.raises(KeyError, match="consumer"):
        fail(RowStore(0, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_names_need_not_be_names_of_files(tmp_path: Path) -> None:
    names = ["train/layer/../x", "..", "a b", "a/b", "", "ä" * 300]
    with RowStore(0, tmp_path) as store:
        for number, name in enumerate(names):
            store.append(name, rows(2, 3, number))
        for number, name in enumerate(names):
            assert torch.equal(store.read(name), rows(2, 3, number))
