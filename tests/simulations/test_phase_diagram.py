"""`python -m simulations.phase_diagram`: its folder, its resume, its errors, and the minima it finds."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from rankdeficit import constructions
from rankdeficit.experiments import runs
from rankdeficit.toys.optima import best_scale, two_factor_optimum
from rankdeficit.toys.ufm import UfmShape, initial_parameters
from simulations import phase_diagram
from simulations.phase_diagram import Row, Settings, StartsOfOneDepth
from simulations.phase_diagram import report as reports

SMALL = Settings(
    temperature=(1.0, 30.0), depth=(1, 2), init_scale=(0.3, 0.7), seeds=3, classes=4, width=5,
    steps=60, measure_every=20, checkpoint_every=25, device="cpu",
)  # fmt: skip
TEN_FREE = Settings(
    temperature=(1.0,), limit_ranks=False, init_scale=(0.7,), steps=2500, device="cpu"
)
KEYS = ("depth", "temperature", "weight_decay", "init_scale", "seed")


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave most points of the predicted curves out, for speed."""
    monkeypatch.setattr(phase_diagram, "CURVE_POINTS", 2)


def cells(settings: Settings, folder: Path) -> list[Row]:
    return runs.read_json(
        phase_diagram.PhaseDiagram().run(replace(settings, out=folder)) / "summary.json"
    )["cells"]


def trained(settings: Settings, depth: int, steps: int | None = None) -> StartsOfOneDepth:
    batch = StartsOfOneDepth(settings, depth)
    for _ in range(settings.steps if steps is None else steps):
        batch.step()
    return batch


@pytest.mark.slow
@pytest.mark.usefixtures("few_points")
def test_ranks_fall_with_depth(tmp_path: Path) -> None:
    found = cells(replace(TEN_FREE, depth=(1,), seeds=1), tmp_path / "two")
    found += cells(replace(TEN_FREE, depth=(2, 3), seeds=2), tmp_path / "more")
    assert [cell["depth"] + 1 for cell in found] == [2, 3, 4]
    assert [cell["rank"] for cell in found] == [9, 5, 4]
    names = ["simplex ETF", "pairs", "Petersen code"]
    assert [cell["structure"] for cell in found] == names
    assert [cell["predicted_structure"] for cell in found] == names
    assert [cell["excess"] for cell in found] == pytest.approx([0, 0, 0], abs=1e-7)
    assert found[2]["objective"] == pytest.approx(0.0411546, abs=1e-7)
    assert all(cell["accuracy"] == 1 for cell in found)


@pytest.mark.usefixtures("few_points")
def test_a_rank_three_minimum_beats_the_petersen_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(
        temperature=(1.0,), depth=(3,), init_scale=(0.2,), steps=3000, device="cpu",
        out=tmp_path / "run",
    )  # fmt: skip
    folder = phase_diagram.PhaseDiagram().run(settings)
    (cell,) = runs.read_json(folder / "summary.json")["cells"]
    assert cell["rank"] == 3
    assert cell["objective"] == pytest.approx(0.0407024, abs=1e-7)
    assert cell["structure"] == "other"
    assert cell["geometry"] == "ten points of rank 3"
    assert cell["geometry_distance"] < 0.02
    assert "ten points" in reports.found_structure(cell)
    assert cell["structures"]["Petersen code"] == pytest.approx(0.0411546, abs=1e-7)
    assert re.search(r"beats\D*1 ", capsys.readouterr().out)
    # What balanced factors of the best run's logits would cost, from its parameters alone.
    parameters = torch.load(folder / "checkpoint.pt")["state"]["batches"][0]["parameters"]
    weights, _, features, _ = UfmShape(10, 1, 20, 3).unpack(parameters)
    M = (features @ weights[0].mT @ weights[1].mT @ weights[2].mT).numpy()
    losses = (logsumexp(M, axis=-1) - M.diagonal(axis1=1, axis2=2)).mean(axis=-1)
    values = np.linalg.svd(M, compute_uv=False)
    objectives = losses + 4 / 2 * 1e-3 * (values ** (2 / 4)).sum(axis=-1)
    best = objectives.argmin()
    assert objectives[best] == pytest.approx(cell["objective"], abs=1e-7)
    assert (values[best] > 1e-3 * values[best, 0]).sum() == 3
    assert cell["loss"] == pytest.approx(losses[best], abs=1e-9)


@pytest.mark.usefixtures("few_points")
def test_temperature_alone_changes_the_best_minimum(tmp_path: Path) -> None:
    settings = Settings(
        temperature=(39.0, 42.0, 2100.0), depth=(2,), classes=4, width=6, init_scale=(0.2, 0.7),
        seeds=6, steps=1000, device="cpu",
    )  # fmt: skip
    found = cells(settings, tmp_path / "run")
    assert [cell["rank"] for cell in found] == [3, 2, 0]
    assert [cell["structure"] for cell in found] == ["simplex ETF", "pairs", "zero"]
    assert [cell["geometry"] for cell in found] == ["simplex ETF", "pairs", "zero"]
    assert max(cell["geometry_distance"] for cell in found) < 1e-4
    assert [cell["predicted_structure"] for cell in found] == ["simplex ETF", "pairs", "zero"]
    assert [cell["excess"] for cell in found] == pytest.approx([0, 0, 0], abs=1e-9)
    assert found[2]["objective"] == pytest.approx(math.log(4), abs=1e-12)


@pytest.mark.usefixtures("few_points")
def test_two_factors_reach_their_global_minimum(tmp_path: Path) -> None:
    settings = Settings(
        temperature=(1.0, 10.0, 100.0, 160.0), depth=(1,), samples_per_class=2, classes=4, width=6,
        seeds=1, init_scale=(0.4,), lr=0.05, device="cpu",
    )  # fmt: skip
    for cell in cells(settings, tmp_path / "run"):
        T = cell["temperature"]
        expected = two_factor_optimum(4, 2, T, 1e-3, 1e-3)
        assert cell["objective"] == pytest.approx(expected.value, abs=1e-10)
        # tau = T sqrt(2) / 1000 and c = 4: always below 1/c.
        assert cell["rank"] == 3
        # An ETF of this margin: rows of c - 1 entries -a/c and one a (c - 1)/c.
        assert cell["logits_norm"] == pytest.approx(expected.margin * 0.75**0.5, rel=1e-4)


def by_autograd(
    start: torch.Tensor, T: float, rate: float, epsilon: float, settings: Settings
) -> tuple[float, float]:
    """Objective and logits norm after training two hidden layers' factors at T itself."""
    width, classes = settings.width, settings.classes
    sizes = [(width, width), (classes, width), (classes, width)]
    pieces = start.split([a * b for a, b in sizes])
    factors = [p.clone().view(size).requires_grad_() for p, size in zip(pieces, sizes, strict=True)]
    optimizer = torch.optim.Adam(factors, lr=rate, eps=epsilon)

    def objective() -> tuple[torch.Tensor, torch.Tensor]:
        hidden, last, features = factors
        logits = features @ hidden.mT @ last.mT
        loss = torch.nn.functional.cross_entropy(logits / T, torch.arange(classes))
        decay = sum(factor.square().sum() for factor in factors)
        return loss + settings.weight_decay[0] / 2 * decay, logits

    for step in range(settings.steps):
        cosine = (1 + math.cos(math.pi * step / settings.steps)) / 2
        optimizer.param_groups[0]["lr"] = rate * (1e-3 + (1 - 1e-3) * cosine)
        optimizer.zero_grad()
        objective()[0].backward()
        optimizer.step()
    value, logits = objective()
    return value.item(), logits.norm().item() / classes**0.5


@pytest.mark.parametrize("rule", ["equivalent", "matched"])
def test_runs_are_those_of_torch_at_their_own_temperature(rule: Any) -> None:
    settings = replace(
        SMALL, rule=rule, temperature=(1.0, 30.0), init_scale=(0.7,), seeds=1, steps=150
    )
    start = initial_parameters(UfmShape(4, 1, 5, 2), [0], 0.7, dtype=torch.float64)[0]
    rows = trained(settings, 2).measure(150)
    for row in rows:
        T = row["temperature"]
        a = T ** (1 / 3) if rule == "equivalent" else 1.0
        value, norm = by_autograd(a * start, T, a * settings.lr, 1e-8 / a, settings)
        assert row["objective"] == pytest.approx(value, rel=1e-10)
        assert row["logits_norm"] == pytest.approx(norm, rel=1e-8)
        assert row["effective_logits_norm"] == pytest.approx(norm / T, rel=1e-8)
    assert rows[0]["objective"] < 0.5


def test_limited_starts_keep_their_rank_and_are_stationary_in_what_was_zeroed() -> None:
    settings = replace(SMALL, classes=6, width=8, seeds=8, seed=5, temperature=(1.0,), steps=400)
    for depth in (1, 2, 3):
        batch = trained(settings, depth)
        rows = batch.measure(400)
        limits = [(None, 2, None, 3, None, 4, None, 2)[run.seed - 5] for run in batch.runs]
        for row, limit in zip(rows, limits, strict=True):
            assert limit is None or row["rank"] <= limit
        first = StartsOfOneDepth(settings, depth).model.parameters
        zeroed = first == 0
        assert [bool(z.any()) for z in zeroed] == [limit is not None for limit in limits]
        assert (batch.model.gradient[zeroed] == 0).all()
        assert (batch.model.parameters[zeroed] == 0).all()
        free = StartsOfOneDepth(replace(settings, limit_ranks=False), depth).model.parameters
        assert torch.equal(first[~zeroed], free[~zeroed])


def test_few_classes_and_narrow_models_leave_nothing_to_limit() -> None:
    for settings in (replace(SMALL, classes=3), replace(SMALL, width=2)):
        limited = StartsOfOneDepth(settings, 2).model.parameters
        free = StartsOfOneDepth(replace(settings, limit_ranks=False), 2).model.parameters
        assert torch.equal(limited, free)


def test_a_run_does_not_depend_on_what_is_trained_beside_it() -> None:
    rows = trained(SMALL, 2).measure(60)
    alone = trained(replace(SMALL, temperature=(30.0,), init_scale=(0.7,), seeds=2), 2).measure(60)
    for row in alone:
        (twin,) = [r for r in rows if all(r[k] == row[k] for k in KEYS)]
        assert row["objective"] == pytest.approx(twin["objective"], rel=1e-10)
        assert row["singular_values"] == pytest.approx(twin["singular_values"], rel=1e-8, abs=1e-12)


def test_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(phase_diagram, "CURVE_POINTS", 3)
    folder = phase_diagram.PhaseDiagram().run(replace(SMALL, out=tmp_path / "run"))
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "settings.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt",
        "environment.json", "summary.json", "summary.csv",
    }  # fmt: skip
    summary, rows = runs.read_json(folder / "summary.json"), runs.read_rows(folder)
    assert [row["step"] for row in rows[::24]] == [0, 1, 2, 4, 8, 16, 20, 40, 60]
    last = [row for row in rows if row["step"] == 60]
    assert [tuple(row[k] for k in KEYS) for row in last] == [
        (d, T, 1e-3, s, i) for d in (1, 2) for T in (1.0, 30.0) for s in (0.3, 0.7) for i in range(3)
    ]  # fmt: skip
    assert [(c["depth"], c["temperature"]) for c in summary["cells"]] == [
        (1, 1.0), (1, 30.0), (2, 1.0), (2, 30.0)
    ]  # fmt: skip
    for cell in summary["cells"]:
        own = [r for r in last if all(r[k] == cell[k] for k in ("depth", "temperature"))]
        best = min(own, key=lambda row: row["objective"])
        assert cell["starts"] == 6
        assert sum(cell["ranks"].values()) == 6
        for field in ("rank", "objective", "loss", "accuracy", "largest_slope", "logits_norm"):
            assert cell[field] == best[field]
        for init in cell["by_init_scale"]:
            values = [r["objective"] for r in own if r["init_scale"] == init["init_scale"]]
            assert init["objective"] == min(values)
            near = sum(value <= cell["objective"] + 1e-5 * math.log(4) for value in values)
            assert init["share_of_starts"] == near / 3
            assert sum(init["structures"].values()) == 3
        for name, code in (("simplex ETF", constructions.simplex_etf(4)),
                           ("pairs", constructions.pairs(4))):  # fmt: skip
            expected = best_scale(code, cell["depth"] + 1, 1, cell["temperature"], 1e-3).value
            assert cell["structures"][name] == expected
        assert cell["predicted_objective"] == min(cell["structures"].values())
        assert cell["excess"] == cell["objective"] - cell["predicted_objective"]
    output = capsys.readouterr().out
    assert str(folder) in output
    assert "of 4 cells" in output


@pytest.mark.usefixtures("few_points")
def test_the_figures_show_the_cells(tmp_path: Path) -> None:
    folder = phase_diagram.PhaseDiagram().run(
        replace(SMALL, weight_decay=(1e-3, 1e-2), seeds=1, steps=20, out=tmp_path / "run")
    )
    summary = runs.read_json(folder / "summary.json")
    figures = phase_diagram.PhaseDiagram().figures(runs.read_rows(folder), summary)
    assert {*figures} == {"phase_diagram", "objectives"}
    panels = figures["phase_diagram"].axes
    assert [axes.get_title() for axes in panels] == [r"$\lambda$ = 0.001", r"$\lambda$ = 0.01"]
    for axes, decay in zip(panels, (1e-3, 1e-2), strict=True):
        shown = {text.get_position(): int(text.get_text()) for text in axes.texts}
        assert shown == {
            ((1.0, 30.0).index(c["temperature"]), c["depth"] - 1): c["rank"]
            for c in summary["cells"] if c["weight_decay"] == decay
        }  # fmt: skip
    panels = figures["objectives"].axes
    assert len(panels) == 4
    (dots,) = [x for x in panels[1].get_lines() if x.get_label() == "best found"]
    own = [c for c in summary["cells"] if (c["depth"], c["weight_decay"]) == (2, 1e-3)]
    assert [*dots.get_ydata()] == [cell["objective"] for cell in own]


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (3, ["simplex ETF"]),
        (4, ["simplex ETF", "pairs"]),
        (5, ["simplex ETF", "circle"]),
        (6, ["simplex ETF", "pairs", "circle"]),
        (10, ["simplex ETF", "pairs", "Petersen code", "circle"]),
        (12, ["simplex ETF", "pairs", "icosahedron", "circle"]),
        (16, ["simplex ETF", "pairs", "half cube", "circle"]),
    ],
)
def test_no_structure_is_listed_under_two_names(classes: int, names: list[str]) -> None:
    codes = phase_diagram.structures(classes, width=classes)
    assert [code.name for code in codes] == names
    assert [code.rank for code in codes] == sorted({code.rank for code in codes}, reverse=True)


def test_the_boundary_is_drawn_where_theory_puts_it(tmp_path: Path) -> None:
    # c = 4, L = 3, lambda = 1e-3: from the ETF to pairs at T = 40.3, between 10 and 100.
    settings = replace(SMALL, temperature=(10.0, 100.0), depth=(2,), steps=1)
    summary = phase_diagram.summarise(settings, trained(settings, 2).measure(1))
    (axes,) = reports.draw_diagram(summary).axes
    (line,) = [x for x in axes.get_lines() if len(x.get_xdata()) and x.get_linestyle() == "--"]
    spacing = math.log10(400) / 2 / 40
    assert line.get_xdata()[0] == pytest.approx(math.log10(40.3) - 1, abs=spacing)
    assert [*line.get_ydata()] == [-0.5, 0.5]


@pytest.mark.usefixtures("few_points")
@pytest.mark.parametrize(
    "change", [{"lr": 1e70}, {"init_scale": (1e80,)}, {"init_scale": (1e200,)}]
)
def test_diverged_runs_are_reported(
    change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(SMALL, temperature=(1.0,), depth=(2,), init_scale=(0.5,), steps=5)
    (cell,) = cells(replace(settings, **change), tmp_path / "run")
    assert cell["diverged"] == 3
    assert cell["structure"] == "diverged"
    assert cell["objective"] is None
    assert re.search("3 runs diverged.*--lr", capsys.readouterr().out)


@pytest.mark.usefixtures("few_points")
def test_a_cell_whose_runs_all_diverged_can_be_drawn(tmp_path: Path) -> None:
    settings = replace(SMALL, temperature=(1.0,), depth=(1,), init_scale=(1e200,), steps=1)
    folder = phase_diagram.PhaseDiagram().run(replace(settings, out=tmp_path / "run"))
    figures = phase_diagram.PhaseDiagram().figures(
        runs.read_rows(folder), runs.read_json(folder / "summary.json")
    )
    assert not figures["phase_diagram"].axes[0].texts
    for figure in figures.values():
        figure.draw_without_rendering()


@pytest.mark.parametrize("sign", [-1, 1])
def test_huge_logits_of_either_sign_are_no_measures(
    sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = StartsOfOneDepth(replace(SMALL, temperature=(1.0,), init_scale=(0.5,), seeds=1), 1)
    huge = torch.full_like(batch.model.logits(), sign * 1e300)
    monkeypatch.setattr(batch.model, "logits", lambda: huge)
    (row,) = batch.measure(0)
    assert row["objective"] is None


def test_extreme_temperatures_are_measured() -> None:
    settings = replace(SMALL, temperature=(1e-50, 1e50), init_scale=(0.5,), seeds=1)
    for rule in ("equivalent", "matched"):
        for row in StartsOfOneDepth(replace(settings, rule=rule), 2).measure(0):
            assert row["objective"] is not None
            assert row["logits_norm"] == pytest.approx(
                row["effective_logits_norm"] * row["temperature"]
            )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", "0"], ["temperature is 0.0"]),
        (["--temperature", "nan"], ["temperature is nan"]),
        (["--temperature", "1e306"], ["temperature is 1e+306"]),
        (["--temperature", "1e-300"], ["temperature is 1e-300"]),
        (["--temperature"], ["temperature is empty"]),
        (["--depth", "0"], ["depth is 0"]),
        (["--depth"], ["depth is empty"]),
        (["--classes", "2"], ["classes is 2"]),
        (["--samples-per-class", "0"], ["samples_per_class is 0"]),
        (["--width", "0"], ["width is 0"]),
        (["--weight-decay", "0"], ["weight_decay is 0.0"]),
        (["--weight-decay"], ["weight_decay is empty"]),
        (["--init-scale", "-1"], ["init_scale is -1.0"]),
        (["--init-scale", "inf"], ["init_scale is inf"]),
        (["--lr", "0"], ["lr is 0.0"]),
        (["--steps", "0"], ["steps is 0"]),
        (["--measure-every", "0"], ["measure_every is 0"]),
        (["--checkpoint-every", "0"], ["checkpoint_every is 0"]),
        (["--seeds", "0"], ["seeds is 0"]),
        (["--gamma", "nan"], ["gamma is nan"]),
        (["--device", "abacus"], ["device is 'abacus'"]),
        (["--rule", "golden"], ["--rule"]),
    ],
    ids=lambda value: " ".join(value),
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_one_line_and_leave_nothing(
    flags: list[str], words: list[str], assert_refused: Callable[..., None]
) -> None:
    assert_refused(phase_diagram, flags, words)


def test_only_structures_that_fit_the_width_are_predicted() -> None:
    ranks = {width: [c.rank for c in phase_diagram.structures(10, width)] for width in (1, 4, 8, 9)}
    assert ranks == {1: [], 4: [4, 2], 8: [5, 4, 2], 9: [9, 5, 4, 2]}
    narrow = Settings(classes=7, width=4, depth=(2,))
    assert set(phase_diagram.predict(narrow, 2, 5.0, 1e-3)) == {"circle", "zero"}
