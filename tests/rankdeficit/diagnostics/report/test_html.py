"""Reports as pages: self-contained, complete, and with judgements that follow the numbers."""

import re
from pathlib import Path

import pytest

from rankdeficit.diagnostics.registry import all_measures
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.report.__main__ import Settings, run
from rankdeficit.diagnostics.report.figures import drawings
from rankdeficit.diagnostics.report.page import slug
from rankdeficit.diagnostics.report.verdicts import verdicts
from rankdeficit.page import Section
from tests.rankdeficit.diagnostics.report.fabricated import Row, changed, probe, record
from tests.rankdeficit.page.test_page import read


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    own = record()
    own["conditions"]["data"] = "six & <classes>"
    own["layers"][0]["name"] = "<script>stem</script>"
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    assert Report(own).to_html(path) == path
    return path.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_needs_nothing_else(page: str) -> None:
    document = read(page)
    assert not document.all("script")
    sources = [own["src"] for own in document.all("img")]
    assert len(sources) == sum(len(own.figures) for own in all_measures())
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    links = [own["href"] for own in document.all() if own["href"]]
    assert all(link.startswith(("#", "data:,")) for link in links)
    assert not re.search(r"https?://|url\(", page)
    assert all(own["alt"] for own in document.all("img"))


def test_the_verdict_comes_first_and_every_part_is_there(page: str) -> None:
    document = read(page)
    assert document.all("h1")[0].text() == "Tiny on six & <classes>, T = 50"
    sections = [own["id"] for own in document.all("section")]
    assert sections[:4] == ["summary", "verdict", "what-to-try", "data-and-layers"]
    assert {"measure-reliability", "glossary", "notes", "conditions"} <= set(sections)
    text = document.text()
    for told in (
        "87.5%",
        "0.272",
        "<script>stem</script>",
        "no Fishing",
        *Report(record()).sentences(),
    ):
        assert told.removeprefix("Note: ").rstrip(".") in text or "stem" in told


def test_figures_are_titled() -> None:
    titles = [own.figure.get_suptitle() for own in drawings(record())]
    assert set(titles) == {"Tiny, T = 50"}


def judged(own: Row, name: str) -> str:
    (found,) = [verdict.judgement for verdict in verdicts(own) if verdict.name.startswith(name)]
    return found


def with_drop(low: float) -> Row:
    return changed("ood_drop/svhn/interval", [low, 0.6])


def test_judgements_follow_the_numbers() -> None:
    own = record()
    assert judged(own, "test accuracy").startswith("above")
    assert judged(changed("test/accuracy", 0.17), "test accuracy").startswith("bad")
    assert judged(own, "train accuracy") == "interpolates"
    assert judged(own, "class-centred").startswith("rank deficit")
    full = changed("train/logits/centred_rank", 5)
    full["train"]["logits"]["centred_rank_interval"] = [5, 5]
    assert judged(full, "class-centred").startswith("no rank deficit")
    open_ = changed("train/logits/centred_rank_interval", [3, 5])
    assert judged(open_, "class-centred").startswith("rounding")
    assert judged(own, "effective depth").startswith("compressed")
    assert judged(with_drop(0.4), "OOD drop").startswith("bad")
    assert judged(with_drop(0.0), "OOD drop").startswith("good")
    assert judged(own, "AUROC of energy").startswith("good")
    assert judged(own, "AUROC of neco").startswith("moderate")
    poor = changed("detection/svhn", {"vim": {"auroc": 0.45}})
    assert judged(poor, "AUROC of vim").startswith("bad")
    assert judged(own, "calibration").startswith("bad")
    assert judged(changed("calibration/before/ece", 0.01), "calibration").startswith("good")
    assert len([verdict for verdict in verdicts(own) if verdict.value == "29%"]) == 1
    little = changed("layers/3/probe", probe(0.17))
    assert judged(little, "effective depth").startswith("says little")


def test_what_was_not_measured_has_no_verdict() -> None:
    bare = record()
    for name in ("effective_depth", "ood_drop", "detection", "calibration", "alignment"):
        bare[name] = None
    for row in bare["layers"]:
        row |= dict.fromkeys(("gradient", "probe"))
    for data in ("train", "test"):
        bare[data]["logits"] = None
    assert [own.name for own in verdicts(bare)] == ["test accuracy", "train accuracy"]


def test_paths_that_cannot_be_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path .*a file"):
        Report(record()).to_html(tmp_path)


def test_the_command_prints_a_saved_report_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Report(record()).to_json(tmp_path / "report.json")
    run(Settings(path, csv=tmp_path / "report.csv"))
    assert str(Report(record())) in capsys.readouterr().out
    assert (tmp_path / "report.csv").exists()
    assert not list(tmp_path.glob("*.html"))
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        run(Settings(tmp_path))


def test_names_of_measures_have_their_own_places() -> None:
    names = ["my_measure", "my measure", "My_measure", "Größe", "layer_ranks"]
    assert len({Section(slug(name), name).identifier for name in names}) == len(names)


def test_outputs_are_checked_before_any_is_written(tmp_path: Path) -> None:
    path = Report(record()).to_json(tmp_path / "report.json")
    with pytest.raises(ValueError, match=r"html.*folder.*file"):
        run(Settings(path, csv=tmp_path / "report.csv", html=tmp_path))
    assert [own.name for own in tmp_path.iterdir()] == ["report.json"]
