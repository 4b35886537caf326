"""`python -m simulations.distillation`: students, and verdicts of pairs of seeds."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import ttest_rel

from rankdeficit import cross_entropy
from rankdeficit.control.distillation import kd_loss
from simulations.distillation import (
    DistillationOfToys,
    Settings,
    Unit,
    best,
    clusters,
    spelled,
    trained,
    verdicts,
)

SMALL = Settings(
    seeds=1, temperature=(1.0, 20.0), kd_temperature=(1.0, 4.0), classes=4, inputs=5,
    samples_per_class=6, width=16, depth=3, student_width=8, steps=60, lr=1e-2, device="cpu",
)  # fmt: skip
CPU = torch.device("cpu")


def test_networks_are_those_that_each_loss_alone_trains() -> None:
    """In step, from the same start: Adam with plain autograd."""
    train, _ = clusters(SMALL, 0, CPU)
    taught = torch.randn(24, 4, generator=torch.Generator().manual_seed(1))
    losses = [
        lambda z: kd_loss(z, taught, 4.0, train.labels, 0.9),
        lambda z: cross_entropy(z, train.labels),
    ]
    together = trained(SMALL, [5, 8, 4], 3, train, losses)
    for loss, network in zip(losses, together, strict=True):
        (alone,) = trained(SMALL, [5, 8, 4], 3, train, [loss])
        torch.testing.assert_close(network(train.inputs), alone(train.inputs))
        assert float(loss(alone(train.inputs))) < 0.9 * float(loss(torch.zeros(24, 4)))


def test_rows_of_a_teacher_and_its_students() -> None:
    teacher, *students = DistillationOfToys().compute(SMALL, Unit(20.0, 0))
    assert (teacher["role"], teacher["temperature"]) == ("teacher", 20.0)
    assert [row["kd_temperature"] for row in students] == [1.0, 4.0, None]
    assert teacher["accuracy"] > 0.7
    assert 0 < teacher["centred_rank"] <= 3
    hot, cold = (list(DistillationOfToys().compute(SMALL, Unit(T, 0))) for T in (20.0, 1.0))
    same = ("accuracy", "test_accuracy")  # labels alone do not know the teacher
    assert [hot[-1][name] for name in same] == [cold[-1][name] for name in same]
    assert hot[0]["effective_logits_norm"] != cold[0]["effective_logits_norm"]


def runs() -> list[dict[str, Any]]:
    """Three seeds: KD temperature 4 is best for T = 1, 1 for T = 20, whose students are worse."""
    accuracy = {(1.0, 1.0): 0.7, (1.0, 4.0): 0.8, (20.0, 1.0): 0.75, (20.0, 4.0): 0.6}
    found = []
    for seed in range(3):
        for T in (1.0, 20.0):
            common = {"temperature": T, "seed": seed}
            found.append(common | {"role": "teacher", "test_accuracy": 0.9})
            for tau, value in ((1.0, accuracy[T, 1.0]), (4.0, accuracy[T, 4.0]), (None, 0.5)):
                student = {"role": "student", "kd_temperature": tau}
                found.append(common | student | {"test_accuracy": value + seed * T / 1e3})
    return found


def test_verdicts_pair_the_best_students_by_seed() -> None:
    assert (best(runs(), 1.0), best(runs(), 20.0)) == (4.0, 1.0)
    first = verdicts(runs())[0]
    found = [-0.05 + seed * 0.019 for seed in range(3)]
    assert spelled(found) in first
    assert "they are equally" in first


def test_the_interval_is_that_of_a_paired_test() -> None:
    a, b = [0.5, 0.7, 0.65, 0.9], [0.4, 0.75, 0.5, 0.6]
    low, high = ttest_rel(a, b).confidence_interval()
    told = spelled([x - y for x, y in zip(a, b, strict=True)])
    assert f"{100 * low:.1f} to {100 * high:.1f}" in told
    assert "n = 1" in spelled([0.1])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"temperature": (0.0,)}, "temperature"),
        ({"kd_temperature": (-1.0,)}, "temperature"),
        ({"kd_weight": 2.0}, "kd_weight is 2"),
        ({"classes": 1}, "classes is 1"),
        ({"steps": 0}, "steps is 0"),
        ({"lr": 0.0}, "lr is 0"),
    ],
)
def test_bad_settings(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        DistillationOfToys().build(replace(SMALL, **change))
