"""`python -m simulations.minima`: its search finds what is known, and its folder holds the table."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rankdeficit import constructions
from rankdeficit.experiments.runs import read_json, read_rows
from rankdeficit.toys.minima import WEIGHT_DECAY, Minimum, objective_of
from rankdeficit.toys.optima import best_scale, two_factor_optimum
from rankdeficit.toys.ufm import DeepUfm, UfmShape
from simulations import minima
from simulations.minima import Settings, Unit, group_logits, polish, search, set_factors

SMALL = Settings(
    classes=(4, 5), factors=(2,), seeds=2, init_scale=(0.4,), symmetric_starts=4, steps=200,
    device="cpu",
)  # fmt: skip


def test_the_run_folder_and_its_figure(tmp_path: Path) -> None:
    folder = minima.Minima().run(replace(SMALL, out=tmp_path / "run"))
    rows, summary = read_rows(folder), read_json(folder / "summary.json")
    assert [(cell["classes"], cell["factors"]) for cell in summary["cells"]] == [(4, 2), (5, 2)]
    table = json.loads((folder / "minima.json").read_text())
    assert [Minimum.read(row).objective for row in table] == [row["objective"] for row in rows]
    for c in (4, 5):
        best = two_factor_optimum(c, 1, 1.0, WEIGHT_DECAY, WEIGHT_DECAY)
        found = next(row for row in table if row["classes"] == c)
        assert found["structure"] == "simplex ETF"
        assert found["objective"] == pytest.approx(best.value, abs=1e-9)
    assert {*minima.Minima().figures(rows, summary)} == {"minima"}
    assert minima.Minima().report(summary)[0].row_count == 2


def test_random_starts_alone_find_what_symmetric_ones_do() -> None:
    settings = replace(SMALL, seeds=6, init_scale=(0.4, 0.7), symmetric_starts=0, steps=800)
    alone = search(settings, Unit(6, 3))
    symmetric = search(replace(settings, symmetric_starts=8), Unit(6, 3))
    assert alone.minimum.objective == pytest.approx(symmetric.minimum.objective, abs=1e-9)
    assert symmetric.starts == alone.starts + 8


@pytest.mark.parametrize("classes", [5, 6, 8])
def test_group_logits_are_those_of_a_group(classes: int) -> None:
    logits = group_logits(classes, np.random.default_rng(classes))
    assert torch.allclose(logits, logits.mT)
    assert torch.allclose(logits.sort(dim=1).values, logits.sort(dim=1).values[:1])
    assert torch.allclose(logits.sum(dim=1), torch.zeros(classes, dtype=torch.float64), atol=1e-9)
    if classes == 5:
        shifted = logits.roll((1, 1), (0, 1))
        assert torch.allclose(logits, shifted)


@pytest.mark.parametrize("depth", [1, 3])
def test_factors_have_the_logits(depth: int) -> None:
    shape = UfmShape(4, 1, 4, depth)
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    row = torch.zeros(shape.parameter_count, dtype=torch.float64)
    set_factors(shape, row, logits)
    model = DeepUfm(shape, row[None], torch.ones(1, dtype=torch.float64), weight_decay=0.01)
    torch.testing.assert_close(model.logits()[0], logits)
    assert float(model.objective()) == pytest.approx(objective_of(logits, depth + 1, 0.01))


def test_polishing_ends_at_the_code_that_is_near() -> None:
    best = best_scale(constructions.pairs(6), 3, 1, 1.0, WEIGHT_DECAY)
    logits = constructions.pairs(6).logits(torch.arange(6), 0.8 * best.scale)
    noise = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = polish(logits + 1e-4 * noise, 3, WEIGHT_DECAY)
    assert objective_of(found, 3, WEIGHT_DECAY) == pytest.approx(best.value, abs=1e-10)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"classes": (2,)}, "classes"), ({"factors": (1,)}, "factors"), ({"steps": 0}, "steps"),
        ({"weight_decay": 0.0}, "weight_decay"), ({"lr": float("nan")}, "lr"),
        ({"symmetric_starts": -1}, "symmetric_starts"), ({"init_scale": ()}, "init_scale"),
    ],
)  # fmt: skip
def test_bad_settings_are_told(change: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        minima.Minima().build(replace(SMALL, **change))  # type: ignore[arg-type]
