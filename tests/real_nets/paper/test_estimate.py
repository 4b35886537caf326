"""The plan: what would run, how long it may take, and what was left out."""

import re
from dataclasses import replace
from io import StringIO
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from real_nets.data.opening import DataSource
from real_nets.jobs.execute import Execution, Work
from real_nets.jobs.measures import measured_at
from real_nets.jobs.trial import Trials
from real_nets.paper import estimate as estimating
from real_nets.paper.estimate import (
    Estimate,
    announce,
    estimate,
    estimates,
    list_targets,
    show_plan,
)
from real_nets.paper.targets import TARGETS
from tests.real_nets.fabricated import Numbers, write_job
from tests.real_nets.tiny import CPU, tiny_job, write_root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("root"))


def work_of(tmp_path: Path, **options: Any) -> Work:
    job = tiny_job(**options)
    return Work(job, tmp_path / "jobs" / job.key, ("final",))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (99.4, "99 s"), (100, "2 min"), (5999, "100 min"), (6000, "1.7 h"), (9e5, "250.0 h")],
)  # fmt: skip
def test_durations_are_spelt_as_one_says_them(seconds: float, text: str) -> None:
    assert estimating.spell_duration(float(seconds)) == text


def test_an_estimate_is_the_sum_of_its_parts() -> None:
    assert Estimate(1.0, 20.0, 300.0).total == 321


def test_jobs_that_differ_in_temperature_seed_and_rate_take_equally_long() -> None:
    job = tiny_job()
    for same in ({"temperature": 50.0}, {"seed": 7}, {"lr": 1.0}, {"milestones": (0.1,)}):
        assert tiny_job(**same).kind == job.kind
    for other in ({"width": 17}, {"epochs": 4}, {"ood": ("other",)}, {"norm": "layer"}):
        assert tiny_job(**other).kind != job.kind


def test_each_kind_of_job_is_tried_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried = []

    def noted(job: Any, *_: object) -> Estimate:
        tried.append(job.width)
        return Estimate(float(job.width), 0.0, 0.0)

    monkeypatch.setattr(estimating, "estimate", noted)
    pending = [
        work_of(tmp_path, width=width, temperature=temperature)
        for width in (3, 5)
        for temperature in (1.0, 9.0)
    ]
    assert [one.total for one in estimates(pending, DataSource(), CPU, Trials())] == [3, 3, 5, 5]
    assert tried == [3, 5]


def test_what_a_network_of_a_target_cannot_do_is_said_of_that_network(
    root: Path, tmp_path: Path
) -> None:
    work = [work_of(tmp_path, head_rank=4)]
    told = r"mlp.* own.* depth 3.* head_rank 4: head_rank is 4.* 1\.\.3"
    with pytest.raises(ValueError, match=told):
        estimates(work, DataSource(root), CPU, Trials())


def test_the_diagnoses_asked_for_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(estimating, "estimate", lambda *_: Estimate(1.0, 1.0, 10.0))
    item = work_of(tmp_path)
    pending = [replace(item, snapshots=names) for names in ((), ("final",), ("final", "half"))]
    assert [one.diagnosing for one in estimates(pending, DataSource(), CPU, Trials())] == [
        0,
        10,
        20,
    ]


def test_an_estimate_multiplies_steps_measurements_and_layers(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    ticks = count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))  # a second passes at each look
    monkeypatch.setattr(estimating, "time", clock)
    job = tiny_job(ood=("other",), epochs=3)
    found = estimate(job, DataSource(root), CPU, Trials())
    steps_per_epoch = 120 // 16 + 1
    assert found.training == 3 * steps_per_epoch
    assert found.measuring == len(measured_at(3, steps_per_epoch))
    layers, sets = 3, 2
    share = 36 / 60  # diagnosed images over followed ones
    probes = estimating.PROBE_SECONDS * layers * sets * 36 / 1000
    assert found.diagnosing == pytest.approx(2 * share + probes)


def test_an_estimate_of_untrained_networks_and_of_diverging_ones_is_made_all_the_same(
    root: Path,
) -> None:
    assert estimate(tiny_job(epochs=0), DataSource(root), CPU, Trials()).training == 0
    diverging = tiny_job(lr=1e30, clip_norm=1e30)
    assert estimate(diverging, DataSource(root), CPU, Trials()).training > 0


def shown(work: list[Work], pending: list[Work]) -> str:
    console = Console(file=StringIO(), width=160)
    show_plan(work, pending, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_the_plan_has_a_line_for_networks_that_differ_in_their_seeds_alone(tmp_path: Path) -> None:
    work = [
        work_of(tmp_path, temperature=temperature, seed=seed)
        for temperature in (1.0, 50.0)
        for seed in range(3)
    ]
    work.append(work_of(tmp_path, ood=("other", "third"), head_rank=2, width=None))
    text = shown(work, work[4:])
    assert " T epochs seeds " in text
    assert "mlp (width 16), depth 3 own none 1 3 3 0" in text
    assert "mlp (width 16), depth 3 own none 50 3 3 2" in text
    assert "mlp, depth 3, head_rank 2 own other third 1 3 1 1" in text
    assert re.search(r"3 of 7 networks .*; 4 .*reused", text)


def test_a_fresh_plan_reuses_nothing_and_an_empty_one_says_so(tmp_path: Path) -> None:
    work = [work_of(tmp_path)]
    assert "1 of 1 networks" in shown(work, work)
    assert shown([], []).startswith("No networks")


def heard(capsys: pytest.CaptureFixture[str], tmp_path: Path, root: Path, **how: Any) -> str:
    source = DataSource(root)
    announce(
        [work_of(tmp_path)],
        {"svhn": "it is not there"},
        Execution(source, "cpu", **how),
        CPU,
        synthetic=how == {},
    )
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_the_announcement_tells_what_is_left_out_and_how_long_it_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, root: Path
) -> None:
    text = heard(capsys, tmp_path, root)
    assert re.search(r"svhn: it is not there$", text, re.M)
    assert "Glyphs" in text
    assert re.search("cpu with 1 CPU thread, .* 5 .*steps .*training ", text)
    assert not list(tmp_path.iterdir())


def test_trained_networks_take_the_time_of_the_diagnoses_that_are_missing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimating, "estimate", lambda *_: Estimate(1000.0, 20.0, 50.0))
    assert " 18 min " in heard(capsys, tmp_path, root)
    write_job(tmp_path, tiny_job(), Numbers())
    assert "About" not in heard(capsys, tmp_path, root)
    next(tmp_path.rglob("diagnoses/final.json")).unlink()
    text = heard(capsys, tmp_path, root)
    assert " 50 s " in text
    assert re.search("training 0 s, measurements 0 s, diagnoses .*50 s", text)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"executor": "local"}, "10 min .* 1 at .* cpu"),
        ({"executor": "local", "at_once": 2}, "6 min .* 2 at .* cpu"),
        ({"executor": "slurm", "at_once": 3}, "5 min .* 3 at .* cpu"),
        ({"executor": "slurm"}, "10 min .* one .* cpu"),
    ],
)
def test_tasks_are_told_the_time_of_the_longest_and_of_all(
    how: dict[str, Any], words: str, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        estimating, "estimate", lambda job, *_: Estimate(60.0 * job.epochs, 0.0, 0.0)
    )
    pending = [work_of(tmp_path, epochs=minutes) for minutes in (1, 4, 5)]
    told = estimating.spell_total(pending, Execution(DataSource(root), "cpu", **how), CPU)
    assert told.startswith("3 tasks: about 5 min ")
    assert re.search(words, told)


def test_trying_tasks_keeps_no_images(root: Path, tmp_path: Path) -> None:
    how = Execution(DataSource(root), "cpu", "local")
    assert "1 task: about " in estimating.spell_total([work_of(tmp_path)], how, CPU)
    assert not how.source.opened


def test_tasks_too_large_for_this_machine_are_not_timed(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(estimating, "estimate", fail)
    told = estimating.spell_total(
        [work_of(tmp_path)], Execution(DataSource(root), "cpu", "slurm"), CPU
    )
    assert "too large" in told


def test_nothing_is_tried_where_tasks_are_sent_from(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(estimating, "estimate")
    assert "--plan" in heard(capsys, tmp_path, root, executor="slurm")


def test_tasks_start_as_soon_as_one_has_ended() -> None:
    assert estimating.makespan([3.0, 1.0, 1.0, 2.0], 2) == 4
    assert estimating.makespan([3.0, 1.0, 1.0, 2.0], 9) == 3
    assert estimating.makespan([3.0, 1.0], 1) == 4


def test_the_list_names_all_targets(capsys: pytest.CaptureFixture[str]) -> None:
    list_targets()
    text = " ".join(capsys.readouterr().out.split())
    for target in TARGETS.values():
        for part in (f" {target.name} ", target.title, target.about):
            assert part in text
