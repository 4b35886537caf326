"""What a report leaves out, and says so."""

import re
from typing import Any

import pytest
import torch
from torch import nn

import rankdeficit as rd
from rankdeficit.diagnostics.report.records import predicted_rank
from rankdeficit.diagnostics.report.verdicts import verdicts
from tests.rankdeficit.diagnostics.diagnose.problems import QUICK, small_problem


def note(report: Any, *parts: str) -> str:
    found = [text for text in report["notes"] if all(part in text for part in parts)]
    assert found, report["notes"]
    return found[0]


def test_ood_data_of_one_class_gives_detection_and_a_note_instead_of_a_drop() -> None:
    model, train, test = small_problem()
    strange = [(torch.randn(50, 5), torch.zeros(50, dtype=torch.int64))]
    report = rd.diagnose(model, train, test, {"one": (strange, strange)})
    assert "one class" in note(report, "probes", " one:")
    assert "auroc" in report["detection.one.msp"]
    assert report["ood_drop"] == {}


def test_classes_without_samples_give_no_neural_collapse_and_a_note() -> None:
    model, train, test = small_problem()
    few = [(x[y < 3], y[y < 3]) for x, y in train]
    report = rd.diagnose(model, few, test, {"other": (None, test)})
    assert report["neural_collapse"] is None
    note(report, "1 of 4 classes")
    assert report["effective_depth.value"] > 0
    assert report["detection.other.mahalanobis.auroc"] == pytest.approx(0.5)


@pytest.mark.parametrize(("seen", "rank"), [(5, 4), (3, 3), (1, 1)])
def test_the_predicted_rank_is_that_of_the_classes_with_samples(seen: int, rank: int) -> None:
    """Logits are 9 at the label and 0 elsewhere: a simplex, of which `seen` vertices have samples."""
    y = torch.arange(40) % 5
    own = {"train": y[y < seen], "test": y}
    logits = {name: 9.0 * nn.functional.one_hot(of, 5).double() for name, of in own.items()}
    report = rd.diagnose_outputs(logits=logits, labels=own, measures=["logits"])
    assert report["train.logits.centred_rank"] == rank == predicted_rank(report.record)
    assert report["test.logits.centred_rank"] == 4 == predicted_rank(report.record, "test")
    (found,) = [own for own in verdicts(report.record) if own.name.startswith("class-centred")]
    assert found.judgement.startswith("no rank deficit")
    assert not [own for own in report.advice() if "collapsed" in own.name]


@pytest.mark.parametrize(
    ("per_class", "dead", "coincident", "empty", "reason"),
    [
        (1, 0, False, ["nc1", "within_to_between", "class_distance_variance"], "NC1 one"),
        (5, 4, False, ["nc1", "equinorm", "mean_cosine_gap", "self_duality"], "NC2 coincide"),
        (5, 0, True, ["class_distance_variance"], "1 pairs"),
    ],
)
def test_numbers_of_neural_collapse_that_few_samples_leave_open_have_a_reason(
    per_class: int, dead: int, coincident: bool, empty: list[str], reason: str
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4))
    if dead:
        nn.init.constant_(model[0].bias, -1e6)
    x, y = torch.randn(4 * per_class, 6), torch.arange(4).repeat(per_class)
    if coincident:
        x[y == 3] = x[y == 2]
    report = rd.diagnose(model, [(x, y)], [(x, y)], probes=False)
    found = report["neural_collapse"]
    for name in ("nc1", "within_to_between", "class_distance_variance", "equinorm",
                 "mean_cosine_gap", "cosine_deviation", "self_duality"):  # fmt: skip
        if name in empty:
            assert found[name] is None
    if not dead:
        assert {name for name, value in found.items() if value is None} == set(empty)
    note(report, *reason.split())


def test_imbalanced_classes_are_told_with_the_largest_and_the_smallest() -> None:
    model, train, test = small_problem()
    x, y = (torch.cat(parts) for parts in zip(*train, strict=True))
    kept = torch.cat([(y == own).nonzero()[:count, 0] for own, count in enumerate((30, 9, 21, 15))])
    text = note(rd.diagnose(model, [(x[kept], y[kept])], test, **QUICK), "train", "imbalanced")
    assert [int(word) for word in re.findall(r"\d+", text)] == [0, 30, 1, 9]
    even = torch.cat([(y == own).nonzero()[:10, 0] for own in range(4)])
    balanced = rd.diagnose(model, [(x[even], y[even])], test, **QUICK)
    assert not [own for own in balanced["notes"] if "train" in own and "imbalanced" in own]


def test_fewer_samples_than_classes_and_more_classes_than_width_are_measured() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 20))
    x, y = torch.randn(12, 5), torch.arange(12)
    report = rd.diagnose(model, [(x, y)], [(x, y)])
    assert report["train.logits.rank"] <= 4
    note(report, "8 of 20 classes")
    full = rd.diagnose(model, *[[(torch.randn(40, 5), torch.arange(40) % 20)]] * 2)
    assert full["neural_collapse.predicted_rank"] == 3


def test_missing_packages_leave_detectors_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model, train, test = small_problem()
    report = rd.diagnose(model, train, test, {"other": (None, test)}, probes=False)
    assert "rankdeficit[ood]" in note(report, "vim")
    assert "neco-resnet" in report["detection.other"]


def test_one_train_sample_has_no_error_of_alignment_and_a_note() -> None:
    model, train, test = small_problem()
    one = [(train[0][0][:1], train[0][1][:1])]
    report = rd.diagnose(model, one, test, measures=["alignment"])
    assert {layer["alignment_error"] for layer in report["layers"]} == {None}
    note(report, "alignment", "two groups")


def test_a_train_set_of_one_class_has_no_probes() -> None:
    model, train, test = small_problem()
    one = [(x, torch.zeros_like(y)) for x, y in train]
    report = rd.diagnose(model, one, test)
    note(report, "probes", " test:")
    assert report["effective_depth"] is None


def test_one_test_sample_leaves_out_only_what_needs_two() -> None:
    model, train, test = small_problem()
    one = [(test[0][0][:1], test[0][1][:1])]
    report = rd.diagnose(model, train, one)
    note(report, "calibration", " test ")
    assert report["calibration"] is None
    assert report["test.samples"] == 1
    assert report["test.logits.rank"] == 1
    assert report["effective_depth.value"] > 0
