"""What jobs left in a store, read back from files alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rankdeficit.diagnostics.report import Report
from rankdeficit.experiments import runs
from real_nets.jobs.folder import FINAL, JobFolder
from real_nets.jobs.job import Job
from real_nets.jobs.run import diagnose_job, train_job
from real_nets.paper.grid import BASELINE, LOW_NORM, Cell
from real_nets.paper.store import Results, groups, job_folder
from real_nets.paper.targets.target import figure_run
from tests.real_nets.tiny import data_of, tiny_job, write_root

COLD = tiny_job(ood=("other",), milestones=(0.3, 0.6, 0.9))
HOT = replace(COLD, temperature=20.0, lr=0.02)
WILD = replace(COLD, lr=1e20)
UNDONE = replace(COLD, seed=7)
SEEDS = [replace(COLD, seed=seed) for seed in (0, 1)]


def cell(condition: str, *jobs: Job, network: str = "MLP") -> Cell:
    keys = tuple(job.key for job in jobs)
    return Cell("CIFAR-10", network, condition, "own", jobs[0].temperature, keys)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of COLD, one of HOT, one that diverged, one that has only begun."""
    root, folder = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("store")
    write_root(root)
    for job in (*SEEDS, HOT, WILD):
        train_job(job, data_of(job, root), job_folder(folder, job.key))
    for snapshot in (FINAL, "accuracy-0.6"):
        diagnose_job(COLD, data_of(COLD, root), job_folder(folder, COLD.key), snapshot)
    shutil.copytree(job_folder(folder, COLD.key), job_folder(folder, UNDONE.key))
    (job_folder(folder, UNDONE.key) / "summary.json").unlink()
    return folder


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    shutil.copytree(store, tmp_path / "store")
    return tmp_path / "store"


def outcome(store: Path, job: Job) -> JobFolder:
    found = Results(store).outcome(job.key)
    assert found is not None
    return found


def test_an_outcome_is_what_the_files_say(store: Path) -> None:
    one, folder = outcome(store, COLD), job_folder(store, COLD.key)
    summary, report = JobFolder(folder).summary, Report.from_json(one.report_file)
    assert one.job == COLD
    assert one.rows == runs.read_rows(folder)
    assert one.report == report.record
    assert one.environment["device"] == "cpu"
    assert not one.diverged
    assert one.train_accuracy == summary["accuracy"]
    assert one.test_accuracy == summary["test_accuracy"]
    assert one.rank == summary["rank"]
    assert one.ranks("rank_curve")[1e-2] == summary["rank_curve"]["0.01"]
    assert one.ranks("post_softmax_rank_curve")[0.1] == summary["post_softmax_rank_curve"]["0.1"]
    assert one.effective_depth == report["effective_depth.value"]
    assert one.ood_drop("other") == report["ood_drop.other.value"]
    probes = [layer["ood_probes"]["other"]["accuracy"] for layer in report.record["layers"]]
    assert one.best_ood_accuracy("other") == max(probes)
    assert report["network.neco_variant"] == "resnet"
    assert one.neco("other") == report["detection.other.neco-resnet.auroc"]
    assert one.neco("other", "fpr_id_positive") == report[
        "detection.other.neco-resnet.fpr_id_positive"
    ]  # fmt: skip
    assert one.measure("test.logits.stable_rank") == report["test.logits.stable_rank"]


def test_neco_is_that_of_the_kind_of_network(copy: Path) -> None:
    file = JobFolder(job_folder(copy, COLD.key)).report_file
    record = json.loads(file.read_text())
    record["network"]["neco_variant"] = "vit"
    for name, auroc in (("neco-vit", 0.625), ("neco-resnet", 0.75)):
        record["detection"]["other"][name]["auroc"] = auroc
    file.write_text(json.dumps(record))
    assert outcome(copy, COLD).neco("other") == 0.625


def test_at_a_milestone_everything_comes_from_its_diagnosis(store: Path) -> None:
    final = outcome(store, COLD)
    early = final.at("accuracy-0.6")
    report = Report.from_json(early.report_file)
    assert early.report == report.record != final.report
    assert early.train_accuracy == report["train.accuracy"]
    assert report["train.loss"] > final.measure("train.loss")
    assert early.test_accuracy == report["test.accuracy"]
    assert early.rank == report["train.logits.rank"]
    curve = report["train.logits.centred_rank_curve"]
    assert early.ranks("centred_rank_curve") == {float(k): v for k, v in curve.items()}
    assert early.at(FINAL).rank == final.rank
    unmeasured = final.at("accuracy-0.9")
    assert unmeasured.report is None
    assert unmeasured.train_accuracy is unmeasured.rank is unmeasured.neco("other") is None
    assert unmeasured.ranks("rank_curve") == {}


def test_without_a_diagnosis_there_is_what_training_measured(store: Path) -> None:
    one = outcome(store, HOT)
    assert one.report is None
    assert one.rank == JobFolder(one.path).summary["rank"]
    for missing in (
        one.effective_depth, one.ood_drop("other"), one.best_ood_accuracy("other"), one.neco("other"),
        one.measure("test.accuracy"),
    ):  # fmt: skip
        assert missing is None
    assert figure_run(one).layers == 3
    assert outcome(store, COLD).ood_drop("unknown") is None
    assert outcome(store, COLD).best_ood_accuracy("unknown") is None


def test_runs_are_what_figures_take(store: Path) -> None:
    run = figure_run(outcome(store, COLD))
    assert (run.temperature, run.seed, run.layers) == (1.0, 0, 3)
    assert (run.network, run.data) == ("mlp", "own")
    assert run.rows[0]["step"] == 0
    assert run.report is not None
    assert run.report["network"]["classes"] == 4
    assert run.options["image_size"] == (8, 8)
    assert run.options["ood"] == ("other",)


def test_runs_of_other_seeds_and_temperatures_have_the_same_options(store: Path) -> None:
    seeds = [figure_run(outcome(store, job)).options for job in SEEDS]
    assert seeds[0] == seeds[1]
    assert {"seed", "temperature", "model", "data"}.isdisjoint(seeds[0])
    hot = figure_run(outcome(store, HOT)).options
    assert {name for name in hot if hot[name] != seeds[0][name]} == {"lr"}


def test_options_of_jobs_from_before_they_existed_are_the_usual_ones(copy: Path) -> None:
    file = job_folder(copy, COLD.key) / "settings.json"
    written = json.loads(file.read_text())
    del written["settings"]["job"]["crop"], written["settings"]["data"]
    file.write_text(json.dumps(written))
    one = outcome(copy, COLD)
    assert one.job.crop is None
    assert one.image_size is None
    written["settings"]["job"]["image_size"] = 24
    file.write_text(json.dumps(written))
    assert outcome(copy, COLD).image_size == (24, 24)


def test_cells_have_the_networks_that_came_to_an_end(store: Path) -> None:
    results = Results(store)
    mixed = cell(BASELINE, *SEEDS, UNDONE, WILD, tiny_job(seed=99))
    assert [one.key for one in results.outcomes(mixed)] == [job.key for job in SEEDS]
    (message,) = results.diverged(mixed)
    assert "T = 1, seed 0" in message
    assert "lower --lr" in message
    assert results.outcome(UNDONE.key) is None
    assert outcome(store, WILD).diverged
    assert outcome(store, WILD).rank is None
    assert figure_run(outcome(store, WILD)).layers == 0


def test_the_common_accuracy_is_the_highest_that_all_networks_reached(
    store: Path, copy: Path
) -> None:
    cells = [cell(BASELINE, *SEEDS), cell(LOW_NORM, HOT)]

    def reach(job: Job, *milestones: float) -> None:
        file = job_folder(copy, job.key) / "summary.json"
        summary = json.loads(file.read_text())
        file.write_text(json.dumps(summary | {"milestones": list(milestones)}))

    for job, reached in zip((*SEEDS, HOT), [(0.3, 0.6, 0.9), (0.3, 0.6), (0.3, 0.9)], strict=True):
        reach(job, *reached)
    assert Results(copy).common_accuracy(cells) == 0.3
    assert Results(copy).common_accuracy(cells[:1]) == 0.6
    reach(HOT)
    assert Results(copy).common_accuracy(cells) is None
    assert Results(copy).common_accuracy([]) is None
    assert Results(store).common_accuracy([cell(BASELINE, WILD)]) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", '{"outcome'),
        ("summary.json", "[]"),
        ("settings.json", '{"program'),
        ("settings.json", "[]"),
        ("settings.json", '{"settings": {}}'),
        ("diagnoses/final.json", '{"train'),
        ("diagnoses/final.json", "{}"),
        ("metrics.jsonl", '{"step": 0}\n{"step'),
        ("metrics.jsonl", '{"step": 0}\n'),
        ("metrics.jsonl", ""),
        ("environment.json", '{"dev'),
        ("environment.json", "[]"),
        ("environment.json", '{"diagnosis_seconds": []}'),
    ],
)
def test_a_damaged_file_is_named(name: str, content: str, copy: Path) -> None:
    (job_folder(copy, COLD.key) / name).write_text(content)

    def read() -> None:
        one = outcome(copy, COLD)
        for found in (one.report, one.rows, one.environment):
            assert found

    with pytest.raises(ValueError, match=rf"{COLD.key}/{name}.* (damaged|not)"):
        read()


def test_rows_run_from_the_first_step_to_the_last(copy: Path) -> None:
    file = job_folder(copy, COLD.key) / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    for kept in (lines[1:], lines[:-1]):
        file.write_text("".join(kept))
        words = rf"{COLD.key}/metrics.jsonl.* damaged.* rows.* delete .*{COLD.key}"
        with pytest.raises(ValueError, match=words):
            Results(copy).outcome(COLD.key)
    file.write_text("".join(lines))
    assert len(outcome(copy, COLD).rows) == len(lines)


def test_rows_of_a_network_that_diverged_may_stop_earlier(copy: Path) -> None:
    file = job_folder(copy, WILD.key) / "metrics.jsonl"
    first = file.read_text().splitlines(keepends=True)[0]
    for kept in (first, ""):
        file.write_text(kept)
        assert len(outcome(copy, WILD).rows) == bool(kept)
    file.write_text(first.replace('"step": 0', '"step": 1'))
    with pytest.raises(ValueError, match=r"metrics.jsonl.* damaged.* rows"):
        outcome(copy, WILD)


def test_results_are_read_once(copy: Path) -> None:
    results = Results(copy)
    first = results.outcome(COLD.key)
    (job_folder(copy, COLD.key) / "summary.json").unlink()
    assert results.outcome(COLD.key) is first


def test_groups_are_cells_of_a_network_on_a_data_set_in_their_order() -> None:
    cells = [
        cell(BASELINE, COLD), cell(BASELINE, COLD, network="VGG-19"), cell(LOW_NORM, HOT),
    ]  # fmt: skip
    assert groups(cells) == {
        ("CIFAR-10", "MLP"): [cells[0], cells[2]],
        ("CIFAR-10", "VGG-19"): [cells[1]],
    }
