"""`python -m simulations.attention`: ranks and entropies of known attention, and its errors."""

import math
from pathlib import Path

import pytest
import torch

from rankdeficit.experiments import runs
from rankdeficit.experiments.settings import Row
from simulations.attention import AttentionRank, Settings
from simulations.attention.measures import Unit, attention_logits, measure
from simulations.attention.report import draw

SMALL = Settings(
    tokens=(32,), dimension=(1, 2), seeds=2, temperatures=13, least_temperature=1e-4, device="cpu"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return AttentionRank().run(
        Settings(**{**vars(SMALL), "out": tmp_path_factory.mktemp("runs") / "small"})
    )


def test_the_logits_have_unit_variance_and_the_rank_of_the_heads_dimension() -> None:
    logits = attention_logits(200, 3, seed=1)
    assert logits.std().item() == pytest.approx(1, abs=0.1)
    assert torch.linalg.matrix_rank(logits) == 3
    assert not torch.equal(logits, attention_logits(200, 3, seed=2))


def test_rows_are_those_of_the_softmax() -> None:
    unit = Unit(12, 2, 5)
    logits = attention_logits(*unit)
    for row in measure(unit, [0.02, 0.7, 900.0], 1e-3, torch.device("cpu")):
        weights = torch.softmax(logits / row["temperature"], dim=-1)
        values = torch.linalg.svdvals(weights)
        assert row["rank"] == row["rank_curve"]["0.001"] == (values > 1e-3 * values[0]).sum()
        entropy = -(weights * weights.clamp(min=1e-300).log()).sum(dim=-1).mean().item()
        assert row["entropy"] == pytest.approx(entropy)
        assert row["entropy_share"] == pytest.approx(entropy / math.log(12))
        assert row["logits_rank"] == 2
        assert row["spread"] * row["temperature"] == pytest.approx(
            logits.std(dim=-1, correction=0).mean().item()
        )


def test_uniform_when_hot_and_on_single_keys_when_cold(folder: Path) -> None:
    summary: Row = runs.read_json(folder / "summary.json")
    for curve in summary["curves"]:
        cold, hot = curve["points"][0], curve["points"][-1]
        assert (hot["rank"], hot["critical_prediction"], hot["proven"]) == (1, 1, [1, 1])
        assert hot["entropy_share"] == pytest.approx(1, abs=1e-4)
        assert cold["entropy_share"] < 0.01
        assert cold["rank"] == pytest.approx(curve["low_temperature_rank"], abs=1)
        assert curve["peak_rank"] > curve["dimension"] + 1
    assert summary["proven"]["within"] == summary["proven"]["measurements"] > 0
    (axes, *_) = draw(summary).axes
    assert axes.get_ylabel() == "numerical rank"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (Settings(tokens=(1,)), "tokens"),
        (Settings(dimension=(0,)), "dimension"),
        (Settings(temperatures=1), "temperatures"),
        (Settings(least_temperature=0.0), "least_temperature"),
        (Settings(least_temperature=2.0, largest_temperature=1.0), "order"),
    ],
)
def test_bad_settings(settings: Settings, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        AttentionRank().prepare(settings)
