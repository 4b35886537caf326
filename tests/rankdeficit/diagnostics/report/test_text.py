"""Reports as text: tables and sentences."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rankdeficit.diagnostics.report import Report
from tests.rankdeficit.diagnostics.report.fabricated import changed, large, logits, rates, record


def cells(text: str, first: str) -> list[str]:
    """Cells of the table row that starts with this word."""
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [first]]
    return line.split()


def sentence(report: Report, word: str) -> str:
    (found,) = [text for text in report.sentences() if word in text]
    return found


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
    assert cells(text, "neco-resnet")[:6] == "neco-resnet (d = 9) * 0.815".split()
    assert ["svhn", "0.272"] in [line.split() for line in text.splitlines()]
    assert cells(text, "before") == "before 50 2.17 23.4% 0.345".split()
    assert cells(text, "after") == "after 6.5, 7.25 1.19 5.6% 0.289".split()
    told, _, advised = text.partition("\nWhat to try\n")
    assert told.rstrip().endswith("Note: no Fishing: it was raining.")
    found = [line.removeprefix("- ").split(":")[0] for line in advised.splitlines()]
    assert found == [own.name for own in Report(record()).advice()]


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
    for name in ("effective_depth", "attention", "calibration", "reliability", "neural_collapse"):
        bare[name] = None
    for name in ("ood_drop", "detection", "ortho_dev"):
        bare[name] = {}
    bare["train"]["rank_sampling"] = None
    report = Report(bare)
    assert cells(str(report), "2") == "2 layer1.0.conv1 64 59/49 31/29 7/5".split()
    assert len(report.tables()) == 2
    assert [path.stem for path in report.plot(tmp_path)] == [
        "logits_ranks", "singular_values", "layer_ranks",
    ]  # fmt: skip


def test_ranks_over_samples_have_a_table_and_a_warning_where_they_grow() -> None:
    report = Report(record())
    table = str(report).partition("Ranks over samples")[2]
    assert cells(table, "matrix") == "matrix 3 2–3 3000".split()
    assert cells(table, "class-centred") == "class-centred 3 3–3 not yet".split()
    assert any("has not settled" in own and "3000" in own for own in report.sentences())


def with_logits(rank: int, curve: tuple[int, ...], **more: Any) -> Report:
    altered = record()
    altered["train"]["logits"] = logits(rank, curve, more.pop("interval", None)) | more
    return Report(altered)


def test_rank_deficit_is_told_against_neural_collapse_and_over_gamma() -> None:
    curve = (6, 3, 2, 2, 1)
    text = with_logits(3, curve).sentences()[0]
    assert text.startswith("Rank deficit ")
    assert "rank 3 (test 3)" in text
    assert "predicts 5" in text
    assert "6 at 0.0001, 3 at 0.001, 2 at 0.01, 2 at 0.03, 1 at 0.1" in text
    assert "below 5" in text
    assert "gamma = 0.001 on" in text
    full = with_logits(5, (5, 5, 5, 5, 5)).sentences()[0]
    assert full.startswith("No rank deficit")
    assert "below" not in full
    assert re.search(r"below 5.*gamma = 0\.03", with_logits(5, (5, 5, 5, 4, 1)).sentences()[0])
    open_ = with_logits(4, curve, interval=(4, 5)).sentences()[0]
    assert open_.startswith("Rounding leaves open")
    assert "rank 4 (4-5)" in open_
    assert with_logits(4, curve, interval=(3, 4)).sentences()[0].startswith("Rank deficit")


def test_the_verdict_is_that_of_centred_logits() -> None:
    """A common direction of all logits raises the raw rank to c or lowers it below c - 1."""
    full, lacking = (6, 6, 6, 6, 6), (5, 5, 5, 5, 5)
    hidden = with_logits(6, full, centred_rank=4, centred_rank_interval=[4, 4]).sentences()[0]
    assert hidden.startswith("Rank deficit")
    assert "rank 4 (test 3)" in hidden
    assert "6 (test 3)" in hidden
    curve = dict(zip(("0.0001", "0.001", "0.01", "0.03", "0.1"), lacking, strict=True))
    masked = with_logits(
        2, (3, 2, 2, 1, 1), centred_rank=5, centred_rank_interval=[5, 5], centred_rank_curve=curve
    )
    assert masked.sentences()[0].startswith("No rank deficit")
    old = record()
    for name in ("centred_rank", "centred_rank_interval", "centred_rank_curve"):
        for data in ("train", "test"):
            del old[data]["logits"][name]
    assert Report(old).sentences()[0].startswith("Rank deficit")


def test_a_narrow_network_is_held_to_its_width() -> None:
    altered = changed("network/penultimate_width", 3)
    assert Report(altered).sentences()[0].startswith("No rank deficit")
    assert "predicts 3" in Report(altered).sentences()[0]


def test_intervals_are_explained_where_there_are_any() -> None:
    assert "Intervals are" in str(Report(record()))
    assert "Intervals are" in str(Report(record() | {"effective_depth": None}))
    assert "Intervals are" not in str(Report(record() | {"effective_depth": None, "ood_drop": {}}))


def test_doubtful_ranks_are_called_doubtful() -> None:
    assert "interpolate" not in str(Report(record()))
    for accuracy, told in ((0.625, "62.5%"), (0.9985, "99.85%")):
        text = str(Report(changed("train/accuracy", accuracy)))
        assert text.count("interpolate") == 1
        assert told in text
    bare = changed("train/accuracy", 0.625) | {"neural_collapse": None}
    assert "interpolate" in str(Report(bare))
    bare["train"]["logits"] = None
    assert "interpolate" not in str(Report(bare))
    assert "interpolate" not in str(Report(changed("train/accuracy", 0.999)))
    assert "samples (5)" in str(Report(changed("train/samples", 5)))


def test_effective_depth_names_its_layer() -> None:
    text = sentence(Report(record()), "kappa =")
    assert 'kappa = 0.75 (95% interval 0.5-1): layer 3 of 4, "layer1.1.conv1"' in text
    assert "accuracy (90.0%)" in text
    assert re.search(r'"layer1\.1\.conv1".* 95\.0%.*low bar', text)
    assert re.search(r" 95\.0%.* 0\.75\.$", text)
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
    assert ("guessing (16.7%)" in text) == warned


@pytest.mark.parametrize(("largest", "warned"), [(0.88, True), (0.7, False), (None, False)])
def test_effective_depth_is_held_to_the_largest_class(largest: float | None, warned: bool) -> None:
    altered = record()
    if largest is not None:
        altered["test"]["largest_class"] = largest
    text = sentence(Report(altered), "kappa =")
    assert ("guessing (88.0%)" in text) == warned
    assert ("low bar" in text) != warned


@pytest.mark.parametrize(
    ("largest", "samples", "warned"),
    [(0.58, 1000, True), (0.4, 1000, False), (0.52, 50, True), (0.3, 10_000, False)],
)
def test_the_drop_of_guessing_probes_is_called_meaningless(
    largest: float, samples: int, warned: bool
) -> None:
    """The best layer's probe has 60 %."""
    told = {"svhn": {"samples": samples, "largest_class": largest}}
    text = sentence(Report(record() | {"ood": told}), "rho =")
    assert text.startswith(sentence(Report(record()), "rho =").removesuffix("."))
    assert (f"guessing ({largest:.1%})" in text) == warned
    assert ("guessing" in text) == warned


def test_drop_and_detection_are_told_per_data_set() -> None:
    report = Report(record())
    numbers = re.findall(r"[\d.]*\d%?", sentence(report, "rho =").replace("layer1.0.conv1", ""))
    assert numbers == "0.5 95% 0.438 0.562 30.0% 60.0%".split()
    assert '"layer1.0.conv1"' in sentence(report, "rho =")
    told = sentence(report, "AUROC")
    assert re.findall(r"[\d.]*\d%?", told) == "0.925 95% 11.1% 9 0.815".split()
    assert told.index("svhn") < told.index("energy") < told.index("neco-resnet (d = 9)")
    hopeless = Report(changed("detection", {"svhn": {"vim": rates(0.45)}}))
    assert re.search(r"guessing.* 0\.450 \(vim\)", str(hopeless))


def test_probes_that_have_not_converged_are_named() -> None:
    assert "converge (" not in str(Report(record()))
    altered = changed("layers/1/probe/converged", False)
    altered["layers"][3]["ood_probes"]["svhn"]["converged"] = False
    report = Report(altered)
    own, other = (line for line in report.sentences() if "converge" in line)
    assert all(word in own for word in ("1 of 4", " ID ", '("layer1.0.conv1")'))
    assert all(word in other for word in ("1 of 4", " svhn ", '("fc")'))
    assert "70.0%*" in cells(str(report), "2")


@pytest.mark.parametrize("sets", [1, 3, 5])
def test_large_tables_keep_their_columns(sets: int) -> None:
    text = str(Report(large(sets)))
    tables = text.split("Rank deficit")[0]
    assert max(map(len, tables.splitlines())) <= 130
    assert tables.count(" energy ") == -(-sets // 2)
    assert tables.count("0.925") == sets
    assert cells(tables, "50")[-sets - 1 :] == ["90.0%"] + ["50.0%"] * sets
