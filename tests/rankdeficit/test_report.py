"""Reports on hand-made records: names, files, text and figures."""

import copy
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from rankdeficit.diagnostics.report import Report, figures

Row = dict[str, Any]
GAMMAS = ("0.0001", "0.001", "0.01", "0.03", "0.1")


def spectrum(rank: int, curve: tuple[int, ...], interval: tuple[int, int] | None = None) -> Row:
    return {
        "rank": rank,
        "rank_interval": list(interval or (rank, rank)),
        "rank_curve": dict(zip(GAMMAS, curve, strict=True)),
        "stable_rank": 1.5,
        "effective_rank": 2.5,
    }


def logits(rank: int, curve: tuple[int, ...], interval: tuple[int, int] | None = None) -> Row:
    kinds = {f"{kind}_rank": rank for kind in ("centred", "post_softmax")}
    curves = {f"{name}_curve": dict(zip(GAMMAS, curve, strict=True)) for name in kinds}
    return {
        **spectrum(rank, curve, interval),
        **kinds,
        **curves,
        "logits_norm": 123.0,
        "effective_logits_norm": 2.46,
        "singular_values": [8.0, 4.0, 2.0, 1.0, 0.5, 1e-9],
    }


def probe(accuracy: float, converged: bool = True) -> Row:
    return {"accuracy": accuracy, "converged": converged, "gradient_norm": 1e-5}


def layer(name: str, number: int, accuracy: float, strange: float) -> Row:
    return {
        "name": name,
        "kind": "convolution",
        "features": 64,
        "train": spectrum(60 - number, (64, 60 - number, 31, 20, 7)),
        "test": spectrum(50 - number, (64, 50 - number, 29, 20, 5)),
        "alignment": 0.25 * (number + 1),
        "alignment_error": 0.0625,
        "gradient": spectrum(11 + number, (20, 11 + number, 8, 5, 3)),
        "input": spectrum(41 + number, (43, 41 + number, 40, 30, 13)),
        "probe": probe(accuracy),
        "ood_probes": {"svhn": probe(strange)},
    }


def interval(value: float, low: float, high: float) -> Row:
    return {"value": value, "interval": [low, high], "level": 0.95, "resamples": 1000}


def rates(auroc: float) -> Row:
    names = ("fpr_id_positive", "fpr_ood_positive", "aupr_id_positive", "aupr_ood_positive")
    return {"auroc": auroc} | dict(zip(names, (0.111, 0.222, 0.333, 0.444), strict=True))


def record() -> Row:
    """Four layers of an interpolating network with 6 classes whose logits have rank 3."""
    data = {"loss": 0.0123, "logits": logits(3, (5, 3, 2, 2, 1))}
    names = ["stem", "layer1.0.conv1", "layer1.1.conv1", "fc"]
    accuracies = zip(names, (0.5, 0.7, 0.95, 0.9), (0.2, 0.6, 0.5, 0.3), strict=True)
    return {
        "network": {
            "name": "Tiny", "layers": 4, "classes": 6, "penultimate_width": 64,
            "neco_variant": "resnet", "parameters": 1234,
        },
        "train": {"samples": 6000, "accuracy": 1.0, **data},
        "test": {"samples": 1000, "accuracy": 0.875, **copy.deepcopy(data)},
        "layers": [layer(name, i, a, b) for i, (name, a, b) in enumerate(accuracies)],
        "penultimate": {"train": spectrum(9, (9, 9, 9, 9, 9))},
        "alignment": 0.625,
        "neural_collapse": {
            "nc1": 0.0517, "retained_rank": 4, "within_to_between": 0.0617,
            "class_distance_variance": 0.0717, "equinorm": 0.0817, "mean_cosine_gap": 0.0917,
            "cosine_deviation": 0.1017, "self_duality": 0.1117,
            "nearest_centre_agreement": 0.987, "predicted_rank": 5, "train_accuracy": 1.0,
        },
        "effective_depth": interval(0.75, 0.5, 1.0),
        "ood_drop": {"svhn": interval(0.5, 0.4375, 0.5625)},
        "detection": {"svhn": {"energy": rates(0.925), "neco-resnet": rates(0.815), "vim": rates(0.7)}},
        "ortho_dev": {"svhn": 0.272},
        "calibration": {
            "before": {"nll": 2.17, "ece": 0.234, "brier": 0.345},
            "after": {"nll": 1.19, "ece": 0.056, "brier": 0.289},
            "temperatures": [6.5, 7.25],
        },
        "notes": ["no Fishing: it was raining"],
        "conditions": {"temperature": 50.0, "gamma": 0.001, "seed": 0},
    }  # fmt: skip


def changed(name: str, value: Any) -> Row:
    """The record with another value at a path of keys."""
    altered = record()
    node: Any = altered
    *path, last = [int(key) if key.isdigit() else key for key in name.split("/")]
    for key in path:
        node = node[key]
    node[last] = value
    return altered


def cells(text: str, first: str) -> list[str]:
    """Cells of the table row that starts with this word."""
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [first]]
    return line.split()


def sentence(report: Report, word: str) -> str:
    (found,) = [text for text in report.sentences() if word in text]
    return found


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
    text = report.to_json(path)
    assert path.read_bytes() == text.encode()
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]
    again = Report.from_json(path)
    assert again.record == report.record == record()
    assert again.to_json() == text
    assert str(again) == str(report)
    assert again == report


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
    with pytest.raises(ValueError, match=r"some\.json is not the file of a report"):
        Report.from_json(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ValueError, match=f"{path.name} cannot be read"):
            Report.from_json(path)


@pytest.mark.parametrize(
    ("altered", "match"),
    [
        (changed("network", {}), "no network.name"),
        (changed("test/logits", None), "no test.logits.rank"),
        (changed("layers", 3), "layers is a int"),
        (changed("layers/1", {"name": "x"}), "layers.1 has no features"),
        (changed("conditions", {"temperature": 1.0}), "no conditions.gamma"),
        (changed("alignment", object()), "not of plain values"),
    ],
)
def test_bad_records_are_refused(altered: Row, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Report(altered)


def test_the_text_has_every_measure() -> None:
    text = str(Report(record()))
    assert max(len(line) for line in text.split("Rank deficit")[0].splitlines()) <= 130
    own = "train 6000 100.0% 0.0123 3 3 3 5 123 2.46 1.5"
    assert own.split() in [line.split() for line in text.splitlines()]
    assert cells(text, "test")[:3] == ["test", "1000", "87.5%"]
    row = "2 layer1.0.conv1 64 59/49 31/29 7/5 0.500 ± 0.062 12/42 70.0% 60.0%"
    assert cells(text, "2") == row.split()
    collapse = "100.0% 4 of 5 0.0517 0.0617 0.0717 0.0817 0.0917 0.102 0.112 98.7%"
    assert cells(text, "100.0%") == collapse.split()
    assert cells(text, "energy") == "energy 0.925 0.111 / 0.222 0.333 / 0.444".split()
    assert cells(text, "neco-resnet")[:3] == ["neco-resnet", "*", "0.815"]
    assert cells(text, "OrthoDev") == ["OrthoDev", "0.272"]
    assert cells(text, "before") == "before 50 2.17 23.4% 0.345".split()
    assert cells(text, "after") == "after 6.5, 7.25 1.19 5.6% 0.289".split()
    assert text.rstrip().endswith("Note: no Fishing: it was raining.")


def test_the_best_detector_comes_first() -> None:
    text = str(Report(record()))
    assert text.index("\n energy") < text.index("\n neco-resnet") < text.index("\n vim")


def test_rich_prints_what_str_has() -> None:
    console = Console(file=io.StringIO(), width=130, color_system=None)
    console.print(Report(record()))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed.split() == str(Report(record())).split()


def test_names_are_no_markup() -> None:
    altered = changed("detection", {"[red]x[/red]": {"vim": rates(0.7)}})
    altered["layers"][0]["name"] = "[bold]stem"
    console = Console(file=io.StringIO(), width=130, color_system=None)
    console.print(Report(altered))
    for text in (str(Report(altered)), console.file.getvalue()):  # type: ignore[attr-defined]
        assert "[bold]stem" in text
        assert text.count("[red]x[/red]") == 4  # three headings and a sentence


SECTIONS = {
    "neural_collapse": ["Neural Collapse, train"],
    "detection": ["OOD detection", "AUROC"],
    "calibration": ["Calibration", "Brier"],
    "effective_depth": ["kappa ="],
    "ood_drop": ["rho ="],
    "notes": ["Note:"],
}


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("absent", ["none", "empty", "left out"])
def test_sections_without_data_do_not_appear(section: str, absent: str) -> None:
    altered = record() | {section: {"none": None, "empty": {}}.get(absent)}
    if section == "detection":
        altered["ortho_dev"] = {}
    if absent == "left out":
        del altered[section]
    whole, text = str(Report(record())), str(Report(altered))
    for word in SECTIONS[section]:
        assert word in whole
        assert word not in text
    assert len(text) < len(whole)


def test_columns_without_data_do_not_appear(tmp_path: Path) -> None:
    bare = record()
    for row in bare["layers"]:
        row |= dict.fromkeys(("alignment", "alignment_error", "gradient", "input", "probe"))
        row["ood_probes"] = {}
    for name in ("effective_depth", "calibration", "neural_collapse"):
        bare[name] = None
    for name in ("ood_drop", "detection", "ortho_dev"):
        bare[name] = {}
    report = Report(bare)
    assert cells(str(report), "2") == "2 layer1.0.conv1 64 59/49 31/29 7/5".split()
    assert len(report.tables()) == 2
    assert [path.stem for path in report.plot(tmp_path)] == [
        "layer_ranks", "logits_ranks", "singular_values",
    ]  # fmt: skip


def with_logits(rank: int, curve: tuple[int, ...], **more: Any) -> Report:
    altered = record()
    altered["train"]["logits"] = logits(rank, curve, more.pop("interval", None)) | more
    return Report(altered)


def test_rank_deficit_is_told_against_neural_collapse_and_over_gamma() -> None:
    curve = (6, 3, 2, 2, 1)
    text = with_logits(3, curve).sentences()[0]
    assert text.startswith("Rank deficit at gamma = 0.001: the train logits have rank 3 (test 3)")
    assert "Neural Collapse predicts 5" in text
    assert "6 at 0.0001, 3 at 0.001, 2 at 0.01, 2 at 0.03, 1 at 0.1; it is below 5" in text
    assert "from gamma = 0.001 on" in text
    full = with_logits(5, (5, 5, 5, 5, 5)).sentences()[0]
    assert full.startswith("No rank deficit")
    assert "below" not in full
    assert "below 5 from gamma = 0.03 on" in with_logits(5, (5, 5, 5, 4, 1)).sentences()[0]
    open_ = with_logits(4, curve, interval=(4, 5)).sentences()[0]
    assert open_.startswith("Rounding leaves open")
    assert "rank 4 (4-5)" in open_
    assert with_logits(4, curve, interval=(3, 4)).sentences()[0].startswith("Rank deficit")
    shifted = with_logits(5, (6, 5, 5, 5, 5), centred_rank=4).sentences()[0]
    assert "Centred over classes, which is all the softmax sees of them, it is 4" in shifted


def test_a_narrow_network_is_held_to_its_width() -> None:
    altered = changed("network/penultimate_width", 3)
    assert Report(altered).sentences()[0].startswith("No rank deficit")
    assert "predicts 3" in Report(altered).sentences()[0]


def test_doubtful_ranks_are_called_doubtful() -> None:
    assert "do not interpolate" not in str(Report(record()))
    assert "Train accuracy is 62.5%: of networks that do not interpolate" in str(
        Report(changed("train/accuracy", 0.625))
    )
    assert "Too few train samples (5)" in str(Report(changed("train/samples", 5)))


def test_effective_depth_names_its_layer() -> None:
    text = sentence(Report(record()), "kappa =")
    assert "kappa = 0.75 (95% interval 0.5-1): layer 3 of 4, layer1.1.conv1" in text
    assert "the last layer's accuracy (90.0%)" in text
    assert "layer1.1.conv1 has 95.0%, so kappa is measured against a low bar" in text
    assert text.endswith("against the best layer's it is 0.75.")
    rising = sentence(Report(changed("layers/2/probe/accuracy", 0.9)), "kappa =")
    assert "low bar" not in rising


@pytest.mark.parametrize(
    ("accuracy", "samples", "warned"),
    [(0.20, 1000, True), (0.20, 100_000, True), (0.30, 1000, False), (0.30, 30, True)],
)
def test_effective_depth_of_guessing_probes_is_called_meaningless(
    accuracy: float, samples: int, warned: bool
) -> None:
    altered = changed("layers/3/probe/accuracy", accuracy)
    altered["test"]["samples"] = samples
    text = sentence(Report(altered), "kappa =")
    assert ("hardly beats guessing (16.7%)" in text) == warned


def test_drop_and_detection_are_told_per_data_set() -> None:
    report = Report(record())
    assert sentence(report, "rho =") == (
        "svhn: OOD drop rho = 0.5 (95% interval 0.438-0.562); on its labels the last layer's probe "
        "has 30.0%, the best one (layer1.0.conv1) 60.0%."
    )
    assert sentence(report, "AUROC") == (
        "svhn: told from ID samples best by energy, AUROC 0.925 (where 95% of ID samples are "
        "accepted, so are 11.1% of OOD ones); NECO (neco-resnet) has 0.815."
    )
    hopeless = Report(changed("detection", {"svhn": {"vim": rates(0.45)}}))
    assert "no detector beats guessing, the best AUROC is 0.450 (vim)" in str(hopeless)


def test_probes_that_have_not_converged_are_named() -> None:
    assert "converge (" not in str(Report(record()))
    altered = changed("layers/1/probe/converged", False)
    altered["layers"][3]["ood_probes"]["svhn"]["converged"] = False
    report = Report(altered)
    assert "1 of 4 probes on ID data did not converge (layer1.0.conv1)" in str(report)
    assert "1 of 4 probes on svhn data did not converge (fc)" in str(report)
    assert "70.0%*" in cells(str(report), "2")


def large(sets: int) -> Row:
    """Fifty layers with long names, and many OOD data sets."""
    names = [f"data set {number}" for number in range(sets)]
    own = record()
    own["layers"] = [
        layer(f"encoder.layers.encoder_layer_{i}.self_attention.out_proj", i % 40, 0.9, 0.5)
        | {"ood_probes": dict.fromkeys(names, probe(0.5))}
        for i in range(50)
    ]
    own["detection"] = dict.fromkeys(names, record()["detection"]["svhn"])
    return own


@pytest.mark.parametrize("sets", [1, 3, 5])
def test_large_tables_keep_their_columns(sets: int) -> None:
    text = str(Report(large(sets)))
    tables = text.split("Rank deficit")[0]
    assert max(map(len, tables.splitlines())) <= 130
    assert tables.count(" energy ") == -(-sets // 2)
    assert tables.count("0.925") == sets
    assert cells(tables, "50")[-sets - 1 :] == ["90.0%"] + ["50.0%"] * sets


def lines(figure: Figure, panel: int = 0) -> dict[str, tuple[list[float], list[float]]]:
    """Line data by label."""
    found = figure.axes[panel].get_lines()
    return {
        str(line.get_label()): (
            list(np.asarray(line.get_xdata())),
            list(np.asarray(line.get_ydata())),
        )
        for line in found
    }


def drawn(draw: Callable[[Row], Figure | None], own: Row | None = None) -> Figure:
    figure = draw(own or record())
    assert figure is not None
    return figure


def test_the_probe_figure_has_accuracies_and_effective_depth() -> None:
    figure = drawn(figures.probe_accuracies)
    found = lines(figure)
    assert found["ID"] == ([1, 2, 3, 4], [0.5, 0.7, 0.95, 0.9])
    assert found["OOD: svhn"] == ([1, 2, 3, 4], [0.2, 0.6, 0.5, 0.3])
    assert found["κ = 0.75"][0] == [3, 3]
    spans = {patch.get_label(): patch.get_extents().transformed(figure.axes[0].transData.inverted())
             for patch in figure.axes[0].patches}  # fmt: skip
    assert [spans["95% interval of κ"].x0, spans["95% interval of κ"].x1] == pytest.approx([2, 4])
    band = spans["99%-100% of the last layer's"]
    assert [band.y0, band.y1] == pytest.approx([0.891, 0.9])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["stem  1", "layer1.0.conv1  2", "layer1.1.conv1  3", "fc  4"]


def test_the_rank_figures_have_ranks_by_layer() -> None:
    found = lines(drawn(figures.layer_ranks))
    assert found["train, γ = 0.001"] == ([1, 2, 3, 4], [60, 59, 58, 57])
    assert found["test, γ = 0.001"][1] == [50, 49, 48, 47]
    assert found["train, γ = 0.01"][1] == [31] * 4
    assert found["test, γ = 0.1"][1] == [5] * 4
    assert found["features"][1] == [64] * 4
    found = lines(drawn(figures.gradient_ranks))
    assert found["gradient of the loss"][1] == [11, 12, 13, 14]
    assert found["layer's input"][1] == [41, 42, 43, 44]


def test_the_alignment_figure_has_error_bars_and_gaps() -> None:
    altered = record()
    altered["layers"][2] |= {"alignment": None, "alignment_error": None}
    axes = drawn(figures.alignments, altered).axes[0]
    (bars,) = axes.containers
    values = bars.lines[0].get_ydata()  # type: ignore[attr-defined]
    np.testing.assert_equal(np.array(values, dtype=float), [0.25, 0.5, np.nan, 1.0])
    segments = bars.lines[2][0].get_segments()  # type: ignore[attr-defined]
    assert segments[1].tolist() == [[2, 0.4375], [2, 0.5625]]
    mean = {line.get_label(): line for line in axes.get_lines()}["mean: 0.583"]
    assert np.asarray(mean.get_ydata())[0] == pytest.approx(7 / 12)


def test_the_logits_figures_have_curves_and_the_prediction() -> None:
    altered = record()
    altered["conditions"]["gamma"] = 0.02
    altered["train"]["logits"] |= {"rank": 4, "centred_rank": 1}
    figure = drawn(figures.logits_ranks, altered)
    found = lines(figure)
    assert found["logits"] == ([1e-4, 1e-3, 0.01, 0.02, 0.03, 0.1], [5, 3, 2, 4, 2, 1])
    assert found["centred"][1] == [5, 3, 2, 1, 2, 1]
    assert found["Neural Collapse: 5"][1] == [5, 5]
    assert lines(figure, 1)["after the softmax"][1] == [5, 3, 2, 3, 2, 1]
    found = lines(drawn(figures.singular_values))
    assert found["train"] == ([1, 2, 3, 4, 5, 6], [1, 0.5, 0.25, 0.125, 0.0625, 1.25e-10])
    assert found["γ = 0.001"][1] == [0.001, 0.001]
    assert found["Neural Collapse: 5"][0] == [5, 5]


def test_the_detection_figure_has_a_point_per_detector_and_data_set() -> None:
    altered = record()
    altered["detection"]["noise"] = {"vim": rates(0.99)}
    axes = drawn(figures.detection, altered).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["neco-resnet *", "vim", "energy"]
    points = {
        str(line.get_label()): list(np.asarray(line.get_xdata())) for line in axes.get_lines()
    }
    assert points["svhn"] == [0.815, 0.7, 0.925]
    np.testing.assert_equal(points["noise"], [np.nan, 0.99, np.nan])


def test_the_calibration_figure_has_both_sides() -> None:
    heights = [
        [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
        for axes in drawn(figures.calibration).axes
    ]
    assert heights == [[2.17, 1.19], [0.234, 0.056], [0.345, 0.289]]


@pytest.mark.parametrize("own", [record(), large(3)], ids=["small", "large"])
def test_all_figures_are_written_and_nothing_else(tmp_path: Path, own: Row) -> None:
    paths = Report(own).plot(tmp_path / "figures")
    assert [path.stem for path in paths] == list(figures.FIGURES)
    assert sorted(paths) == sorted((tmp_path / "figures").iterdir())
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"


def test_a_network_with_zero_logits_and_no_layers_is_still_reported(tmp_path: Path) -> None:
    dead = changed("layers", [])
    for data in ("train", "test"):
        dead[data]["logits"] = logits(0, (0,) * 5) | {"singular_values": [0.0] * 6}
    dead |= {"effective_depth": None, "ood_drop": {}}
    report = Report(dead)
    assert report.sentences()[0].startswith("Rank deficit")
    assert {path.stem for path in report.plot(tmp_path)} == {
        "logits_ranks", "detection", "calibration",
    }  # fmt: skip
    assert "Tiny: 0 layers" in repr(report)
    assert "Tiny: 0 layers" in str(report)
