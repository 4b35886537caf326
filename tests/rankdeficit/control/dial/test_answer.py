"""The answer of the dial: interpolation, reach, notes and wrong use."""

import math
from typing import Any

import pytest
import torch

from rankdeficit.control.dial import (
    Answer,
    Pilot,
    Predictor,
    Target,
    dial,
    last_step,
    measured_steps,
    pilot_depth,
    point_of,
)
from rankdeficit.control.dial.answer import Try, answer
from rankdeficit.control.dial.predictor import Quantiles
from rankdeficit.control.dial.regression import Ridge
from rankdeficit.spectrum import centred_rank
from tests.rankdeficit.control.dial.pilots import pilot, world

LEFT, STUCK = 1.0, 3.7


@pytest.fixture(scope="module")
def unchanging() -> Predictor:
    """Predicts the rank at the end of the pilot, plus or minus one logit."""
    any_fit = Predictor.fit(Target("rank"), world(4, seed=0, noise=0.0), 0.5)
    flat = Ridge(any_fit.change.mean, any_fit.change.scale, False, 0.0, 0 * any_fit.change.mean)
    quantiles = {"left": Quantiles(-1.0, 1.0), "not left": Quantiles(-2.0, 2.0)}
    return Predictor(Target("rank"), flat, flat, quantiles)


def asked(predictor: Predictor, rank: int, *pilots: Pilot | None) -> Answer:
    """The answer to pilots at T = 1, 10, 100, ..."""
    tries = [
        Try(10.0**i, own, None if own is None else predictor(own)) for i, own in enumerate(pilots)
    ]
    return answer(Target("rank"), rank, tries, predictor)


def at(rank: int, power: int, loss: float = LEFT) -> Pilot:
    return pilot(rank, loss, temperature=10.0**power)


def test_a_pilot_that_ends_at_the_target_is_taken(unchanging: Predictor) -> None:
    found = asked(unchanging, 20, at(30, 0), at(20, 1), at(10, 2))
    assert (found.temperature, found.predicted.value, found.reachable) == (
        10,
        pytest.approx(20),
        True,
    )
    assert found.head_scale == pytest.approx(0.1)
    assert found.initial_norm == pytest.approx(2 / 10)


def test_between_pilots_the_logit_is_linear_in_log_temperature(unchanging: Predictor) -> None:
    """In the middle of 30 and 10 of 40, which are symmetric, is 20."""
    found = asked(unchanging, 20, at(30, 0), at(10, 1))
    assert found.temperature == pytest.approx(math.sqrt(10), rel=2e-3)
    assert found.predicted.value == pytest.approx(20)
    ranks = [asked(unchanging, rank, at(30, 0), at(10, 1)).temperature for rank in range(30, 9, -1)]
    assert ranks == sorted(ranks)
    assert found.predicted.low < 20 < found.predicted.high


def test_what_no_pilot_reaches_is_said_and_the_nearest_given(unchanging: Predictor) -> None:
    found = asked(unchanging, 39, at(30, 0), at(10, 1))
    assert (found.temperature, found.reachable) == (1, False)
    assert any("out of reach" in note for note in found.notes)
    assert asked(unchanging, 3, at(30, 0), at(10, 1)).temperature == 10


def test_pilots_at_their_start_and_diverged_ones_are_noted(unchanging: Predictor) -> None:
    found = asked(unchanging, 20, None, at(30, 1), at(10, 2, STUCK))
    assert any("T = 1 diverged" in note for note in found.notes)
    assert any("T = 100 has not left" in note for note in found.notes)
    found = asked(unchanging, 30, at(30, 0), at(10, 1, STUCK))
    assert not any("left" in note for note in found.notes)
    found = asked(unchanging, 20, at(30, 0, STUCK), at(10, 1, STUCK))
    assert any("no pilot has left" in note for note in found.notes)
    wider = asked(unchanging, 30, at(30, 0, STUCK)).predicted
    assert wider.low < asked(unchanging, 30, at(30, 0)).predicted.low
    with pytest.raises(ValueError, match="diverged"):
        asked(unchanging, 20, None, None)


def test_the_dial_runs_each_pilot_once_in_order() -> None:
    seen = []

    def runner(temperature: float) -> Pilot:
        seen.append(temperature)
        return pilot(30 if temperature < 5 else 12, temperature=temperature)

    found = dial(runner, target_rank=20, temperatures=(10.0, 1.0))
    assert seen == [1, 10]
    assert 1 <= found.temperature <= 10
    assert [own.temperature for own in found.tries] == [1, 10]
    lines = str(found).splitlines()
    assert f"T = {found.temperature:.3g}" in lines[0]
    assert "equivalent" in lines[1]
    deep = dial(lambda T: pilot(temperature=T, depth=0.6), target_depth=0.6)
    assert deep.kind == "depth"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "one of"), ({"target_rank": 3, "target_depth": 0.5}, "one of"),
        ({"target_rank": 0}, "target_rank"), ({"target_rank": 41}, "40 at most"),
        ({"target_depth": 0.0}, "target_depth"), ({"target_depth": 1.1}, "target_depth"),
        ({"target_depth": math.nan}, "target_depth"),
        ({"target_rank": 3, "temperatures": (0.0,)}, "temperature"),
        ({"target_rank": 3, "temperatures": (-1.0, 1.0)}, "temperature"),
        ({"target_rank": 3, "temperatures": ()}, "temperatures"),
        ({"target_rank": 3, "temperatures": (2.0, 2.0)}, "once"),
        ({"target_rank": 3, "gamma": 0.3}, "gamma"),
        ({"target_depth": 0.5}, "pilot_depth"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word) as error:
        dial(lambda T: pilot(temperature=T), **options)
    assert "\n" not in str(error.value)


def test_points_are_those_of_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 3, generator=generator) @ torch.randn(3, 8, generator=generator)
    labels = logits.argmax(dim=1)
    labels[:25] = (labels[:25] + 1) % 8
    found = point_of(logits, labels, 4.0, 7)
    assert found.ranks == tuple(
        int(centred_rank(logits, g)) for g in (1e-4, 1e-3, 1e-2, 3e-2, 1e-1)
    )
    assert found.accuracy == 0.5
    assert found.norm == pytest.approx(float(logits.double().norm()) / 50**0.5 / 4, rel=1e-6)
    expected = torch.nn.functional.cross_entropy(logits.double() / 4, labels)
    assert found.loss == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("logits", "labels", "temperature", "word"),
    [
        (torch.zeros(1, 3), torch.zeros(1, dtype=torch.long), 1.0, "1 sample"),
        (torch.full((4, 3), math.nan), torch.zeros(4, dtype=torch.long), 1.0, "NaN"),
        (torch.zeros(4, 3), torch.zeros(4, dtype=torch.long), 0.0, "temperature"),
    ],
)
def test_points_of_bad_logits_are_refused(
    logits: torch.Tensor, labels: torch.Tensor, temperature: float, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        point_of(logits, labels, temperature, 0)


def test_depth_of_a_pilot_is_that_of_its_first_separable_layer() -> None:
    labels = torch.arange(4).repeat_interleave(15)
    noise = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    clear = torch.nn.functional.one_hot(labels, 4) * 9 + 0.1 * noise
    assert pilot_depth([noise, clear, clear, clear], labels) == 0.5
    assert pilot_depth([clear, noise, clear], labels) == pytest.approx(1 / 3)
    assert pilot_depth([clear[:2]], labels[:2]) is None


def test_steps_of_a_pilot() -> None:
    assert [last_step(400, 0.1), last_step(7, 0.1), last_step(10, 0.3), last_step(50, 1.0)] == [
        40, 1, 3, 50,
    ]  # fmt: skip
    assert measured_steps(40) == [0, 1, 4, 16, 40]
    assert measured_steps(1) == [0, 1]
