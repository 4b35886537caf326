"""Ranks of logits and layers in every convention."""

from typing import get_args

import pytest
import torch
from torch import nn

import rankdeficit as rd
from rankdeficit.diagnostics.report.numbers import numbers
from rankdeficit.spectrum import GAMMAS, Convention, rank_curve
from tests.rankdeficit.diagnostics.diagnose.problems import batches, blobs

NAMES = dict(
    zip(
        get_args(Convention),
        ("rank", "centred_rank", "sample_centred_rank", "covariance_rank"),
        strict=True,
    )
)


@pytest.mark.parametrize("samples", [7, 150])
def test_every_rank_is_that_of_the_whole_matrix_and_tells_its_convention(samples: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 9)).double()
    with torch.no_grad():  # a common logit, which centring over classes removes; a large mean
        model[0].weight *= torch.logspace(0, -3, 12).double()[:, None]
        model[2].bias += torch.linspace(3, 5, 9)
    inputs, labels = blobs(samples, torch.randn(4, 6).double())
    data = batches(inputs, labels, 20)
    report = rd.diagnose(model, data, data, measures=["logits", "layer_ranks", "penultimate"])
    hidden, logits = model[:2](inputs).detach(), model(inputs).detach()
    places = {"train.logits": logits, "layers.0.train": hidden, "penultimate.test": hidden}
    told = {own.name: own.convention for own in numbers(report.record)}
    counts = set()
    for place, matrix in places.items():
        for convention, name in NAMES.items():
            if convention == "class-centred" and matrix is hidden:
                continue  # it depends on the coordinates
            exact = rank_curve(matrix, convention=convention).tolist()
            found = [report[f"{place}.{name}_curve.{gamma}"] for gamma in GAMMAS]
            assert found == exact, (place, name)
            low, high = report[f"{place}.{name}_interval"]
            assert low <= exact[1] == report[f"{place}.{name}"] <= high
            assert told[f"{place}.{name}"] == told[f"{place}.{name}_curve.0.01"] == convention
            counts.add((place, tuple(exact)))
    assert len(counts) > 2 * len(places) - 2  # the conventions differ here
