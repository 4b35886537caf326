"""Ranks of logits and layers in every convention."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

import rankdeficit as rd
from rankdeficit.diagnostics.report.numbers import numbers
from rankdeficit.diagnostics.report.report import Report
from rankdeficit.diagnostics.study import LayerConvention
from rankdeficit.spectrum import GAMMAS, Convention, rank_curve
from tests.rankdeficit.diagnostics.diagnose.problems import batches, blobs

NAMES = dict(
    zip(
        get_args(Convention),
        ("rank", "centred_rank", "sample_centred_rank", "covariance_rank"),
        strict=True,
    )
)


MEASURES = ["logits", "layer_ranks", "penultimate"]
LAYERS = ("layers.0.train", "penultimate.test")


def network() -> nn.Sequential:
    """A network whose ranks differ between conventions: common logits, large means."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 9)).double()
    with torch.no_grad():
        model[0].weight *= torch.logspace(0, -3, 12).double()[:, None]
        model[2].bias += torch.linspace(3, 5, 9)
    return model


def check_rank(report: Report, path: str, matrix: Tensor, convention: Convention) -> list[int]:
    """Compare a rank, its curve and its interval with those of the whole matrix; return the curve."""
    exact: list[int] = rank_curve(matrix, convention=convention).tolist()
    assert [report[f"{path}_curve.{gamma}"] for gamma in GAMMAS] == exact, path
    low, high = report[f"{path}_interval"]
    assert low <= exact[1] == report[path] <= high
    told = {own.name: own.convention for own in numbers(report.record)}
    assert told[path] == told[f"{path}_curve.0.01"] == convention
    return exact


@pytest.mark.parametrize("samples", [7, 150])
def test_every_rank_is_that_of_the_whole_matrix_and_tells_its_convention(samples: int) -> None:
    model = network()
    inputs, labels = blobs(samples, torch.randn(4, 6).double())
    data = batches(inputs, labels, 20)
    hidden, logits = model[:2](inputs).detach(), model(inputs).detach()
    layers = set()
    for convention in get_args(LayerConvention):
        report = rd.diagnose(model, data, data, measures=MEASURES, convention=convention)
        layers |= {tuple(check_rank(report, f"{own}.rank", hidden, convention)) for own in LAYERS}
        found = {
            tuple(check_rank(report, f"train.logits.{name}", logits, own))
            for own, name in NAMES.items()
        }
        assert len(found) >= 3  # the conventions differ here
    assert len(layers) >= 2
    outputs = rd.diagnose_outputs(
        logits={"train": logits, "test": logits},
        labels={"train": labels, "test": labels},
        features={"train": hidden, "test": hidden},
        convention="covariance",
    )
    check_rank(outputs, "penultimate.test.rank", hidden, "covariance")


@pytest.mark.usefixtures("unchecked")
def test_a_convention_that_layers_do_not_have_is_refused() -> None:
    data = batches(*blobs(8, torch.randn(4, 6).double()), 8)
    for convention in ("class-centred", "rows"):
        with pytest.raises(ValueError, match="convention"):
            rd.diagnose(network(), data, data, convention=convention)  # type: ignore[arg-type]


def test_ranks_of_different_conventions_are_not_subtracted() -> None:
    data = batches(*blobs(30, torch.randn(4, 6).double()), 15)
    reports = [
        rd.diagnose(network(), data, data, measures=MEASURES, convention=own)
        for own in get_args(LayerConvention)[:2]
    ]
    lines = {line.name: line.differences[0] for line in rd.compare(*reports).lines}
    assert lines["layers.0.train.rank"] is lines["penultimate.test.rank"] is None
    assert lines["train.logits.rank"] is not None
