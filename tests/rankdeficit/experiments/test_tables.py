import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rankdeficit.experiments import tables
from rankdeficit.softmax import cross_entropy, softmax, softmax_mse


def record(
    T: float, rank: int | None, seed: int = 0, outcome: str = "interpolated"
) -> dict[str, Any]:
    values = {
        "accuracy": 1.0, "loss": 1e-3, "logits_norm": 10.0, "effective_logits_norm": 10 / T,
        "rank": rank, "centred_rank": rank, "post_softmax_rank": 20, "stable_rank": 2.5,
    }  # fmt: skip
    if rank is None:
        values = dict.fromkeys(values)  # type: ignore[assignment]
    return {
        "temperature": T,
        "depth": 3,
        "seed": seed,
        "outcome": outcome,
        "neural_collapse_rank": 19,
        **values,
    }


@pytest.mark.parametrize(
    ("loss", "accuracy", "expected"),
    [
        (None, None, "diverged"),
        (2.30, 0.1, "stalled"),
        (2.30, 1.0, "stalled"),
        (0.3, 0.99, "underfit"),
        (9.0, 0.2, "saturated"),
        (2.45, 0.12, "underfit"),
        (2.45, 0.98, "saturated"),
        (0.01, 1.0, "interpolated"),
    ],
)
def test_outcomes(loss: float | None, accuracy: float | None, expected: str) -> None:
    assert tables.outcome(loss, accuracy, uniform_loss=2.3026) == expected


@pytest.mark.parametrize("loss", [cross_entropy, softmax_mse])
def test_only_large_logits_saturate(loss: Callable[..., torch.Tensor]) -> None:
    """The same predictions, nearly all wrong, are confident or not by the norm over T alone."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(4000, 10, generator=generator, dtype=torch.float64)
    directions /= directions.norm(dim=1, keepdim=True)
    labels = torch.randint(10, (4000,), generator=generator)
    accuracy = float((directions.argmax(dim=1) == labels).double().mean())
    uniform = float(loss(0 * directions, labels))
    for norm, expected in ((2.0, "underfit"), (50.0, "saturated")):
        value = float(loss(norm * directions, labels))
        assert value > uniform
        assert tables.outcome(value, accuracy, uniform) == expected


@given(
    scale=st.floats(0.1, 100.0), seed=st.integers(0, 2**31), share=st.floats(0, 1),
    classes=st.integers(2, 50),
)  # fmt: skip
def test_saturated_runs_are_confident_where_they_are_wrong(
    scale: float, seed: int, share: float, classes: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(60, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (60,), generator=generator)
    labels = torch.where(torch.rand(60, generator=generator) < share, logits.argmax(dim=1), labels)
    wrong = logits.argmax(dim=1) != labels
    accuracy = float((~wrong).double().mean())
    if (
        tables.outcome(float(cross_entropy(logits, labels)), accuracy, math.log(classes))
        == "saturated"
    ):
        gap = logits.max(dim=1).values - logits[torch.arange(60), labels]
        assert float(gap[wrong].mean()) >= math.log(classes) / 2 - 1e-9
    uniform = 1 - 1 / classes
    if tables.outcome(float(softmax_mse(logits, labels)), accuracy, uniform) == "saturated":
        largest = softmax(logits).max(dim=1).values
        assert float(largest[wrong].mean()) >= 1.5 * uniform - 1 - 1e-9


def test_the_train_accuracy_that_counts_as_interpolation_is_said() -> None:
    assert tables.outcome(0.01, 0.9995, 2.3) == "underfit"
    assert tables.outcome(0.01, 0.9995, 2.3, interpolation=0.999) == "interpolated"
    runs = [record(1, 9), record(50, 4) | {"accuracy": 0.9995}]
    assert "99.95%" in tables.verdicts(runs, "depth")[0]


@pytest.mark.parametrize(
    ("hot", "base", "start"),
    [
        ([4, 5], [9, 9], "Rank-deficit bias: "),
        ([4, 9], [8, 10], "Rank-deficit bias within"),
        ([9, 9], [9, 9], "No rank-deficit bias"),
        ([9, 9], [8, 8], "No rank-deficit bias"),
    ],
)
def test_verdicts_say_what_the_ranks_say(hot: list[int], base: list[int], start: str) -> None:
    runs = [record(50, r, s) for s, r in enumerate(hot)]
    runs += [record(1, r, s) for s, r in enumerate(base)]
    (sentence,) = tables.verdicts(runs, "depth")
    assert sentence.startswith(start)
    assert "predicts 19" in sentence


def test_verdict_without_a_baseline() -> None:
    assert tables.verdicts([record(50, 4)], "depth")[0].startswith("Rank deficit: ")
    assert tables.verdicts([record(50, 19)], "depth")[0].startswith("No rank deficit")


def test_troubled_runs_are_named_and_kept_out_of_the_verdict() -> None:
    runs = [
        record(1, 9), record(50, 4, 0), record(50, 2, 1, "underfit"),
        record(1000, 1, 0, "stalled"), record(1000, None, 1, "diverged"),
    ]  # fmt: skip
    sentences = tables.verdicts(runs, "depth")
    assert "rank 4 (one seed)" in sentences[0]
    assert any(s.startswith("T = 50, depth 3: 1 of 2 runs underfit") for s in sentences)
    assert any(s.startswith("T = 1000, depth 3: 1 of 2 runs stalled") for s in sentences)
    assert any(s.startswith("T = 1000, depth 3: 1 of 2 runs diverged") for s in sentences)


def test_a_narrow_network_cannot_reach_c_minus_one() -> None:
    assert tables.neural_collapse_rank(10, 128) == 9
    assert tables.neural_collapse_rank(10, 3) == 3


def test_table_has_medians_and_ranges() -> None:
    runs = [
        record(1, 9, 0),  # alone
        record(50, 4, 0),
        record(50, 7, 1),
        record(50, None, 2),
    ]
    console = Console(file=io.StringIO(), width=200)
    console.print(tables.results_table(runs, "depth", 1e-3))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "5.5 (4-7)" in text
    assert "100.0%" in text
    (row,) = [line.split() for line in text.splitlines() if "5.5 (4-7)" in line]
    assert row[:3] == ["50", "3", "3"]
    assert row[-1] == "19"
    (alone,) = [line.split() for line in text.splitlines() if line.split()[:3] == ["1", "3", "1"]]
    assert [alone[-1], "9" in alone] == ["19", True]


def test_the_verdict_is_on_class_centred_ranks() -> None:
    """The raw ranks here would say the opposite."""
    runs = [record(50, 9) | {"rank": 4}, record(1, 9) | {"rank": 10}]
    assert tables.verdicts(runs, "depth")[0].startswith("No rank-deficit bias")
    runs = [record(50, 4) | {"rank": 10}, record(1, 9)]
    assert tables.verdicts(runs, "depth")[0].startswith("Rank-deficit bias: ")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], "-"), ([14, 14], "14"), ([9], "9"), ([42, 44, 46], "44 (42-46)"), ([1, 2], "1.5 (1-2)")],
)
def test_spreads(values: list[int], expected: str) -> None:
    assert tables.spread(values) == expected


def test_nouns_follow_their_numbers() -> None:
    assert [tables.counted(n, "seed") for n in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
