"""`python -m simulations.temperature_schedule`: constants are the UFM's; the start decides."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rankdeficit.experiments.runs import read_json, read_rows
from simulations import temperature_schedule, ufm
from simulations.temperature_schedule import Settings

SMALL = Settings(
    temperature=(20.0,), seeds=2, classes=6, samples_per_class=2, width=8, depth=3, steps=60,
    measure_every=20, checkpoint_every=20, device="cpu",
)  # fmt: skip


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("summary.json", "metrics.jsonl")]


def test_the_run_folder_and_its_figure(tmp_path: Path) -> None:
    folder = temperature_schedule.TemperatureSchedule().run(replace(SMALL, out=tmp_path / "run"))
    rows, summary = read_rows(folder), read_json(folder / "summary.json")
    assert {row["step"] for row in rows} == {0, 1, 2, 4, 8, 16, 20, 40, 60}
    assert len(summary["runs"]) == 7 * 2
    ends = {run["schedule"]: run["temperature"] for run in summary["runs"]}
    expected = {
        "cold": 1, "hot": 20, "hot 30%": 1, "up": 20, "down": 1, "cyclic": 20, "cosine": 1,
    }  # fmt: skip
    assert ends == pytest.approx(expected)
    assert {*temperature_schedule.TemperatureSchedule().figures(rows, summary)} == {"schedules"}


def test_constant_schedules_are_the_ufm_at_that_temperature(tmp_path: Path) -> None:
    folder = temperature_schedule.TemperatureSchedule().run(
        replace(SMALL, schedule=("cold", "hot"), hot_share=(1.0,), out=tmp_path / "schedule")
    )
    same = ufm.Settings(
        temperature=(20.0,), depth=(3,), seeds=2, classes=6, samples_per_class=2, width=8, steps=60,
        measure_every=20, device="cpu",
    )  # fmt: skip
    other = ufm.Ufm().run(replace(same, out=tmp_path / "ufm"))
    ours, theirs = (read_json(path / "summary.json")["runs"] for path in (folder, other))
    theirs = {(run["temperature"], run["seed"]): run for run in theirs}
    for run in ours:
        twin = theirs[run["temperature"], run["seed"]]
        assert run["loss"] == pytest.approx(twin["loss"], rel=1e-4)
        assert run["rank_curve"] == twin["rank_curve"]


def test_the_early_temperature_decides(tmp_path: Path) -> None:
    """Annealing down keeps the low rank of the hot start."""
    settings = Settings(
        schedule=("cold", "hot", "down"), seeds=2, classes=30, samples_per_class=3, width=40,
        steps=250, measure_every=250, device="cpu", out=tmp_path / "run",
    )  # fmt: skip
    runs = read_json(temperature_schedule.TemperatureSchedule().run(settings) / "summary.json")[
        "runs"
    ]
    ranks = {
        name: [run["rank"] for run in runs if run["schedule"] == name]
        for name in ("cold", "hot", "down")
    }
    assert all(run["outcome"] == "interpolated" for run in runs)
    assert max(ranks["hot"]) < min(ranks["cold"])
    middle = (min(ranks["cold"]) + max(ranks["hot"])) / 2
    assert max(ranks["down"]) < middle


@pytest.mark.parametrize(("cold", "said"), [((9, 7, 5), ["50%"]), ((9, 3, 3), [])])
def test_schedules_are_placed_between_the_medians_of_the_constants(
    cold: tuple[int, ...], said: list[str]
) -> None:
    ranks = {"cold": cold, "hot": (3, 3, 3), "up": (5, 5, 5)}
    runs = [
        {"hottest": 9.0, "schedule": name, "centred_rank": rank, "rank": rank, "outcome": "interpolated"}
        for name, own in ranks.items() for rank in own
    ]  # fmt: skip
    sentences = temperature_schedule.schedule_sentences(runs)
    assert [word for text in sentences for word in text.split() if "%" in word] == said


@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_one_line_and_leave_nothing(assert_refused: Callable[..., None]) -> None:
    assert_refused(temperature_schedule, ["--temperature", "1"], ["exceed 1"])
    for settings, word in (
        (replace(SMALL, ramp=0.0), "ramp"),
        (replace(SMALL, steps=0), "steps"),
        (replace(SMALL, schedule=()), "schedule"),
        (replace(SMALL, hot_share=(1.5,)), "hot_share"),
    ):
        with pytest.raises(ValueError, match=word):
            temperature_schedule.TemperatureSchedule().build(settings)
