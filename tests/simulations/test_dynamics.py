"""`python -m simulations.dynamics`: escapes against the closed form, its folder, resume and errors."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rankdeficit.experiments import runs
from rankdeficit.toys.mode_dynamics import escape_time, grow
from simulations import dynamics
from simulations.dynamics import Settings
from simulations.dynamics import report as reports

Row = dict[str, Any]

SMALL = Settings(
    temperature=(1.0, 30.0), depth=(1, 2), seeds=2, classes=4, width=5, samples_per_class=2,
    step_size=0.1, measure_every=20, checkpoint_every=70, steps=400, device="cpu",
)  # fmt: skip


def summary_of(settings: Settings, out: Path) -> Row:
    return runs.read_json(dynamics.Dynamics().run(replace(settings, out=out)) / "summary.json")


def largest(rows: list[Row], field: str) -> float:
    return max(row[field] for row in rows)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dynamics.Dynamics().run(replace(SMALL, out=tmp_path_factory.mktemp("small") / "run"))


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Runs from balanced starts at L = 2, 3, 6 and T = 1 and 1e5, escape at 0.01 T sqrt(N)."""
    settings = Settings(
        temperature=(1.0, 1e5), depth=(1, 2, 5), start=("balanced",), seeds=2,
        measure_every=10**6, checkpoint_every=10**6, device="cpu",
    )  # fmt: skip
    return summary_of(settings, tmp_path_factory.mktemp("balanced") / "run")["runs"]


def test_escapes_are_within_one_per_cent_of_the_closed_form(balanced: list[Row]) -> None:
    keys = {(run["depth"] + 1, run["temperature"]) for run in balanced}
    assert keys == {(L, T) for L in (2, 3, 6) for T in (1.0, 1e5)}
    for run in balanced:
        assert run["escaped"]
        assert run["loss"] <= 0.8 * math.log(10)
        np.testing.assert_allclose(run["escape_time"], run["predicted_escape_time"], rtol=0.01)
        np.testing.assert_allclose(run["ratios"], run["predicted_ratios"], rtol=0.01)
        assert run["ratios"][0] == 1
        assert len(run["ratios"]) == 9
    assert largest(balanced, "escape_time_error") < 1e-3


def test_modes_leave_the_rank_at_their_temperatures(balanced: list[Row]) -> None:
    gamma = 1e-3
    for run in balanced:
        assert ("dropout_temperatures" in run) == (run["depth"] > 1)
        if run["depth"] > 1:
            T = np.array(run["dropout_temperatures"])
            assert (np.diff(T) < 0).all()
            inside = np.array(run["predicted_ratios"][1:]) > gamma
            assert (inside == (run["temperature"] < T)).all()


def test_ratios_know_no_temperature_at_two_factors_only(balanced: list[Row]) -> None:
    for depth in (1, 2, 5):
        for seed in (0, 1):
            own = [run for run in balanced if (run["depth"], run["seed"]) == (depth, seed)]
            cold, hot = sorted(own, key=lambda run: run["temperature"])
            if depth == 1:
                np.testing.assert_allclose(cold["ratios"], hot["ratios"], rtol=1e-3)
                assert cold["participation_ratio"] == pytest.approx(
                    hot["participation_ratio"], rel=1e-3
                )
            else:
                assert hot["ratios"][1] < 0.5 * cold["ratios"][1]
                assert hot["participation_ratio"] < cold["participation_ratio"]
                assert hot["rank"] <= cold["rank"]


def test_errors_shrink_with_the_escape_point(tmp_path: Path) -> None:
    errors = []
    for escape in (0.1, 0.01):
        settings = Settings(
            temperature=(1.0,), depth=(1, 3), start=("balanced",), seeds=1, classes=5, width=6,
            samples_per_class=3, escape=escape, measure_every=10**6, checkpoint_every=10**6,
            device="cpu",
        )  # fmt: skip
        found = summary_of(settings, tmp_path / str(escape))["runs"]
        errors.append((largest(found, "escape_time_error"), largest(found, "ratio_error")))
    far, near = errors
    assert near[0] < 0.3 * far[0]
    assert near[1] < 0.3 * far[1]


def test_random_starts_collapse_with_temperature_from_three_factors_on(tmp_path: Path) -> None:
    settings = Settings(
        temperature=(1.0, 1e3), depth=(1, 2, 3), start=("random",), measure_every=10**6,
        checkpoint_every=10**6, device="cpu",
    )  # fmt: skip
    found = summary_of(settings, tmp_path / "run")["runs"]
    ratios = {
        (depth, T): [
            run["participation_ratio"]
            for run in found
            if (run["depth"], run["temperature"]) == (depth, T)
        ]
        for depth in (1, 2, 3)
        for T in (1.0, 1e3)
    }
    np.testing.assert_allclose(ratios[1, 1.0], ratios[1, 1e3], rtol=0.15)
    assert min(ratios[1, 1e3]) > 2.5
    assert max(ratios[2, 1e3]) < 1.6 < 2 < min(ratios[2, 1.0])
    assert max(ratios[3, 1e3]) < 1.01 < min(ratios[3, 1.0])


def test_the_flow_follows_a_run_of_tiny_gradient_descent_steps() -> None:
    """Their error is proportional to the step: from two step sizes its limit at none is known."""
    settings = replace(SMALL, temperature=(2.0,), depth=(2,), seeds=1, step_size=0.02)
    flow = dynamics.Flow(settings, 2, "random")
    for _ in range(20):
        flow.step()

    def descended(count: int) -> torch.Tensor:
        twin = dynamics.Flow(settings, 2, "random").model
        for _ in range(count):
            twin.compute_gradient()
            twin.parameters -= flow.time.item() / count * twin.gradient
        return twin.parameters

    end = 2 * descended(2000) - descended(1000)
    started = dynamics.Flow(settings, 2, "random").model.parameters
    assert (flow.model.parameters - end).abs().max() < 1e-4 * (started - end).abs().max()


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_escape_times_are_exact_on_the_closed_form_for_long_steps(depth: int) -> None:
    flow = dynamics.Flow(SMALL, depth, "balanced")
    L = depth + 1
    end = escape_time(flow.first[:, 0], flow.escape_at, L, flow.rates)
    flow.time, dt = 0.7 * end, 0.303 * end
    before, after = (
        grow(flow.first, time[:, None], L, flow.rates[:, None])
        for time in (flow.time, flow.time + dt)
    )
    flow._note_escapes(before, after, dt)
    torch.testing.assert_close(flow.escape_times, end, rtol=1e-9, atol=0)


def test_the_run_folder(small: Path) -> None:
    assert {path.name for path in small.iterdir()} == {
        ".lock", "settings.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt",
        "environment.json", "summary.json", "summary.csv",
    }  # fmt: skip
    summary = runs.read_json(small / "summary.json")
    found = summary["runs"]
    keys = [(r["depth"], r["start"], r["temperature"], r["seed"]) for r in found]
    starts = ("balanced", "random")
    assert keys == [
        (d, k, T, s) for d in (1, 2) for k in starts for T in (1.0, 30.0) for s in (0, 1)
    ]
    rows = runs.read_rows(small)
    assert {row["step"] for row in rows} == {1, 2, 4, 8, 16, *range(0, 401, 20)}
    for row, run in zip([row for row in rows if row["step"] == 400], found, strict=True):
        assert row.items() <= run.items()
        values = np.array(row["singular_values"])
        assert row["participation_ratio"] == pytest.approx(
            (values**2).sum() ** 2 / (values**4).sum()
        )
        assert row["rank"] == (values > 1e-3 * values[0]).sum()
        assert row["logits_norm"] == pytest.approx(math.sqrt((values**2).sum() / 8))
    for row in (row for row in rows if row["start"] == "balanced"):
        if row["step"] == 0:
            first = row["singular_values"]
            assert first == pytest.approx(row["predicted_singular_values"], rel=1e-9)
            assert first[0] == pytest.approx(1e-4)
            assert first[-1] >= 5e-5
        if row["singular_values"][0] < 0.003 * row["temperature"]:
            assert row["singular_values"] == pytest.approx(
                row["predicted_singular_values"], rel=0.01
            )
    (sentence,) = [s for s in reports.report(summary)[1] if s.startswith("L = 3, balanced")]
    cold = [r["participation_ratio"] for r in found if r["depth"] == 2 and r["start"] == "balanced"]
    assert f" {min(cold[:2]):.2f}-{max(cold[:2]):.2f} " in sentence


def test_a_run_does_not_depend_on_what_flows_beside_it(small: Path, tmp_path: Path) -> None:
    many = runs.read_json(small / "summary.json")["runs"]
    alone = summary_of(
        replace(SMALL, temperature=(30.0,), depth=(2,), seeds=1, seed=1), tmp_path / "alone"
    )["runs"]
    for run in alone:
        key = ("start", "temperature", "depth", "seed")
        (twin,) = [other for other in many if all(other[k] == run[k] for k in key)]
        assert run["time"] == pytest.approx(twin["time"], rel=1e-9)
        assert run["singular_values"] == pytest.approx(twin["singular_values"], rel=1e-7)


def test_the_figures_show_the_runs_and_the_closed_form(small: Path) -> None:
    rows, summary = runs.read_rows(small), runs.read_json(small / "summary.json")
    figures = dynamics.Dynamics().figures(rows, summary)
    assert {*figures} == {"modes", "escape_times", "participation"}
    panel = figures["participation"].axes[0]
    (line,) = [line for line in panel.get_lines() if line.get_label() == "L = 3"]
    own = [r for r in summary["runs"] if (r["start"], r["depth"]) == ("balanced", 2)]
    hot = [r["participation_ratio"] for r in own if r["temperature"] == 30]
    assert line.get_ydata()[-1] == pytest.approx(sum(hot) / 2)
    assert len(figures["modes"].axes) == 4
    measured, theory = figures["modes"].axes[0].get_lines()[:2]
    assert measured.get_ydata()[0] == pytest.approx(1e-4)
    assert theory.get_label() == "closed form"


def test_the_closed_form_is_drawn_up_to_twice_the_escape_point(small: Path) -> None:
    summary = runs.read_json(small / "summary.json")
    point = summary["escape"] * math.sqrt(SMALL.samples_per_class)  # over the temperature
    rows = []
    for row in runs.read_rows(small):
        value = (1.9 if row["step"] % 40 else 2.1) * point * row["temperature"]
        rows.append(row | {"predicted_singular_values": [value] * 3})
    for axes, T in zip(reports.draw_modes(rows, summary).axes, (1, 1, 30, 30), strict=True):
        (line,) = [line for line in axes.get_lines() if line.get_label() == "closed form"]
        (value,) = set(line.get_ydata())
        assert value == pytest.approx(1.9 * point * T)


def test_runs_that_have_not_escaped_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = dynamics.Dynamics().run(replace(SMALL, steps=1, out=tmp_path / "run"))
    assert "16 runs" in capsys.readouterr().out
    balanced = [
        run for run in runs.read_json(folder / "summary.json")["runs"] if run["start"] == "balanced"
    ]
    for run in balanced:
        assert run["escape_time"] is None
        assert run["ratios"] is None
        assert not run["escaped"]
        assert "ratio_error" not in run
    figures = dynamics.Dynamics().figures(
        runs.read_rows(folder), runs.read_json(folder / "summary.json")
    )
    assert "modes" not in figures
    for figure in figures.values():
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("T", "modes"), [(1e50, (5e-5, 1e-4)), (1.0, (1e-40, 1e-39))], ids=["hot", "tiny"]
)
def test_the_most_extreme_starts_stay_finite(T: float, modes: tuple[float, float]) -> None:
    low, high = modes
    settings = replace(SMALL, temperature=(T,), smallest_mode=low, largest_mode=high)
    for start in ("balanced", "random"):
        flow = dynamics.Flow(settings, 2, start)
        while bool(flow.running.any()):
            flow.step()
        for run in flow.outcome():
            if start == "balanced":
                assert run["escape_time_error"] < 0.01
            if T > 1:
                assert run["participation_ratio"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", "0"], ["temperature is 0.0"]),
        (["--temperature", "inf"], ["temperature is inf"]),
        (["--temperature", "1e51"], ["temperature is 1e+51", "at most 1e+50"]),
        (["--temperature"], ["temperature is empty"]),
        (["--temperature", "0.001"], ["largest_mode", "1e-05"]),
        (["--depth"], ["depth is empty"]),
        (["--depth", "0"], ["depth is 0"]),
        (["--start"], ["start is empty"]),
        (["--start", "zero"], ["--start", "zero"]),
        (["--classes", "2"], ["classes is 2", "at least 3"]),
        (["--width", "1"], ["width is 1", "at least 2"]),
        (["--samples-per-class", "0"], ["samples_per_class is 0"]),
        (["--smallest-mode", "0"], ["smallest_mode is 0.0"]),
        (["--smallest-mode", "0.0002"], ["smallest_mode is 0.0002", "largest_mode"]),
        (["--largest-mode", "0.02"], ["largest_mode 0.02"]),
        (["--smallest-mode", "1e-60", "--largest-mode", "1e-59"], ["balanced start", "1e-50"]),
        (["--escape", "nan"], ["escape is nan"]),
        (["--escape", "-1"], ["escape is -1"]),
        (["--escape", "1"], ["escape is 1"]),
        (["--step-size", "0"], ["step_size is 0.0"]),
        (["--step-size", "0.2"], ["step_size is 0.2"]),
        (["--init-scale", "0"], ["init_scale is 0.0"]),
        (["--init-scale", "1e200"], ["random start", "init_scale"]),
        (["--steps", "0"], ["steps is 0"]),
        (["--measure-every", "0"], ["measure_every is 0"]),
        (["--checkpoint-every", "0"], ["checkpoint_every is 0"]),
        (["--seeds", "0"], ["seeds is 0"]),
        (["--gamma", "1"], ["gamma is 1.0"]),
        (["--device", "abacus"], ["device is 'abacus'"]),
    ],
    ids=lambda value: " ".join(value),
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_one_line_and_leave_nothing(
    flags: list[str], words: list[str], assert_refused: Callable[..., None]
) -> None:
    assert_refused(dynamics, flags, words)


@pytest.mark.cuda
def test_cuda_shows_the_same_escapes(cuda: torch.device, tmp_path: Path) -> None:
    on_gpu = summary_of(replace(SMALL, device=str(cuda)), tmp_path / "gpu")["runs"]
    on_cpu = summary_of(SMALL, tmp_path / "cpu")["runs"]
    for ours, theirs in zip(on_gpu, on_cpu, strict=True):
        assert ours["time"] == pytest.approx(theirs["time"], rel=1e-6)
        assert ours["singular_values"] == pytest.approx(theirs["singular_values"], rel=1e-5)
