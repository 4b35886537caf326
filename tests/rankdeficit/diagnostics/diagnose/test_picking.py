"""Measures picked by name: what is not asked for is neither read nor computed."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import rankdeficit as rd
from rankdeficit.diagnostics import available_measures
from rankdeficit.diagnostics.measures import gradients, layer_probes
from rankdeficit.diagnostics.reading.store import RowStore
from rankdeficit.diagnostics.registry import all_measures, with_required
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.states.alignment import InputDirections
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics
from rankdeficit.diagnostics.states.logits import LogitsStatistics
from rankdeficit.gram import Gram
from tests.rankdeficit.diagnostics.diagnose.problems import differences, measures, small_problem

WORK: dict[str, tuple[Any, str]] = {
    "alignment": (InputDirections, "update"),
    "classes": (ClassStatistics, "update"),
    "logits": (LogitsStatistics, "update"),
    "spectra": (Gram, "update"),
    "gradients": (gradients, "gradient_spectra"),
    "probes": (layer_probes, "probe_layers"),
    "kept rows": (RowStore, "append"),
}

NEEDED = {
    "logits": {"logits", "spectra"},
    "rank_sampling": {"kept rows"},
    "layer_ranks": {"spectra"},
    "penultimate": {"spectra"},
    "alignment": {"alignment"},
    "gradient_ranks": {"gradients", "spectra"},
    "attention": set(),
    "effective_depth": {"probes", "kept rows"},
    "ood_drop": {"probes", "kept rows"},
    "probes": {"probes", "kept rows"},
    "ood_probes": {"probes", "kept rows"},
    "neural_collapse": {"classes", "kept rows"},
    "detection": {"classes", "kept rows"},
    "ortho_dev": {"classes", "kept rows"},
    "calibration": {"kept rows"},
    "reliability": {"kept rows"},
    "correctness": set(),
}
"""Work of each measure: logits are streamed in Gram matrices, and so are inputs beside gradients."""


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Calls of what measures are made of."""
    counts: Counter[str] = Counter()

    def watched(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return function(*args, **kwargs)

        return call

    for name, (owner, attribute) in WORK.items():
        monkeypatch.setattr(owner, attribute, watched(name, getattr(owner, attribute)))
    return counts


def test_every_measure_is_known_here() -> None:
    assert set(NEEDED) == set(available_measures())


@pytest.fixture(scope="module")
def whole() -> Report:
    """A report of all measures."""
    model, train, test = small_problem()
    return rd.diagnose(model, train, test, {"other": (train, test)})


def test_all_measures_need_all_work(work: Counter[str]) -> None:
    model, train, test = small_problem()
    rd.diagnose(model, train, test, {"other": (train, test)})
    assert set(work) == set(WORK)


@pytest.mark.parametrize("name", NEEDED)
def test_only_what_a_measure_needs_is_done(name: str, whole: Report, work: Counter[str]) -> None:
    model, train, test = small_problem()
    report = rd.diagnose(model, train, test, {"other": (train, test)}, measures=[name])
    assert {key for key in work if work[key]} == NEEDED[name]
    taken = {own.name for own in with_required([name])}
    for own in all_measures():
        for section, blank in own.blank.sections.items():
            if own.name in taken:
                assert not list(differences(report[section], whole[section]))
            else:
                assert report[section] == blank
    assert report["test.accuracy"] == whole["test.accuracy"]
    assert report["train.loss"] == whole["train.loss"]


def test_no_measures_are_a_pass_for_accuracy_and_loss(work: Counter[str], tmp_path: Path) -> None:
    model, train, test = small_problem()
    report = rd.diagnose(model, train, test, {"other": (train, test)}, measures=[])
    assert not work
    assert report["test.samples"] == 80
    assert "layer" in str(report)
    assert not report.plot(tmp_path)


def test_data_sets_that_no_measure_needs_are_not_read() -> None:
    model, train, test = small_problem()

    def refuse() -> Any:
        raise AssertionError("read")
        yield

    ood = {"other": (refuse(), refuse())}
    rd.diagnose(model, train, test, ood, measures=["alignment", "calibration", "effective_depth"])
    rd.diagnose(model, train, test, {"other": (refuse(), test)}, measures=["ortho_dev"])
    with pytest.raises(AssertionError):
        rd.diagnose(model, train, test, ood, measures=["ood_drop"])


def test_what_a_measure_requires_comes_with_it() -> None:
    model, train, test = small_problem()
    report = rd.diagnose(model, train, test, {"o": (train, test)}, measures=["effective_depth"])
    assert report["effective_depth.value"] > 0
    assert all(layer["probe"]["accuracy"] > 0 for layer in report["layers"])
    assert not any(layer["ood_probes"] for layer in report["layers"])
    names = [own.name for own in with_required(["ood_drop", "effective_depth"])]
    assert names.index("probes") < names.index("effective_depth")
    assert names.index("ood_probes") < names.index("ood_drop")


def test_all_names_are_the_default_and_order_does_not_count() -> None:
    model, train, test = small_problem()
    default = measures(rd.diagnose(model, train, test, {"o": (train, test)}))
    names = list(available_measures())[::-1]
    assert (
        measures(rd.diagnose(model, train, test, {"o": (train, test)}, measures=names)) == default
    )


def test_switches_leave_out_what_requires_them() -> None:
    model, train, test = small_problem()
    report = rd.diagnose(model, train, test, probes=False, gradients=False)
    assert report["effective_depth"] is None
    assert report["layers"][0]["gradient"] is None
    assert report["layers"][0]["alignment"] > 0
    assert rd.diagnose(model, train, test, probes=False, alignment=False)["alignment"] is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"measures": ["alignmnet"]}, "'alignmnet'.*close names.*alignment"),
        ({"measures": ["kappa"]}, "kappa.*calibration|kappa.*effective_depth"),
        ({"measures": "alignment"}, r"list.* \['alignment'\]"),
        ({"measures": ["effective_depth"], "probes": False}, "probes.*False"),
        ({"measures": ["gradient_ranks"], "gradients": False}, "gradients.*False"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_choices_are_named(options: dict[str, Any], match: str) -> None:
    model, train, test = small_problem()
    with pytest.raises(ValueError, match=match):
        rd.diagnose(model, train, test, **options)


def test_partial_reports_are_shown_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their figures are made; test_figures.py saves them."""
    monkeypatch.setattr("rankdeficit.diagnostics.report.outputs.save", lambda figure, path: None)
    model, train, test = small_problem()
    for name in available_measures():
        report = rd.diagnose(model, train, test, {"o": (train, test)}, measures=[name])
        path = tmp_path / f"{name}.json"
        report.to_json(path)
        again = rd.diagnostics.Report.from_json(path)
        assert again == report
        assert len(again.sentences()) >= 1
        drawn = {path.stem for path in again.plot(tmp_path / name)}
        taken = with_required([name])
        figures = {figure for own in taken for figure, _ in own.figures}
        assert drawn <= figures | {"probe_accuracies" for own in taken if own.name == "ood_probes"}
        shown = str(again)
        assert ("kappa" in shown) == (name == "effective_depth")
        assert ("Brier" in shown) == (name == "calibration")
        assert ("rank at" in shown) == (name == "layer_ranks")


def test_a_listing_has_a_line_for_each() -> None:
    for name, line in available_measures().items():
        assert name == name.strip() != ""
        assert line.endswith(".")
        assert "\n" not in line


def test_the_width_of_a_layer_is_known_only_where_it_is_read() -> None:
    model, train, test = small_problem()
    assert rd.diagnose(model, train, test, measures=[])["layers"][0]["features"] is None
    found = rd.diagnose(model, train, test, measures=["layer_ranks"])["layers"]
    assert [layer["features"] for layer in found] == [8, 4]
