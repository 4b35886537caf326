"""Reports as records: names that find values, and files."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit.diagnostics.report import Report, records
from tests.rankdeficit.diagnostics.report.fabricated import Row, changed, rates, record


def test_measures_go_by_dotted_names() -> None:
    report = Report(record())
    assert report["effective_depth.value"] == 0.75
    assert report["test.logits.rank"] == 3
    assert report["layers.layer1.0.conv1.train.rank"] == 59
    assert report["layers.1.train.rank"] == 59
    assert report["layers.layer1.1.conv1.ood_probes.svhn.accuracy"] == 0.5
    assert report["detection.svhn.neco-resnet.auroc"] == 0.815
    assert report["train.logits.rank_curve.0.001"] == 3
    assert report["effective_depth.interval.1"] == 1.0
    assert report["calibration"] == record()["calibration"]
    assert report["layers.stem"] == record()["layers"][0]


def test_a_detector_with_two_names_counts_once() -> None:
    both = changed(
        "detection/svhn", {"neco-deit": rates(0.9), "neco-swin": rates(0.9), "vim": rates(0.5)}
    )
    both["network"]["neco_variant"] = "deit"
    report = Report(both)
    assert records.detectors(report.record) == ["neco-swin", "vim"]
    assert records.default_neco(report.record) == "neco-swin"
    assert report["detection.svhn.neco-swin.dimension"] == 5
    assert "dimension" not in report["detection.svhn.vim"]
    unseen = Report(both | {"neural_collapse": None})
    assert "dimension" not in unseen["detection.svhn.neco-swin"]
    assert "neco-deit" not in str(report)


def test_every_name_leads_to_a_value_of_its_own() -> None:
    report = Report(record())
    names = report.names()
    assert len(set(names)) == len(names) == len(report)
    assert not any(isinstance(report[name], dict) for name in names)
    assert {name.split(".")[0] for name in names} == set(record())
    assert sum(name.startswith("layers.") for name in names) == 4 * len(
        [name for name in names if name.startswith("layers.layer1.0.conv1.")]
    )
    for name in ("layers.layer1.0.conv1.input.rank_curve.0.03", "conditions.seed", "notes"):
        assert name in names


def test_positions_are_not_mistaken_for_layers_called_by_numbers() -> None:
    sequential = record()
    for row, name in zip(sequential["layers"], ("0", "2", "4", "6"), strict=True):
        row["name"] = name
    report = Report(sequential)
    assert report["layers.2.train.rank"] == 59
    assert "layers.1.train.rank" not in report


def test_chance_is_the_share_of_the_largest_class() -> None:
    altered = record() | {"ood": {"svhn": {"samples": 9, "largest_class": 0.2}, "old": {}}}
    altered["train"]["largest_class"] = 0.5
    altered["test"]["largest_class"] = 1
    assert (records.chance(altered, "train"), records.chance(altered)) == (0.5, 1.0)
    assert records.ood_chance(altered, "svhn") == 0.2
    assert records.ood_chance(altered, "old") is None
    assert records.ood_chance(altered, "nowhere") is None


def test_records_without_it_are_of_classes_of_equal_size() -> None:
    for data in ("train", "test"):
        assert records.chance(record(), data) == 1 / 6
    for old in (record(), record() | {"ood": None}):
        assert records.ood_chance(old, "svhn") is None


def test_data_sets_may_have_dots_in_their_names() -> None:
    altered = changed(
        "detection", {"cifar": {"vim": rates(0.1)}, "cifar.10.1": {"vim": rates(0.2)}}
    )
    assert Report(altered)["detection.cifar.10.1.vim.auroc"] == 0.2
    assert Report(altered)["detection.cifar.vim.auroc"] == 0.1


def test_unknown_names_are_answered_with_close_ones() -> None:
    report = Report(record())
    for wrong, right in (
        ("effective_depth.valeu", "effective_depth.value"),
        ("layers.layer1.0.conv2.train.rank", "layers.layer1.0.conv1.train.rank"),
        ("calibratoin", "calibration"),
        ("detection.svhn.neco-resnt", "detection.svhn.neco-resnet"),
        ("zzzzzzzzzzzzzzz", "network"),
    ):
        assert wrong not in report
        with pytest.raises(KeyError, match=right):
            report[wrong]
    assert "test.logits.rank" in report
    assert "test.logits" in report
    assert 3 not in report
    assert report.get("test.nothing", "missing") == "missing"


def test_a_file_brings_the_same_report_back(tmp_path: Path) -> None:
    report = Report(record())
    path = tmp_path / "new" / "report.json"
    assert report.to_json(path) == path
    text = report.to_json()
    assert path.read_bytes() == text.encode()
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]
    again = Report.from_json(path)
    assert again.record == report.record == record()
    assert again.to_json() == text
    assert str(again) == str(report)
    assert again == report


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    report, file = Report(record()), tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=r"folder .*/file\b"):
        report.plot(file)
    with pytest.raises(ValueError, match=r"folder .*file.*another"):
        report.plot(file / "below")
    with pytest.raises(ValueError, match=r"path .*a file"):
        report.to_json(tmp_path)
    with pytest.raises(ValueError, match=r"path .*file.*another"):
        report.to_json(file / "report.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def backwards(node: Any) -> Any:
    """The same dicts, filled in the reverse order."""
    if isinstance(node, dict):
        return {key: backwards(node[key]) for key in reversed(node)}
    return [backwards(item) for item in node] if isinstance(node, list) else node


def test_the_order_of_keys_does_not_count() -> None:
    assert Report(backwards(record())).to_json() == Report(record()).to_json()
    assert str(Report(backwards(record()))) == str(Report(record()))


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(plain_values)
def test_any_plain_values_survive_as_strict_json(value: Any) -> None:
    report = Report(record() | {"extra": value})
    parsed = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert parsed == report.record
    assert Report(parsed).to_json() == report.to_json()


def test_numbers_that_are_not_finite_become_none_and_the_record_is_a_copy() -> None:
    own = record() | {"alignment": math.nan, "odd": (math.inf, -math.inf, 1)}
    report = Report(own)
    assert report["alignment"] is None
    assert report["odd"] == [None, None, 1]
    own["train"]["accuracy"] = 0.0
    assert report["train.accuracy"] == 1.0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"{}", b"\xff\xfe", b'{"network": {"name": 1}}', b"[" * 100_000],
)
def test_files_that_hold_no_report_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"some\.json.*report"):
        Report.from_json(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ValueError, match=f"{path.name}.*read"):
            Report.from_json(path)


@pytest.mark.parametrize(
    ("altered", "match"),
    [
        (changed("network", {}), "no network.name"),
        (changed("test", {}), "no test.samples"),
        (changed("layers", 3), "layers.*int"),
        (changed("layers/1", {"name": "x"}), "layers.1.*features"),
        (changed("conditions", {"temperature": 1.0}), "no conditions.gamma"),
        (changed("alignment", object()), "record.*object"),
    ],
)
def test_bad_records_are_refused(altered: Row, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Report(altered)
