"""`python -m simulations.large_classes`: blocks against the whole, records against plain torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rankdeficit as rd
from rankdeficit.experiments.runs import read_json, read_rows
from simulations import large_classes
from simulations.large_classes import Key, Model, Settings

SMALL = Settings(
    temperature=(8.0,), seeds=1, classes=30, width=4, steps=20, measure_every=10, checkpoint_every=10,
    frequencies="zipf", weight_decay=1e-3, device="cpu",
)  # fmt: skip
SEVEN_ROWS = 7 * 4 * 30 / 2**30


@pytest.mark.parametrize("memory", [1.0, SEVEN_ROWS])
def test_blocks_give_the_loss_and_gradient_of_the_whole(memory: float) -> None:
    model = Model(replace(SMALL, block_memory=memory), Key(8.0, 0))
    assert model.rows == (7 if memory < 1 else 2**30 // 120)
    model.compute_gradient()
    features, layers, head = (own.clone().requires_grad_() for own in model.factors)
    logits = features @ layers[0].mT @ layers[1].mT @ head.mT
    shares = 1 / torch.arange(1, 31, dtype=torch.float64)
    losses = rd.cross_entropy(logits, torch.arange(30), 8.0, reduction="none")
    loss = (losses * shares).sum() / shares.sum()
    decay = 1e-3 / 2 * sum(own.square().sum() for own in (features, layers, head))
    (loss + decay).backward()
    for slope, own in zip(model.slopes, (features, layers, head), strict=True):
        torch.testing.assert_close(slope, own.grad, rtol=1e-4, atol=1e-7)
    found, accuracy = model.loss_and_accuracy()
    assert found == pytest.approx(float(loss.detach()), rel=1e-6)
    right = logits.argmax(dim=1) == torch.arange(30)
    assert accuracy == pytest.approx(float(right.double().mean()))


def test_the_run_folder_and_its_figure(tmp_path: Path) -> None:
    folder = large_classes.LargeClasses().run(replace(SMALL, out=tmp_path / "run"))
    rows, summary = read_rows(folder), read_json(folder / "summary.json")
    assert [run["temperature"] for run in summary["runs"]] == [1.0, 8.0]
    for run in summary["runs"]:
        assert run["centred_rank"] == run["rank"] == summary["neural_collapse_rank"] == 4
        assert len(run["singular_values"]) == 4
        assert run["logits_norm"] == pytest.approx(
            run["temperature"] * run["effective_logits_norm"]
        )
    assert {*large_classes.LargeClasses().figures(rows, summary)} == {"spectra"}
    table, _ = large_classes.LargeClasses().report(summary)
    assert table.row_count == 2


def test_the_memory_is_told_before_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    large_classes.LargeClasses().build(replace(SMALL, classes=5000, width=2, block_memory=0.01))
    told = capsys.readouterr().out
    assert "0.093 GiB" in told  # 4 * 5000^2 bytes
    assert "2 runs" in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", 1),
        ("width", 0),
        ("depth", 0),
        ("lr", 0.0),
        ("block_memory", -1.0),
        ("weight_decay", -1.0),
    ],
)
def test_bad_settings_are_refused_by_name(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=name):
        large_classes.LargeClasses().run(replace(SMALL, out=tmp_path / "run", **{name: value}))
