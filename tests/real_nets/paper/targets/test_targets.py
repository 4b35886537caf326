"""All targets: what is missing or diverged, sections whole and empty, names, one from outside."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from rankdeficit.page import Page, TableCell, render
from real_nets.jobs.job import Job
from real_nets.paper.chance import Cause
from real_nets.paper.compare import NoVerdict
from real_nets.paper.estimate import list_targets
from real_nets.paper.store import Results, job_folder, read_targets
from real_nets.paper.targets import TARGETS, find, register
from real_nets.report import build_page
from tests.real_nets.fabricated import (
    COLD,
    HOT,
    RESNET,
    Numbers,
    by_seed,
    compared,
    fill,
    hundred,
    row_of,
    said,
    section_of,
    setup_of,
    write_job,
)


def test_diverged_and_missing_seeds_do_not_count_and_are_told(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(depth=0.9), hundred(outcome="diverged"), None],
        low=[hundred(depth=0.7), hundred(depth=0.5), hundred(outcome="diverged")],
    )
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    row = row_of(section.tables[0], *RESNET, "κ: effective depth")
    assert row[3:5] == ["90.0%, n = 1", "60.0% (50.0–70.0), n = 2"]
    message = "T = 1, seed 0: the loss is not finite at step 7"
    cold, hot, missing = section.notes
    for note, condition in ((cold, COLD), (hot, HOT)):
        assert all(part in note for part in ("ResNet-18", "CIFAR-100", condition, message))
    assert f"ResNet-18 on CIFAR-100: 1 of 3 ({COLD})" in missing


def test_networks_are_told_by_the_one_seed_that_does_not_interpolate(tmp_path: Path) -> None:
    lower = [hundred(), hundred(), hundred(accuracy=0.99)]
    section = section_of(tmp_path, "quick", by_seed(baseline=[hundred()] * 3, low=lower))
    (note,) = section.notes
    assert f"ResNet-18 on CIFAR-100: 99.00% ({HOT})" in note


def test_networks_that_did_not_leave_their_start_are_told(tmp_path: Path) -> None:
    stalled = hundred(outcome="stalled", accuracy=0.01)
    numbers = by_seed(baseline=[hundred()] * 3, low=[stalled, hundred(), stalled])
    section = section_of(tmp_path, "quick", numbers)
    assert any(f"ResNet-18 on CIFAR-100: 2 of 3 ({HOT})" in note for note in section.notes)


def test_probes_that_did_not_converge_are_told(tmp_path: Path) -> None:
    pick = setup_of(pick=["CIFAR-100/ResNet-18"])
    (cells,) = fill(
        tmp_path, ["table1"], by_seed(baseline=[hundred()], low=[hundred()]), pick
    ).values()
    files = job_folder(tmp_path, cells[1].keys[0]) / "diagnoses" / "final.json"
    report = json.loads(files.read_text())
    report["layers"][0]["probe"]["converged"] = False
    report["layers"][1]["ood_probes"]["svhn"] |= {"converged": False}
    files.write_text(json.dumps(report))
    notes = TARGETS["table1"].section(cells, Results(tmp_path), {}).notes
    (told,) = (note for note in notes if "converge" in note)
    assert f"ResNet-18 on CIFAR-100: 2 of 9 ({HOT})" in told


def test_a_half_empty_store_shows_what_there_is(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[hundred()])
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    row = row_of(section.tables[0], *RESNET, "κ: effective depth")
    assert [row[i] for i in (1, 2, 4, 6, 7)] == ["100%", "83%", "", "", ""]
    assert row[3]
    (missing,) = section.notes
    assert f"ResNet-18 on CIFAR-100: 2 of 3 ({COLD}), 3 of 3 ({HOT})" in missing


MISSING = "trained yet"
WHOLE = by_seed(baseline=[hundred()] * 10, low=[hundred(depth=0.5)] * 10)


@pytest.mark.parametrize("target", TARGETS)
def test_every_section_renders_with_its_numbers(target: str, tmp_path: Path) -> None:
    section = section_of(tmp_path, target, WHOLE, setup_of(missing=("imagenet", "imagenet100")))
    page = render(Page("Page", [], [section], []))
    assert section.pictures or any(table.rows for table in section.tables)
    for table in section.tables:
        for cell in (cell for row in table.rows for cell in row if cell.kind == "measured"):
            assert TableCell(cell.text, "measured").parts[0] in page
    assert MISSING not in said(section)


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "fig6"])
def test_sections_of_an_empty_store_say_what_is_missing(target: str, tmp_path: Path) -> None:
    section = section_of(tmp_path, target, lambda job: None)
    assert not section.pictures
    assert MISSING in section.notes[-1]
    assert "of 10" in section.notes[-1] if target == "fig8" else "3 of 3" in section.notes[-1]
    render(Page("Page", [], [section], []))


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "fig6"])
def test_networks_that_were_not_diagnosed_show_what_was_measured_in_training(
    target: str, tmp_path: Path
) -> None:
    cells = fill(tmp_path, [target], WHOLE, setup_of(missing=("imagenet", "imagenet100")))[target]
    for report in tmp_path.rglob("diagnoses/*.json"):
        report.unlink()
    section = TARGETS[target].section(cells, Results(tmp_path), {})
    assert bool(section.pictures) == (target not in UNDRAWN)
    if target in ("table1", "table3"):
        place = ("CIFAR-10", cells[0].network)
        shown = {
            row[2].text: row
            for row in section.tables[0].rows
            if (row[0].text, row[1].text) == place
        }
        for name, number in (("κ: effective depth", ""), ("test accuracy", "50.0%")):
            assert [cell.text for cell in shown[name][6:8]] == [number] * 2


UNDRAWN = {
    *("table1", "table2", "table3", "fig1", "fig4", "hyperparameters", "neural-collapse"),
    "conventions",
    *("rank-two", "trade-off"),
}
"""Targets that have no figure, or only figures of diagnoses."""


def test_targets_are_found_by_name_or_with_close_names() -> None:
    assert find("table1") is TARGETS["table1"]
    with pytest.raises(ValueError, match=r"'tabel1'.* table1, table3, table2"):
        find("tabel1")
    with pytest.raises(ValueError, match=r"'xyz'.*--list"):
        find("xyz")


ORDER = (
    "table1 table2 table3 quick fig1 fig2 fig3 fig4 fig5 fig6 fig7 fig8 alignment hyperparameters mse "
    "neural-collapse rank-two ortho-dev trade-off conventions ruler"
).split()


def test_targets_are_in_the_order_of_the_paper() -> None:
    assert list(TARGETS) == ORDER


STALLED = hundred(outcome="stalled", accuracy=0.3)
GUESSING = hundred(accuracy=0.012)
TRAINED = hundred(depth=0.5, drop=0.6, rank=50, auroc=0.9, ortho_dev=0.2, alignment=0.8)
PICK = ["CIFAR-100/ResNet-18", "CIFAR-10/ResNet-18", "CIFAR-10/MLP"]


@pytest.mark.parametrize("unlearned", [STALLED, GUESSING], ids=["stalled", "guessing"])
@pytest.mark.parametrize(
    "target", ["quick", "table1", "table2", "alignment", "mse", "neural-collapse", "ortho-dev"]
)
def test_networks_at_chance_bear_no_verdict(
    target: str, unlearned: Numbers, tmp_path: Path
) -> None:
    numbers = by_seed(baseline=[TRAINED] * 3, low=[unlearned, TRAINED, unlearned])
    found = compared(tmp_path, target, numbers, setup_of(pick=PICK))
    reasons = {one.no_verdict for own in found.values() for one in own.values()}
    assert found
    assert reasons == {NoVerdict(Cause.UNTRAINED, (0, 2), 0.01)}


OUTSIDE = """
from real_nets.paper.measures import TEST_ACCURACY
from real_nets.paper.targets import register
from real_nets.paper.targets.pairs import PairTarget


@register
class Test(PairTarget):
    name = "outside"
    title = "Test accuracy"
    about = "test accuracy of one network"
    claim = "none."
    networks = (("VGG-19", "CIFAR-10"),)
    diagnosed = False

    def measures(self, pair):
        return [TEST_ACCURACY]
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a target that a file outside the package registers; it is forgotten afterwards."""
    file = tmp_path / "one_more_target.py"
    file.write_text(OUTSIDE)
    for name, target in dict(TARGETS).items():
        monkeypatch.setitem(TARGETS, name, target)  # so that all are restored
    monkeypatch.setitem(TARGETS, "outside", TARGETS["fig1"])
    del TARGETS["outside"]
    spec = spec_from_file_location("one_more_target", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "one_more_target", module)
    spec.loader.exec_module(module)
    return "outside"


def test_a_target_is_one_class_in_one_file(
    outside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(TARGETS) == [*ORDER, outside]
    store = tmp_path / "store"
    fill(store, [outside], by_seed(baseline=[hundred()] * 3, low=[hundred(test_accuracy=0.7)] * 3))
    (record,) = read_targets(store, list(TARGETS))
    assert (record.name, len(record.cells)) == (outside, 2)
    section, _ = build_page(store, [record]).sections
    row = row_of(section.tables[0], "CIFAR-10", "VGG-19", "test accuracy")
    assert row[1:] == ["50.0%", "70.0%", "rises"]
    list_targets()
    assert f" {outside} " in capsys.readouterr().out
    assert find(outside) is TARGETS[outside]


def test_two_targets_of_one_name_are_refused() -> None:
    class Other(type(TARGETS["fig6"])):  # type: ignore[misc]
        """Another one."""

    with pytest.raises(ValueError, match="'fig6'"):
        register(Other)


def test_targets_say_what_they_are_in_a_line() -> None:
    for name, target in TARGETS.items():
        assert target.name == name
        assert 10 < len(target.about) < 150
        assert target.about.endswith(".")
        assert target.about.rstrip(".").lower() not in target.title.lower()


def test_jobs_of_other_targets_do_not_disturb(tmp_path: Path) -> None:
    alone = section_of(tmp_path, "table3", WHOLE)
    write_job(tmp_path, Job(temperature=3.0), hundred(depth=0.1))
    again = section_of(tmp_path, "table3", WHOLE)
    assert alone.tables == again.tables
