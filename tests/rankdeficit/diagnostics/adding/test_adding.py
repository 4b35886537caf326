"""A measure, or a detector, is one decorated definition, in whatever file."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import rankdeficit as rd
from rankdeficit.diagnostics import Report, available_measures, detector
from rankdeficit.diagnostics.registry import Column, Measure, Values, measure
from rankdeficit.diagnostics.simple import MeanOf, layer_measure, logits_measure
from tests.processes import run_together
from tests.rankdeficit.diagnostics.adding.conftest import MINE
from tests.rankdeficit.diagnostics.diagnose.problems import QUICK, small_problem
from tests.rankdeficit.diagnostics.report.fabricated import record


def participation(features: torch.Tensor) -> float:
    squares = torch.linalg.svdvals(features.double()).square()
    return float(squares.sum() ** 2 / squares.square().sum())


def test_measures_and_detectors_of_a_file_of_ones_own(mine: ModuleType, tmp_path: Path) -> None:
    model, train, test = small_problem()
    report = rd.diagnose(model, train, test, {"other": (None, test)}, probes=False)
    assert available_measures()["participation_ratio"].startswith("Participation ratio")
    assert "mean_margin" in available_measures()
    assert "feature-norm" in rd.diagnostics.detectors()

    x, y = (torch.cat(parts) for parts in zip(*train, strict=True))
    with torch.no_grad():
        hidden, logits = model[:2](x), model(x)  # type: ignore[index]
    others = logits.clone()
    others[torch.arange(len(y)), y] = -torch.inf
    margin = (logits[torch.arange(len(y)), y] - others.amax(dim=1)).double().mean()
    assert report["train.mean_margin"] == pytest.approx(float(margin))
    found = [layer["participation_ratio"]["train"] for layer in report["layers"]]
    assert found == pytest.approx([participation(hidden), participation(logits)])
    assert report["detection.other.feature-norm.auroc"] == pytest.approx(0.5)

    text = str(report)
    for word in ("particip.", "margin", "feature-norm", "Participation ratio"):
        assert word in text
    row = next(line for line in text.splitlines() if line.split()[:2] == ["1", "0"])
    test_value = report["layers"][0]["participation_ratio"]["test"]
    assert f"{found[0]:.3g}/{test_value:.3g}" in row
    path = tmp_path / "report.json"
    report.to_json(path)
    assert Report.from_json(path) == report
    assert "participation_ratio" in path.read_text()
    assert (tmp_path / "participation_ratio.png") in report.plot(tmp_path)


def test_they_may_be_picked_alone(mine: ModuleType) -> None:
    model, train, test = small_problem()
    report = rd.diagnose(model, train, test, measures=["mean_margin"])
    whole = rd.diagnose(model, train, test, **QUICK)
    assert report["test.mean_margin"] == whole["test.mean_margin"]
    assert "participation_ratio" not in report["layers"][0]
    assert report["test.logits"] is None


def test_records_that_lack_them_are_still_shown(
    mine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rankdeficit.diagnostics.report.outputs.save", lambda figure, path: None)
    report = Report(record())
    assert "particip." not in str(report)
    assert tmp_path / "participation_ratio.png" not in report.plot(tmp_path)


def test_states_merge_over_batches(mine: ModuleType) -> None:
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 6
    whole, first, second = (mine.ParticipationRatio(6) for _ in range(3))
    whole.update(features)
    for batch in features[:20].split(7):
        first.update(batch)
    second.update(features[20:])
    merged = first.merge(second)
    assert merged.value() == pytest.approx(whole.value())
    assert merged.value() == pytest.approx(participation(features))
    assert first.value() == pytest.approx(participation(features[:20]))  # it stays as it is

    means = [MeanOf(mine.mean_margin, torch.device("cpu")) for _ in range(2)]
    for mean, part in zip(means, (slice(0, 20), slice(20, 50)), strict=True):
        mean.update(features[part], labels[part])
    expected = float(mine.mean_margin(features, labels).double().mean())
    assert means[0].merge(means[1]).value() == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"other.*moments.*same"):
        first.merge(mine.ParticipationRatio(5))


def report_share(rank: int, count: int, folder: Path) -> None:
    sys.path.insert(0, str(folder))
    importlib.import_module("mine")
    model, *data = small_problem()
    shares = [[(x[rank::count], y[rank::count]) for x, y in batches] for batches in data]
    report = rd.diagnose(model, *shares, measures=["participation_ratio", "mean_margin"])
    if rank == 0:
        report.to_json(folder / "report.json")


def test_states_merge_over_processes(mine: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    run_together(report_share, tmp_path, tmp_path)
    found = Report.from_json(tmp_path / "report.json")
    expected = rd.diagnose(*small_problem(), measures=["participation_ratio", "mean_margin"])
    assert found["train.samples"] == 200
    for name in ("train.mean_margin", "test.mean_margin"):
        assert found[name] == pytest.approx(expected[name])
    for own, other in zip(found["layers"], expected["layers"], strict=True):
        assert own["participation_ratio"] == pytest.approx(other["participation_ratio"])


def test_a_measure_may_fill_every_part_of_the_record(registries: None) -> None:
    @measure("parameters_per_layer")
    class PerLayer(Measure):
        """Parameters per layer."""

        def values(self, study: Any) -> Values:
            layers = study.network.layers.chosen
            total = sum(p.numel() for p in study.network.model.parameters())
            return Values(
                sections={"parameters_per_layer": total / len(layers)},
                layers={layers[0].name: {"first": True}},
            )

        def layer_columns(self, record: Any) -> list[Column]:
            return [Column("first?", lambda layer: "yes" if layer.get("first") else None)]

        def sentences(self, record: Any) -> list[str]:
            return [f"{record['parameters_per_layer']:g} parameters per layer."]

    report = rd.diagnose(*small_problem(), measures=["parameters_per_layer"])
    assert report["parameters_per_layer"] == (5 * 8 + 8 + 8 * 4 + 4) / 2
    assert "first?" in str(report)
    assert "42 parameters per layer." in report.sentences()


def test_what_cannot_be_registered(registries: None) -> None:
    def mean(features: torch.Tensor) -> torch.Tensor:
        """Mean feature."""
        return features.mean(dim=1)

    def nameless(features: torch.Tensor) -> torch.Tensor:
        return features.mean(dim=1)

    with pytest.raises(ValueError, match=r"'alignment'.*another"):
        layer_measure("alignment")(mean)
    with pytest.raises(ValueError, match="dot"):
        layer_measure("a.b")(mean)
    with pytest.raises(ValueError, match="docstring"):
        logits_measure("nameless")(nameless)
    layer_measure("mean_feature")(mean)
    layer_measure("mean_feature")(mean)  # as in a cell of a notebook that runs again
    assert available_measures()["mean_feature"] == "Mean feature."


def test_a_detector_does_not_take_anothers_name(mine: ModuleType) -> None:
    detector("feature-norm")(mine.feature_norm)
    with pytest.raises(ValueError, match=r"msp.*another"):
        detector("msp")(mine.feature_norm)
    assert "msp" in rd.diagnostics.detectors()


def test_fields_of_one_name_are_refused(registries: None) -> None:
    @logits_measure("loss")
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Not the loss."""
        return logits[:, 0]

    with pytest.raises(ValueError, match=r"'loss'.*another name"):
        rd.diagnose(*small_problem(), measures=["loss"])


def test_functions_of_the_wrong_shape_are_named(registries: None) -> None:
    @layer_measure("whole")
    def whole(features: torch.Tensor) -> torch.Tensor:
        """One number of all samples."""
        return features.mean()

    with pytest.raises(ValueError, match=r"whole.*\(\).*per sample"):
        rd.diagnose(*small_problem(), measures=["whole"])
