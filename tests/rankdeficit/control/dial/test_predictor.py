"""Regression and predictor against a world whose answer is known."""

import json
import math

import numpy as np
import pytest

from rankdeficit.control.dial import Pilot, Point, Predictor, Target, stored_predictor
from rankdeficit.control.dial.features import NAMES, features
from rankdeficit.control.dial.predictor import TARGETS, Quantiles
from rankdeficit.control.dial.regression import Ridge
from rankdeficit.control.dial.shares import from_logit, to_logit
from tests.rankdeficit.control.dial.pilots import pilot, world


def test_logits_of_counts_are_inverted_and_symmetric() -> None:
    counts = np.arange(0, 13.0)
    np.testing.assert_allclose(from_logit(to_logit(counts, 12.0), 12.0), counts, atol=1e-9)
    np.testing.assert_allclose(to_logit(counts, 12.0), -to_logit(12 - counts, 12.0))
    assert from_logit(math.inf, 12.0) == 12
    assert from_logit(-math.inf, 12.0) == 0


def test_a_regression_without_penalty_is_the_solution_of_least_squares() -> None:
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, size=(200, 2))
    y = 1 + 2 * x[:, 0] - 3 * x[:, 0] * x[:, 1] + 0.5 * x[:, 1] ** 2
    found = Ridge.fit(x, y, np.ones(200), penalty=1e-12, quadratic=True)
    new = random.uniform(-1, 1, size=(50, 2))
    expected = 1 + 2 * new[:, 0] - 3 * new[:, 0] * new[:, 1] + 0.5 * new[:, 1] ** 2
    np.testing.assert_allclose(found(new), expected, atol=1e-6)
    again = Ridge.of(json.loads(json.dumps(found.record())))
    np.testing.assert_allclose(again(new), expected, atol=1e-4)


def test_weights_are_repetitions_and_constant_numbers_take_no_part() -> None:
    random = np.random.default_rng(1)
    x, y = random.normal(size=(30, 3)), random.normal(size=30)
    x[:, 2] = 7
    times = random.integers(1, 4, size=30)
    one = Ridge.fit(x, y, times.astype(float), penalty=0.1, quadratic=False)
    x[:, 2] = -1e6
    two = Ridge.fit(x, y, times.astype(float), penalty=0.1, quadratic=False)
    np.testing.assert_allclose(one(x[:, :] + [0, 0, 1e3]), two(x))
    three = Ridge.fit(x, y, 5.0 * times, penalty=0.1, quadratic=False)
    np.testing.assert_allclose(two(x), three(x))


def test_a_median_ignores_outliers_that_a_mean_follows() -> None:
    x = np.linspace(-1, 1, 101)[:, None]
    y = 2 * x[:, 0]
    y[::7] += 40
    options = {"penalty": 1e-9, "quadratic": False}
    assert abs(Ridge.fit_median(x, y, np.ones(101), **options)(x) - 2 * x[:, 0]).max() < 0.5
    assert abs(Ridge.fit(x, y, np.ones(101), **options)(x) - 2 * x[:, 0]).max() > 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_fit_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Ridge.fit(np.array([[1.0], [bad]]), np.ones(2), np.ones(2), penalty=1.0, quadratic=False)
    with pytest.raises(ValueError, match="two"):
        Ridge.fit(np.ones((1, 1)), np.ones(1), np.ones(1), penalty=1.0, quadratic=False)


@pytest.fixture(scope="module")
def fitted() -> Predictor:
    return Predictor.fit(Target("rank"), world(50, seed=0, noise=0.3, each=2), 0.8)


def test_the_known_change_is_found_and_intervals_cover_new_groups(fitted: Predictor) -> None:
    new = world(80, seed=1, noise=0.3, each=1)
    noiseless = world(20, seed=2, noise=0.0, each=1)
    errors = [abs(fitted(own.pilot).value - own.end) for own in noiseless]
    assert np.median(errors) < 1.0
    coverage = np.mean([fitted.covers(own) for own in new])
    assert 0.75 < coverage < 0.95
    widths = [fitted(own.pilot).high - fitted(own.pilot).low for own in new]
    assert np.median(widths) < 14


def test_covering_is_what_the_told_interval_says(fitted: Predictor) -> None:
    own = world(1, seed=3, noise=0.0, each=1)[0]
    value, low, high = fitted(own.pilot)
    assert low == math.floor(low) <= value <= high == math.ceil(high)
    for end in (low, high, value):
        assert fitted.covers(own._replace(end=end))
    for end in (low - 1, high + 0.01):
        assert not fitted.covers(own._replace(end=end))


def test_a_record_gives_the_same_predictions(fitted: Predictor) -> None:
    again = Predictor.of(fitted.target, json.loads(json.dumps(fitted.record())))
    for own in world(5, seed=4, noise=0.1):
        np.testing.assert_allclose(again(own.pilot), fitted(own.pilot), atol=1e-3)


def test_factors_widen_and_narrow_intervals(fitted: Predictor) -> None:
    own = world(1, seed=5, noise=0.0, each=1)[0].pilot
    wide, narrow = fitted.widened(math.inf), fitted.widened(0.0)
    assert (wide(own).low, wide(own).high) == (0, 40)
    assert wide(own).value == fitted(own).value == narrow(own).value
    assert narrow(own).high - narrow(own).low <= 1
    assert fitted.widened(1.0)(own) == fitted(own)
    assert Quantiles.of(Quantiles(-math.inf, 2.0).record()) == (-math.inf, 2.0)


def test_groups_are_needed_for_a_fit() -> None:
    with pytest.raises(ValueError, match="two or more"):
        Predictor.fit(Target("rank"), world(1, seed=0, noise=0.1), 0.9)


def test_features_are_finite_at_the_extremes_and_have_names() -> None:
    for rank, loss in ((0, 0.0), (40, 1e6)):
        found = features(pilot(rank, loss, temperature=1e4), 1e-3)
        assert len(found) == len(NAMES)
        assert np.isfinite(found).all()


def test_depth_needs_a_pilot_with_a_depth() -> None:
    with pytest.raises(ValueError, match="pilot_depth"):
        Target("depth").features(pilot())
    one = pilot(depth=0.4)
    assert Target("depth").value(Target("depth").now(one), one) == pytest.approx(0.4)


@pytest.mark.parametrize("target", TARGETS, ids=lambda own: own.name)
def test_stored_predictors_make_sense(target: Target) -> None:
    """Intervals have the prediction within them, and are not those of ignorance."""
    for calibration in ("toys", "networks"):
        predictor = stored_predictor(target, calibration)
        for rank in (5, 20, 38):
            value, low, high = predictor(pilot(rank, depth=0.6))
            assert low <= value <= high
            if target.kind == "rank":
                assert 0 <= low <= high <= 40


@pytest.mark.parametrize("target", TARGETS, ids=lambda own: own.name)
def test_intervals_for_networks_are_no_narrower_than_those_of_toys(target: Target) -> None:
    toys, networks = (
        stored_predictor(target, own)(pilot(20, depth=0.6)) for own in ("toys", "networks")
    )
    assert networks.low <= toys.low <= toys.high <= networks.high


def test_the_predictor_knows_its_gammas_and_calibrations() -> None:
    with pytest.raises(ValueError, match="gamma"):
        Target("rank", 0.5)
    with pytest.raises(ValueError, match="calibration"):
        stored_predictor(Target("rank"), "dreams")


GOOD = Point(0, (3,) * 5, 1.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"temperature": 0.0}, "temperature"), ({"classes": 1}, "classes"), ({"width": 0}, "width"),
        ({"share": 0.0}, "share"), ({"share": 1.5}, "share"), ({"depth": 0.0}, "depth"),
        ({"points": (GOOD,)}, "points"), ({"points": (GOOD, GOOD)}, "points"), ({"points": ()}, "points"),
    ],
)  # fmt: skip
def test_impossible_pilots_are_refused(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        pilot(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["norm", "loss", "accuracy"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_points_of_diverged_trainings_are_refused(name: str, value: float) -> None:
    told = {"norm": 1.0, "loss": 1.0, "accuracy": 0.5, name: value}
    with pytest.raises(ValueError, match=f"{name} is .*None"):
        Point(3, (1,) * 5, **told)


def test_a_pilot_has_left_when_its_loss_is_below_that_of_guessing() -> None:
    assert pilot(loss=0.8 * math.log(41)).left
    assert not pilot(loss=0.95 * math.log(41)).left
    assert isinstance(pilot(), Pilot)
