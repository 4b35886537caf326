"""Layers whose matrices have no room: fewer rows, or a note."""

from typing import Any

import pytest
import torch
from torch import nn

import rankdeficit as rd
from rankdeficit.diagnostics.budget import Budget
from rankdeficit.diagnostics.measures.collapse import neural_collapse
from rankdeficit.diagnostics.measures.layer_ranks import draw
from rankdeficit.diagnostics.states.alignment import InputDirections
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics
from rankdeficit.diagnostics.states.row_sample import RowSample
from tests.rankdeficit.diagnostics.diagnose.problems import batches, blobs

WIDTH, SAMPLES = 96, 160
ROOM = 8 * 40**2
"""Bytes: the ten features of the first layer have room, the 96 after it do not."""


def wide_problem() -> tuple[nn.Module, Any, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4)
    )
    centres = torch.randn(4, 5)
    return model, batches(*blobs(SAMPLES, centres)), batches(*blobs(60, centres, seed=1))


def test_a_layer_without_room_is_left_out_with_its_reason_and_the_others_stay() -> None:
    model, train, test = wide_problem()
    told: list[Budget] = []
    options: dict[str, Any] = {"probes": False, "gradients": False}
    narrow = rd.diagnose(
        model, train, test, {"other": (None, test)}, matrix_memory=ROOM, on_start=told.append, **options
    )  # fmt: skip
    whole = rd.diagnose(model, train, test, {"other": (None, test)}, **options)
    assert narrow["layers.0.train"] == whole["layers.0.train"]
    assert narrow["layers.2.train"] is None
    assert narrow["penultimate"] == {}
    for layer in ("2", "classifier reads"):
        assert [own for own in narrow["notes"] if layer in own and "matrix_memory" in own]
    assert narrow["neural_collapse.nc1"] == pytest.approx(whole["neural_collapse.nc1"], rel=1e-10)
    assert "neco-resnet" in whole["detection.other"]
    assert "neco-resnet" not in narrow["detection.other"]
    assert narrow["detection.other.msp"] == whole["detection.other.msp"]
    assert 0 < narrow["layers.4.alignment_rows"] < SAMPLES == whole["layers.4.alignment_rows"]
    assert draw(narrow.record) is not None
    assert told[0].beyond == 2 + 3  # layer 2 and the penultimate features, train and test; classes
    assert told[0].largest == 10


def test_the_rows_kept_do_not_depend_on_their_order() -> None:
    rows, keys = torch.randn(300, 7), torch.randperm(300)
    samples = [RowSample(7, 40) for _ in range(2)]
    for sample, order in zip(samples, (torch.arange(300), torch.randperm(300)), strict=True):
        for part in order.split(13):
            sample.update(rows[part], keys[part])
    found = []
    for sample in samples:
        kept, own = sample.kept()
        assert len(kept) == 40
        assert sample.seen == 300
        found.append(kept[own.argsort()])
    assert torch.equal(*found)
    assert torch.equal(found[0], rows[keys.argsort()[:40]])


def test_rows_of_the_samples_with_the_smallest_keys_are_kept_together() -> None:
    rows, keys = torch.arange(90.0)[:, None], torch.randperm(30)
    sample = RowSample(1, 10)
    for own, part in zip(rows.split(12), keys.split(4), strict=True):
        sample.update(own, part)
    kept, found = sample.kept()
    assert found.tolist() == [0, 1, 2]
    places = 3 * keys.argsort()[:3, None] + torch.arange(3)
    assert torch.equal(kept[:, 0], places.flatten().float())


def test_alignment_of_rows_that_fit_is_that_of_the_matrices() -> None:
    rows, keys = torch.randn(30, 64), torch.arange(30)
    weight = torch.randn(9, 64)
    found = []
    for memory in (None, 8 * 4 * 62**2):
        state = InputDirections(64, groups=4, memory=memory)
        state.update(rows, keys)
        found.append(state.alignment(weight))
    assert found[0] == pytest.approx(found[1], rel=1e-10)


def test_collapse_without_a_scatter_is_the_same_and_asks_for_samples() -> None:
    features, labels = torch.randn(60, 9).double(), torch.arange(60) % 3
    with_it, without = ClassStatistics(9, 3), ClassStatistics(9, 3, memory=8)
    for state in (with_it, without):
        for h, y in zip(features.split(25), labels.split(25), strict=True):
            state.update(h, y)
    exact = neural_collapse(with_it)
    found = neural_collapse(without, samples=(features, labels))
    assert found[:-1] == pytest.approx(exact[:-1], rel=1e-12)
    with pytest.raises(ValueError, match="samples"):
        neural_collapse(without)
    with pytest.raises(ValueError, match="memory"):
        without.merge(with_it).scatter.trace()
