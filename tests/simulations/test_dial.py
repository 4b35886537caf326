"""`python -m simulations.dial`: toys alone and side by side, and coverage by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rankdeficit.control.dial import Example, Predictor, Target
from rankdeficit.control.dial.pilots import point_of
from rankdeficit.spectrum import centred_rank
from simulations.dial import Settings
from simulations.dial.fit import judged, pilot_of
from simulations.dial.toys import INSIDE, OUTSIDE, Kind, Toys, Training, draw, train
from tests.rankdeficit.control.dial.pilots import world

CPU = torch.device("cpu")
SMALL = Settings(seeds=2, judged=1, configurations=1, temperatures=2, trial=True)


def tiny(kind: Kind, seed: int, configurations: int, temperatures: int, steps: int = 12) -> Toys:
    """A small batch; each step sees all samples."""
    shape, runs = draw(kind, INSIDE, seed, configurations, temperatures)
    own = {
        "classes": 5,
        "width": 8,
        "inputs": 4,
        "depth": 2,
        "samples_per_class": 3,
        "steps": steps,
    }
    return Toys(replace(shape, **own, batch_share=1.0), runs)


@pytest.mark.parametrize("kind", ["ufm", "mlp"])
def test_a_run_is_the_same_alone_and_among_others(kind: Kind) -> None:
    toys = tiny(kind, 3, 2, 2)
    together = list(train(toys, CPU))
    (alone,) = train(Toys(toys.shape, toys.runs[:1]), CPU)
    assert together[0]["temperature"] == alone["temperature"]
    for one, other in zip(together[0]["points"], alone["points"], strict=True):
        assert one["ranks"] == other["ranks"]
        for name in ("norm", "loss", "accuracy"):
            assert one[name] == pytest.approx(other[name], rel=1e-3)


def test_points_are_those_of_the_library() -> None:
    toys = tiny("ufm", 0, 1, 3)
    training = Training(toys, CPU)
    logits, found = training.logits(), training.points(0)
    for i, run in enumerate(toys.runs):
        point = point_of(logits[i], training.labels[i], run.temperature, 0)
        assert found[i] is not None
        assert tuple(found[i]["ranks"]) == point.ranks  # type: ignore[index]
        for name in ("norm", "loss", "accuracy"):
            assert found[i][name] == pytest.approx(getattr(point, name))  # type: ignore[index]
    assert point.ranks[1] == int(centred_rank(logits[-1]))


def test_the_points_of_a_pilot_end_with_it() -> None:
    row = next(train(tiny("mlp", 1, 1, 1, steps=60), CPU))
    assert [point.step for point in pilot_of(row, 0.1).points] == [0, 1, 4, 6]
    assert pilot_of(row, 0.2).points[-1].step == 12
    assert row["points"][-1]["step"] == 60


def test_draws_differ_by_seed_kind_and_range_and_lie_within_them() -> None:
    drawn = [draw("ufm", ranges, seed, 2, 3) for seed in range(40) for ranges in (INSIDE, OUTSIDE)]
    assert len({toys.shape for toys in drawn}) == 80
    for toys, ranges in zip(drawn, (INSIDE, OUTSIDE) * 40, strict=True):
        assert ranges.classes[0] <= toys.shape.classes <= ranges.classes[1]
        assert ranges.depth[0] - 1 <= toys.shape.depth <= ranges.depth[1]
        assert all(
            ranges.temperature[0] <= run.temperature <= ranges.temperature[1] for run in toys.runs
        )
        assert len({run.lr for run in toys.runs}) == 2
    assert draw("ufm", INSIDE, 0, 2, 3) == draw("ufm", INSIDE, 0, 2, 3)


def test_a_diverged_run_has_no_row() -> None:
    toys = tiny("mlp", 0, 1, 2)
    wild = replace(toys.runs[0], scale=1e30, temperature=1.0)
    assert len(list(train(Toys(toys.shape, [wild, toys.runs[1]]), CPU))) == 1


def test_coverage_counts_each_batch_once() -> None:
    predictor = Predictor.fit(Target("rank"), world(6, seed=0, noise=0.2), 0.5)
    (own,) = world(1, seed=1, noise=0.0, each=1)
    hit, miss = own._replace(end=predictor(own.pilot).value), own._replace(end=0.0)
    assert not predictor.covers(miss)
    examples = [Example(hit.pilot, hit.end, "a")] * 3 + [Example(miss.pilot, miss.end, "b")]
    found = judged(predictor, examples)
    assert found["coverage"] == pytest.approx(0.5)
    assert (found["runs"], found["batches"]) == (4, 2)
    value, low, high = predictor(own.pilot)
    assert found["mean_width"] == pytest.approx((high - low) / 40)
    assert found["error"] == pytest.approx(value / 80)
    assert np.isfinite(found["error_without_change"])
