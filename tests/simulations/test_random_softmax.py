"""`python -m simulations.random_softmax`: its folder, resume and errors, and the rank's rise and fall."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from rankdeficit import bounds, numerical_rank, scaled_logits
from rankdeficit.experiments import runs
from simulations import random_softmax
from simulations.random_softmax import Row, Settings, Unit

SMALL = Settings(
    n=(8, 12), logits_rank=(1, 2), seeds=3, scales=5, least_scale=1e-3, largest_scale=1e3,
    device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Row:
    """Summary at n = 100, seven seeds, two scales per decade."""
    settings = Settings(scales=17, device="cpu", out=tmp_path_factory.mktemp("runs") / "hundred")
    return runs.read_json(random_softmax.RandomSoftmax().run(settings) / "summary.json")


def rank_at(curve: Row, scale: float) -> float:
    (point,) = [p for p in curve["points"] if p["scale"] == pytest.approx(scale, rel=0.02)]
    return point["rank"]


def test_the_rank_rises_to_a_peak_and_falls_again(hundred: Row) -> None:
    # Over seeds, medians of seven range this far.
    for curve, (scale, low, high), (least, most) in zip(
        hundred["curves"],
        [(100, 12, 13), (31.6, 35, 40), (10, 63, 70), (3.16, 81, 84), (3.16, 91, 94)],
        [(2, 2), (9, 12), (17, 24), (25, 32), (32, 39)],
        strict=True,
    ):
        assert curve["points"][0]["rank"] == 1
        assert low <= rank_at(curve, scale) <= high
        assert low <= curve["peak_rank"] <= high
        assert least <= curve["large_scale_rank"] <= most
        assert curve["points"][-1]["rank"] < curve["peak_rank"]
        if curve["logits_rank"] > 1:
            assert least <= curve["points"][-1]["rank"] <= most


def test_theory_meets_the_ranks_at_small_scales(hundred: Row) -> None:
    for curve in hundred["curves"]:
        k = curve["logits_rank"]
        for point in curve["points"]:
            if point["scale"] < 0.02:
                assert point["small_scale_prediction"] == point["rank"]
            if 0.01 <= point["scale"] <= 0.04:
                assert point["rank"] == point["large_n_prediction"] == k + 1
            if k <= 2 and point["scale"] <= 1:
                assert point["rank"] == pytest.approx(point["large_n_prediction"], abs=2)


def test_the_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = random_softmax.RandomSoftmax().run(replace(SMALL, out=tmp_path / "run"))
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "settings.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt",
        "environment.json", "summary.json", "summary.csv",
    }  # fmt: skip
    summary, rows = runs.read_json(folder / "summary.json"), runs.read_rows(folder)
    scales = np.geomspace(1e-3, 1e3, 5).tolist()
    assert [(r["n"], r["logits_rank"], r["seed"], r["scale"]) for r in rows] == [
        (n, k, seed, s) for n in (8, 12) for k in (1, 2) for seed in (0, 1, 2) for s in scales
    ]
    assert [(c["n"], c["logits_rank"]) for c in summary["curves"]] == [
        (8, 1), (8, 2), (12, 1), (12, 2)
    ]  # fmt: skip
    for curve in summary["curves"]:
        own = [r for r in rows if all(r[k] == curve[k] for k in ("n", "logits_rank"))]
        ranks = [[r["rank"] for r in own if r["scale"] == s] for s in scales]
        points = curve["points"]
        assert [p["scale"] for p in points] == scales
        assert [p["rank"] for p in points] == [median(r) for r in ranks]
        assert [p["rank_range"] for p in points] == [[min(r), max(r)] for r in ranks]
        assert curve["peak_rank"] == max(median(r) for r in ranks)
        for point in points:
            assert point["rank_curve"]["0.001"] == point["rank"]
            assert (point["large_n_prediction"] is None) == (point["scale"] > curve["n"] / 10)
    output = capsys.readouterr().out
    assert str(folder) in output
    assert "distinct argmaxes" in output


def test_rows_are_what_the_library_says_of_each_softmax(tmp_path: Path) -> None:
    rows = runs.read_rows(random_softmax.RandomSoftmax().run(replace(SMALL, out=tmp_path / "run")))
    for row in rows[::7]:
        (logits,) = scaled_logits.random_logits(row["n"], row["logits_rank"], [row["seed"]])
        S = torch.softmax(row["scale"] * logits, dim=-1)
        values = np.linalg.svd(S.numpy(), compute_uv=False)
        assert row["rank"] == (values > 1e-3 * values[0]).sum()
        low, high = row["rank_interval"]
        assert low <= row["rank"] <= high
        proven = scaled_logits.rank_bounds(logits, 1 / row["scale"], 1e-3)
        assert row["proven_rank"] == [int(end) for end in proven]
        assert proven.lower <= row["rank"] <= proven.upper
        for gamma, rank in row["rank_curve"].items():
            assert rank == (values > float(gamma) * values[0]).sum()
        assert row["gap"] == pytest.approx(values[0] - values[-1], abs=1e-6)
        assert row["gap_bound"] == pytest.approx(bounds.singular_gap(S.mT).upper.item())
        assert row["gap"] <= row["gap_bound"]
        norm = row["scale"] * np.linalg.norm(logits) / row["n"] ** 0.5
        assert row["logits_norm"] == pytest.approx(norm)
        assert row["large_scale_prediction"] == len(set(logits.argmax(dim=-1).tolist()))


def test_thresholds_below_the_gram_matrix_s_rounding_are_resolved() -> None:
    (logits,) = scaled_logits.random_logits(40, 2, [0])
    rows = random_softmax.measure(
        Unit(40, 2, 0), [0.1, 1.0], [1e-9, 1e-3], 1e-9, torch.device("cpu")
    )
    for row, scale in zip(rows, (0.1, 1.0), strict=True):
        expected = numerical_rank(torch.softmax(scale * logits, dim=-1), 1e-9)
        assert row["rank"] == row["rank_curve"]["1e-09"] == expected
        assert row["rank_interval"] == [expected, expected]


def test_how_many_matrices_go_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> list[Row]:
        scales = [0.01, 0.1, 1.0, 10.0, 100.0]
        device = torch.device("cpu")
        return list(random_softmax.measure(Unit(9, 2, 0), scales, [1e-3], 1e-3, device))

    together = rows()
    monkeypatch.setattr(random_softmax, "ENTRIES_AT_ONCE", 170)  # two at a time
    for ours, theirs in zip(rows(), together, strict=True):
        for name in ("gap", "gap_bound"):
            assert ours.pop(name) == pytest.approx(theirs.pop(name))
        assert ours == theirs


def test_a_matrix_does_not_depend_on_what_is_looked_at_beside_it(tmp_path: Path) -> None:
    # Repeated and unsorted sizes and ranks are no others.
    many = random_softmax.RandomSoftmax().run(replace(SMALL, n=(12, 8, 12), out=tmp_path / "many"))
    alone = random_softmax.RandomSoftmax().run(
        replace(SMALL, n=(12,), logits_rank=(2,), seed=1, seeds=1, out=tmp_path / "alone")
    )
    others = runs.read_rows(many)
    assert len(others) == 60
    assert runs.read_rows(alone) == [
        r for r in others if (r["n"], r["logits_rank"], r["seed"]) == (12, 2, 1)
    ]


def test_the_figures_show_ranks_and_theory(hundred: Row) -> None:
    (axes,) = random_softmax.draw_ranks(hundred).axes
    lines = [line for line in axes.get_lines() if len(line.get_xdata())]
    measured_lines, early_lines, late_lines = (
        [line for line in lines if line.get_linestyle() == style] for style in ("-", "--", ":")
    )
    for curve, measured, early, late in zip(
        hundred["curves"], measured_lines, early_lines, late_lines, strict=True
    ):
        assert [*measured.get_ydata()] == [p["rank"] for p in curve["points"]]
        assert {*late.get_ydata()} == {curve["large_scale_rank"]}
        assert min(late.get_xdata()) > curve["peak_scale"]
        assert early.get_ydata()[0] == 1
        assert max(early.get_xdata()) <= 10  # n / 10
        assert [*early.get_xdata()] == sorted(early.get_xdata())
    panels = random_softmax.draw_gammas(hundred).axes[:5]
    for axes, curve in zip(panels, hundred["curves"], strict=True):
        by_label = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
        assert [*by_label["γ = 0.1"]] == [p["rank_curve"]["0.1"] for p in curve["points"]]
        assert {*by_label["rank of M"]} == {curve["logits_rank"]}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--n"], ["n is empty"]),
        (["--n", "1"], ["n is 1"]),
        (["--logits-rank", "0"], ["logits_rank is 0"]),
        (["--logits-rank"], ["logits_rank is empty"]),
        (["--n", "4", "10"], ["logits_rank is 5", "n, 4"]),
        (["--scales", "1"], ["scales is 1"]),
        (["--least-scale", "0"], ["least_scale is 0.0"]),
        (["--least-scale", "nan"], ["least_scale is nan"]),
        (["--least-scale", "5", "--largest-scale", "5"], ["largest_scale 5.0"]),
        (["--largest-scale", "inf"], ["largest_scale inf"]),
        (["--seeds", "0"], ["seeds is 0"]),
        (["--seed", "-1"], ["seed is -1"]),
        (["--gamma", "1"], ["gamma is 1.0"]),
        (["--device", "abacus"], ["device is 'abacus'"]),
        (["--n", "many"], ["--n"]),
    ],
    ids=lambda value: " ".join(value),
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_one_line_and_leave_nothing(
    flags: list[str], words: list[str], assert_refused: Callable[..., None]
) -> None:
    assert_refused(random_softmax, flags, words)


def test_a_run_of_another_program_is_not_resumed(tmp_path: Path) -> None:
    folder = runs.RunFolder.create(tmp_path / "other", "simulations.ufm", {})
    folder.close()
    with pytest.raises(ValueError, match=r"not a run.*simulations\.random"):
        random_softmax.RandomSoftmax().run(Settings(resume=tmp_path / "other"))
