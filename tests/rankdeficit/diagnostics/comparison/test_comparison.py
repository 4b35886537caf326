"""Comparisons of reports: differences, paired tests where samples are the same, and bad input."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rankdeficit as rd
from rankdeficit.diagnostics import ProbeSettings, Report
from rankdeficit.diagnostics.comparison import Comparison, compare
from rankdeficit.diagnostics.comparison.__main__ import Settings, run
from rankdeficit.diagnostics.comparison.differences import paired_bootstrap
from rankdeficit.diagnostics.comparison.figures import drawings
from rankdeficit.diagnostics.measures.correctness import pack
from rankdeficit.diagnostics.measures.depth import ood_drop
from rankdeficit.diagnostics.measures.detection import detection, placements
from rankdeficit.diagnostics.measures.pairing import pack_means
from rankdeficit.diagnostics.report.intervals import wilson
from tests.rankdeficit.diagnostics.diagnose.problems import blobs
from tests.rankdeficit.diagnostics.report.fabricated import Row, changed, record
from tests.rankdeficit.page.test_page import read


def told(wrong: range, samples: str = "same", **changes: object) -> Row:
    """A record of 1,000 test samples of which those of the range are misclassified."""
    correct = np.ones(1000, dtype=bool)
    correct[list(wrong)] = False
    own = record() | {"correctness": {"samples": samples, "bits": pack(correct)}} | changes
    own["test"]["accuracy"] = float(correct.mean())
    return own


def other() -> Row:
    """Right on 5 samples where `told(range(10))` is wrong, wrong on 1 where that is right."""
    own = told(range(5, 11), alignment=0.75, ortho_dev={"svhn": 0.25})
    own["conditions"] = own["conditions"] | {"temperature": 1.0}
    own["effective_depth"] = {"value": 1.0, "interval": [1.0, 1.0], "level": 0.95, "resamples": 9}
    return own


@pytest.fixture(scope="module")
def both() -> Comparison:
    return compare(Report(told(range(10))), Report(other()))


def test_the_paired_test_is_exact(both: Comparison) -> None:
    """5 against 1 disagreements: p = 2 (1 + 6) / 2^6."""
    found = both.differences()["test.accuracy"]
    assert found.value == pytest.approx(0.004)
    assert found.p == pytest.approx(7 / 32)
    assert found.interval is not None
    assert found.interval.low < 0.004 < found.interval.high


def test_differences_are_second_less_first(both: Comparison) -> None:
    first, second = Report(both.records[0]), Report(both.records[1])
    found = both.differences()
    assert found["alignment"].value == 0.125
    assert found["effective_depth.value"].interval == pytest.approx((0.0, 0.5))
    assert found["effective_depth.value"].p is None
    for name, own in found.items():
        assert own.value == second[name] - first[name]
    mirrored = compare(second, first).differences()
    assert mirrored["test.accuracy"].p == found["test.accuracy"].p
    assert all(mirrored[name].value == -own.value for name, own in found.items())
    assert all(own.value == 0 for own in compare(first, first).differences().values())


@pytest.mark.parametrize("samples", ["others", None])
def test_other_samples_are_compared_without_pairs(samples: str | None) -> None:
    strange = told(range(20), samples="others") if samples else told(range(20), correctness=None)
    comparison = compare(Report(told(range(10))), Report(strange))
    found = comparison.differences()["test.accuracy"]
    assert (found.p, found.method) == (None, "unpaired")
    first, second = wilson(0.99, 1000), wilson(0.98, 1000)
    low = -0.01 - ((0.98 - second.low) ** 2 + (first.high - 0.99) ** 2) ** 0.5
    assert found.interval is not None
    assert found.interval.low == pytest.approx(low)
    assert "independent" in comparison.sentences()[0]


def detected(scores: tuple[torch.Tensor, torch.Tensor], samples: str = "same") -> Row:
    """A record with the AUROC of these scores of ID and OOD samples."""
    of_id, of_ood = placements(*scores)
    kept = {"samples": samples, "vim": {"id": pack_means(of_id), "ood": pack_means(of_ood)}}
    row = detection(*scores)._asdict()
    return record() | {"detection": {"svhn": {"vim": row}}, "placements": {"svhn": kept}}


def test_paired_aurocs_have_delongs_variance() -> None:
    """Of all samples, where the groups hold 100: var(V10) / n + var(V01) / m of the differences."""
    generator = torch.Generator().manual_seed(0)
    own, ood = torch.randn(2, 10_000, generator=generator).double()
    noise = torch.randn(2, 10_000, generator=generator).double()
    scores = (own, ood + 1), (own + 0.3 * noise[0], ood + 1 + 0.3 * noise[1])
    first, second = (placements(*each) for each in scores)
    value = float(second[1].mean() - first[1].mean())
    assert detection(*scores[0]).auroc == pytest.approx(float(first[0].mean()), abs=1e-12)
    error = sum(float((b - a).var()) / 10_000 for a, b in zip(first, second, strict=True)) ** 0.5
    reports = [Report(detected(each)) for each in scores]
    found = compare(*reports).differences()["detection.svhn.vim.auroc"]
    assert found.method == "paired, DeLong"
    assert found.interval is not None
    assert found.p is not None
    assert found.value == pytest.approx(value)
    assert (found.interval.high - found.interval.low) / 2 == pytest.approx(1.98 * error, rel=0.2)
    assert (found.p < 0.05) == (abs(value) > found.interval.high - value)
    strange = compare(reports[0], Report(detected(scores[1], "others"))).differences()
    assert strange["detection.svhn.vim.auroc"].method == "unpaired"


def test_networks_on_the_same_batches_are_paired_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 3, generator=generator), torch.arange(40) % 2
    models = [nn.Linear(3, 2), nn.Linear(3, 2)]
    with torch.no_grad():
        for i, model in enumerate(models):
            model.weight.copy_(torch.tensor([[0.0, 0, 0], [1.0, i, 0]]))
            model.bias.zero_()
    shuffled = torch.randperm(40, generator=generator)
    tests = [[(x, y)], [(x[shuffled], y[shuffled])]]
    reports = [
        rd.diagnose(model, [(x, y)], test, measures=["correctness"], network_name=name)
        for model, test, name in zip(models, tests, "ab", strict=True)
    ]
    right = [model(x).argmax(1) == y for model in models]
    found = compare(*reports).sentences()[0]
    numbers = [int(n) for n in re.findall(r"on (\d+)", found)]
    assert numbers == [int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())]
    moved = rd.diagnose(models[1], [(x, y)], [(x + 1, y)], measures=["correctness"])
    assert compare(reports[0], moved).differences()["test.accuracy"].p is None


def test_the_paired_bootstrap_has_the_spread_of_the_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(2, 4000, generator=generator) < 0.7
    second = first ^ (torch.rand(2, 4000, generator=generator) < 0.02)
    found = paired_bootstrap(first, second, lambda accuracies: accuracies[:, -1])
    gaps = second[1].double() - first[1].double()
    half = 1.96 * float(gaps.std()) / 4000**0.5
    assert found.low == pytest.approx(float(gaps.mean()) - half, abs=0.15 * half)
    assert found.high == pytest.approx(float(gaps.mean()) + half, abs=0.15 * half)
    assert paired_bootstrap(first, first, ood_drop) == (0, 0)


def test_depths_and_drops_on_the_same_samples_are_compared_in_pairs() -> None:
    torch.manual_seed(0)
    (x, y), (other, own) = blobs(90, torch.randn(3, 4), 1.0), blobs(60, torch.randn(3, 4), 1.5)
    models = [
        nn.Sequential(nn.Linear(4, w), nn.Tanh(), nn.Linear(w, 2), nn.Tanh(), nn.Linear(2, 3))
        for w in (2, 6)
    ]
    order = torch.randperm(90)
    tests = [[(x, y)], [(x[order], y[order])]]
    wanted = {"measures": ["effective_depth", "ood_drop"], "probes": ProbeSettings(resamples=50)}
    reports = [
        rd.diagnose(model, [(x, y)], test, {"o": ([(other, own)], [(other, own)])}, **wanted)
        for model, test in zip(models, tests, strict=True)
    ]
    found = compare(*reports).differences()
    for name in ("effective_depth.value", "ood_drop.o.value"):
        assert found[name].method == "paired, bootstrap"
        assert found[name].interval.low <= found[name].value <= found[name].interval.high
    strange = rd.diagnose(models[1], [(x, y)], [(x + 1, y)], **wanted)
    moved = compare(reports[0], strange).differences()
    assert moved["effective_depth.value"].method == "unpaired"


def test_a_table_has_all_differences(both: Comparison, tmp_path: Path) -> None:
    path = both.to_csv(tmp_path / "new" / "comparison.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    name = both.names[1]
    found = both.differences()
    assert {key for key, row in rows.items() if row[f"difference: {name}"]} == set(found)
    assert float(rows["test.accuracy"][f"p: {name}"]) == pytest.approx(7 / 32)
    assert "layers.stem.train.rank" in rows
    assert not any(key.startswith("conditions") for key in rows)


def test_the_page_needs_nothing_else(both: Comparison, tmp_path: Path) -> None:
    text = both.to_html(tmp_path / "comparison.html").read_text(encoding="utf-8")
    document = read(text)
    assert document.all("h1")[0].text() == "Tiny, T = 50 and Tiny, T = 1"
    assert not document.all("script")
    assert not re.search(r"https?://|url\(", text)
    assert len(document.all("img")) == 9
    assert "+0.4" in document.text()
    assert "50 | 1" in document.text()


def test_figures_have_a_curve_per_report_in_its_colour() -> None:
    shorter = other()
    del shorter["layers"][0]
    figures = {own.name: own.figure for own in drawings([record(), shorter], ["a", "b"])}
    lines = {str(own.get_label()): own for own in figures["probe_accuracies"].axes[0].get_lines()}
    assert list(np.asarray(lines["a"].get_xdata())) == [0.25, 0.5, 0.75, 1]
    assert list(np.asarray(lines["b"].get_ydata())) == [0.7, 0.95, 0.9]
    assert (lines["a"].get_color(), lines["b"].get_color()) == ("C0", "C1")
    assert list(np.asarray(lines["a, guessing"].get_ydata())) == pytest.approx([1 / 6] * 2)


def test_figures_are_written(
    both: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rankdeficit.diagnostics.report.outputs.save", lambda figure, path: path.touch()
    )
    assert sorted(both.plot(tmp_path / "new")) == sorted((tmp_path / "new").iterdir())


def test_what_one_report_lacks_is_left_out_with_the_reason() -> None:
    bare = other() | {"calibration": None, "alignment": None, "reliability": None}
    comparison = compare(Report(told(range(10))), Report(bare), names=["full", "bare"])
    assert not {"alignment", "calibration.before.ece"} & set(comparison.differences())
    (reason,) = comparison.left_out()
    assert "bare" in reason
    assert "alignment" in reason
    assert "reliability" not in {own.name for own in drawings(comparison.records, comparison.names)}
    assert "bare" in str(comparison)
    coarse = other()
    coarse["conditions"]["gamma"] = 0.01
    found = compare(Report(record()), Report(coarse))
    assert "train.logits.rank" not in found.differences()
    assert any("gamma" in reason for reason in found.left_out())


def test_a_place_without_a_report_is_refused(both: Comparison) -> None:
    for place in (-1, 0, 2):
        with pytest.raises(ValueError, match="other"):
            both.differences(place)


def test_three_reports_are_each_compared_with_the_first() -> None:
    third = compare(*(Report(own) for own in (told(range(10)), other(), changed("alignment", 0.5))))
    assert third.names == ["Tiny, T = 50 (1)", "Tiny, T = 1", "Tiny, T = 50 (3)"]
    assert third.differences(2)["alignment"].value == -0.125
    assert len(third.tables()) == 2


def test_neco_is_never_without_its_d() -> None:
    wider = other()
    wider["detection"]["svhn"]["neco-resnet"]["dimension"] = 12
    comparison = compare(Report(told(range(10))), Report(wider))
    assert "detection.svhn.neco-resnet.auroc (d = 9, 12)" in str(comparison)
    (figure,) = [
        own.figure for own in drawings(comparison.records, "ab") if own.name == "detection"
    ]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "neco-resnet (d = 9) / neco-resnet (d = 12)" in labels


def test_what_differs_besides_the_networks_is_told_and_ranks_at_other_gammas_have_no_difference() -> (
    None
):
    sampled = {"rank": {"value": 4, "interval": [4, 4]}, "groups": 40}
    own, more = told(range(10)), told(range(10))
    for record_ in (own, more):
        record_["train"] = record_["train"] | {"rank_sampling": sampled}
    same = compare(Report(own), Report(more))
    assert same.differences()["train.rank_sampling.rank.value"].value == 0
    more["train"] |= {"samples": 12345, "accuracy": 0.678}
    more["conditions"] = more["conditions"] | {"gamma": 0.02, "grid": 7}
    unlike = compare(Report(own), Report(more))
    gone = same.differences().keys() - unlike.differences().keys()
    assert {"train.rank_sampling.rank.value", "train.logits.rank", "neural_collapse.nc1"} <= gone
    text = " ".join(unlike.sentences())
    for value in ("12345", "67.8%", "7)", "0.02"):
        assert value in text
        assert value not in " ".join(same.sentences())


def test_files_and_the_command(
    both: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = tuple(Report(own).to_json(tmp_path / f"{i}.json") for i, own in enumerate(both.records))
    run(Settings(paths, csv=tmp_path / "c.csv"))
    assert str(compare(*map(str, paths))) in capsys.readouterr().out
    assert (tmp_path / "c.csv").exists()


def test_the_example_of_the_readme_runs(
    both: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = Path(rd.diagnostics.__file__).parent / "comparison" / "README.md"
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.S)
    for name, own in zip(("cold", "hot"), both.records, strict=True):
        Report(own).to_json(tmp_path / name / "report.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "rankdeficit.diagnostics.report.outputs.save", lambda figure, path: path.touch()
    )
    exec(code, {})
    assert (tmp_path / "comparison.csv").exists()
    assert (tmp_path / "figures" / "reliability.png").exists()


def test_bad_input_is_refused(tmp_path: Path) -> None:
    good, damaged = Report(record()), tmp_path / "damaged.json"
    damaged.write_text('{"network": ')
    for reports, match in (
        ((good,), r" two\b"),
        ((good, changed("network/classes", 9)), "dict"),
        ((good, Report(changed("network/classes", 9))), "9 classes.*6"),
        ((good, damaged), r"damaged\.json.* report"),
        ((good, tmp_path), "folder.*report.json"),
        ((good, tmp_path / "none.json"), r"none\.json"),
    ):
        with pytest.raises(ValueError, match=match):
            compare(*reports)  # type: ignore[arg-type]
    for names in (["a"], ["a", "a"], "ab"):
        with pytest.raises(ValueError, match="names"):
            compare(good, good, names=names)
    broken = told(range(3))
    broken["correctness"]["bits"] = "AAAA"
    with pytest.raises(ValueError, match="bits"):
        compare(Report(told(range(3))), Report(broken))
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=r"/file.*folder"):
        compare(good, good).plot(file)
