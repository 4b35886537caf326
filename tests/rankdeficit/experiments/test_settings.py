"""Settings that experiments share."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rankdeficit.experiments.settings import (
    CommonSettings,
    DepthSettings,
    NetworkSettings,
    TemperatureSettings,
    TrainingSettings,
    check_values,
)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"depth": (1,), "width": ()}, "width is empty"),
        ({"temperature": ()}, "temperature is empty"),
        ({"temperature": (1.0, 0.0)}, r"temperature.* 0\.0"),
        ({"temperature": (1.0, float("nan"))}, "temperature is nan"),
        ({"temperature": (-2.0,)}, r"temperature is -2\.0"),
        ({"temperature": (float("inf"),)}, "temperature is inf"),
    ],
)
def test_bad_lists(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_values(**values)


def test_lists_other_than_temperatures_may_hold_anything() -> None:
    values = {"depth": (0, -1), "start": ["any"]}
    check_values(temperature=(1e-9, 1.0), **values)
    with pytest.raises(ValueError, match=r"temperature.* 0"):
        check_values(temperature=(1e-9, 0.0), **values)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32 - 3}, "seed is 4294967293"),
        ({"gamma": 0.0}, "gamma is 0"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"device": "abacus"}, "device is 'abacus'"),
    ],
)
def test_bad_common_settings(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(CommonSettings(), **change).check_common()


def test_the_place_of_a_run_is_checked_before_its_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, word in ((tmp_path, "not empty"), (tmp_path / "file", "/file.*folder")):
        with pytest.raises(ValueError, match=word):
            CommonSettings(out=out).check_common()
    CommonSettings(out=tmp_path / "new" / "run").check_common()
    assert not (tmp_path / "new").exists()


def test_seeds_follow_the_first() -> None:
    settings = CommonSettings(seed=5, seeds=3)
    settings.check_common()
    assert [*settings.seed_range] == [5, 6, 7]


@dataclass(frozen=True)
class Mixed(TrainingSettings, NetworkSettings, DepthSettings):
    """Several at once."""


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"measure_every": -1}, "measure_every is -1"),
        ({"temperature": ()}, "temperature is empty"),
        ({"temperature": (0.0,)}, "temperature.* 0"),
        ({"depth": ()}, "depth is empty"),
    ],
)
def test_combined_settings_check_all_that_they_combine(change: dict[str, Any], match: str) -> None:
    Mixed().check_common()
    with pytest.raises(ValueError, match=match):
        replace(Mixed(), **change).check_common()


def test_the_baseline_is_one_of_the_temperatures_unless_it_is_switched_off() -> None:
    assert NetworkSettings(temperature=(50.0, 10.0)).temperatures == (1, 10, 50)
    assert NetworkSettings(temperature=(50.0, 1.0, 50.0)).temperatures == (1, 50)
    assert NetworkSettings(temperature=(50.0,), baseline=False).temperatures == (50,)
    assert isinstance(NetworkSettings(), TemperatureSettings)
