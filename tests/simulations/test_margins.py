"""`python -m simulations.margins`: gradients that do not vanish, margins of codes, and a run folder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import rankdeficit as rd
from rankdeficit import constructions
from rankdeficit.experiments.runs import read_json, read_rows
from simulations import margins
from simulations.margins import Runs, Settings, direction, gaps, normalised_margin
from simulations.minima import set_factors

SMALL = Settings(
    seeds=2, classes=4, width=4, depth=(1, 2), init_scale=(0.5,), steps=24, measure_every=8,
    checkpoint_every=12, device="cpu",
)  # fmt: skip


def test_the_run_folder_and_its_figure(tmp_path: Path) -> None:
    folder = margins.Margins().run(replace(SMALL, out=tmp_path / "run"))
    rows, summary = read_rows(folder), read_json(folder / "summary.json")
    assert len(summary["runs"]) == 4
    assert len(rows) == 4 * 7  # steps 0, 1, 2, 4, 8, 16 and 24
    assert {*margins.Margins().figures(rows, summary)} == {"margins"}
    assert margins.Margins().report(summary)[0].row_count == 2


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_direction_is_that_of_the_gradient(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(3, 5, 5, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    loss = rd.cross_entropy(logits, torch.arange(5).expand(3, 5), reduction="none").sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    largest = gradient.masked_fill(torch.eye(5, dtype=torch.bool), 0).amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(direction(logits.detach()), gradient / largest)


def test_the_direction_does_not_vanish_with_the_loss() -> None:
    logits = torch.tensor([[[9000.0, 0, 1], [0, 9000, 0], [0, 0, 9000]]], dtype=torch.float64)
    found = direction(logits)[0]
    torch.testing.assert_close(
        found.diagonal(), -torch.tensor([1 + 1 / torch.e, 2 / torch.e, 2 / torch.e]).double()
    )
    assert float(found[0, 2]) == 1
    assert float(gaps(logits).amin()) == 8999


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize(
    "code", [constructions.petersen(), constructions.circle(10)], ids=["Petersen", "circle"]
)
def test_margins_of_codes_are_those_of_balanced_factors(
    code: constructions.Code, depth: int
) -> None:
    runs = Runs(replace(SMALL, classes=10, width=10, seeds=1), depth)
    set_factors(runs.shape, runs.parameters[0], code.logits(torch.arange(10), 7.0))
    (row,) = runs.measure(0)
    assert row["normalised_margin"] == pytest.approx(normalised_margin(code, depth + 1), rel=1e-4)
    assert row["margin"] == pytest.approx(7 * code.margin)
    assert row["centred_rank"] == code.rank


def test_steps_have_the_size_that_was_asked_for() -> None:
    runs = Runs(replace(SMALL, init_scale=(2.0,), logits_step=0.01), 2)
    before = runs.layers()[-1]
    runs.step()
    change = (runs.layers()[-1] - before).abs().amax(dim=(1, 2))
    assert bool((change < 0.05).all())
    assert bool((change > 0.001).all())


def test_two_factors_reach_the_simplex() -> None:
    settings = replace(SMALL, classes=3, width=3, steps=1500, depth=(1,))
    runs = Runs(settings, 1)
    for _ in range(settings.steps):
        runs.step()
    best = normalised_margin(constructions.simplex_etf(3), 2)
    for row in runs.measure(settings.steps):
        assert 0.95 < row["normalised_margin"] / best <= 1 + 1e-9
        assert row["margin"] > 200


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"classes": 2}, "classes"), ({"width": 1}, "width"), ({"logits_step": 0.0}, "logits_step"),
        ({"init_scale": (0.5, -1.0)}, "init_scale"), ({"init_scale": ()}, "init_scale"),
    ],
)  # fmt: skip
def test_bad_settings_are_told(change: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        margins.Margins().build(replace(SMALL, **change))  # type: ignore[arg-type]
