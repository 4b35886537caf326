"""Work carried out once, here or as tasks of submitit, with files for TensorBoard on demand."""

import importlib.util
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from rankdeficit.experiments import cluster, runs
from rankdeficit.experiments.signals import Terminated
from real_nets.data.opening import DataSource
from real_nets.jobs import execute as execution
from real_nets.jobs.execute import Execution, Work, execute
from real_nets.jobs.folder import FINAL, JobFolder
from real_nets.jobs.run import train_job
from tests.real_nets.jobs.execution.jobs import JOB, OTHER_JOB, ForkedTask, works
from tests.real_nets.tiny import CPU, contents, data_of, tiny_job

WILD = tiny_job(epochs=1, lr=1e20)


def test_work_is_done_once_all_of_it_is_there(root: Path, done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "copy")
    trained, diagnosed = (
        Work(JOB, tmp_path / "copy" / JOB.key, snapshots) for snapshots in ((), (FINAL,))
    )
    assert (trained.done, diagnosed.done) == (True, True)
    more = replace(diagnosed, snapshots=(FINAL, "accuracy-0.5"))
    assert (more.trained, more.done) == (True, False)
    JobFolder(diagnosed.path).report_file.unlink()
    assert (trained.done, diagnosed.trained, diagnosed.done) == (True, True, False)
    (diagnosed.path / "summary.json").unlink()
    assert (trained.done, diagnosed.trained, diagnosed.done) == (False, False, False)
    nowhere = Work(JOB, tmp_path / "nowhere", ())
    assert (nowhere.trained, nowhere.done) == (False, False)
    wild = Work(WILD, tmp_path / "wild", (FINAL,))
    train_job(WILD, data_of(WILD, root), wild.path)
    assert wild.done


def test_only_what_is_missing_is_done(
    how: Execution, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(done, folder)
    JobFolder(folder / JOB.key).report_file.unlink()
    kept = (folder / OTHER_JOB.key / "summary.json").stat().st_mtime_ns
    execute(works(folder), how, folder / "logs", CPU)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(rf"1/2 {JOB.key}: .* final$", line)
    assert contents(folder) == contents(done)
    assert (folder / OTHER_JOB.key / "summary.json").stat().st_mtime_ns == kept
    environment = runs.read_json(folder / JOB.key / "environment.json")
    assert environment["diagnosis_seconds"].keys() == {FINAL}
    assert environment["device"] == "cpu"


def test_a_diverged_network_is_told_and_the_next_job_goes_on(
    how: Execution, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = [Work(WILD, tmp_path / "wild", (FINAL,)), Work(OTHER_JOB, tmp_path / "tame", ())]
    execute(work, how, tmp_path / "logs", CPU)
    assert [item.done for item in work] == [True, True]
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"wild: diverged.* T = 1, seed 0.* --lr .*1e\+20", line)


def test_no_work_needs_nothing(tmp_path: Path, root: Path) -> None:
    execute([], Execution(DataSource(root), "cpu", "slurm"), tmp_path / "logs", CPU)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("unchecked")
def test_ways_of_execution_that_do_not_exist(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"executor.* 'cloud'.* here, local .*slurm"):
        Execution(DataSource(root), "cpu", "cloud")  # type: ignore[arg-type]
    real = importlib.util.find_spec
    missing = {"submitit", "tensorboard"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else real(name)
    )
    Execution(DataSource(root), "cpu")
    with pytest.raises(ValueError, match=r"at_once is 0"):
        Execution(DataSource(root), "cpu", "local", at_once=0)
    with pytest.raises(ValueError, match=r"'local'.* submitit.*rankdeficit\[cluster\]"):
        Execution(DataSource(root), "cpu", "local")
    with pytest.raises(ValueError, match=r"tensorboard.*rankdeficit\[tensorboard\].* leave"):
        Execution(DataSource(root), "cpu", tensorboard=True)


def test_tasks_are_not_submitted_by_each_process_of_torchrun(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    Execution(DataSource(root), "cpu")
    with pytest.raises(ValueError, match=r"executor.* 'local'.* leave out torchrun"):
        Execution(DataSource(root), "cpu", "local")


@pytest.mark.parametrize(
    ("executor", "options", "words"),
    [
        ("local", {"colour": "red"}, r"slurm.* \{'colour': 'red'\}, .*'colour'.* prefix"),
        ("local", {"slurm_colour": "1"}, r"slurm.* \{'slurm_colour': 1\}, .* arguments"),
        ("local", {"timeout_min": "long"}, r"'timeout_min': 'long'.* type"),
        pytest.param(
            "slurm", {}, r"executor.* 'slurm'.* submitit.*srun",
            marks=pytest.mark.skipif(shutil.which("srun") is not None, reason="there is Slurm here"),
        ),
    ],
    ids=str,
)  # fmt: skip
def test_options_and_clusters_that_submitit_does_not_know(
    executor: Any, options: dict[str, str], words: str, root: Path, tmp_path: Path
) -> None:
    how = Execution(DataSource(root), "cpu", executor, options=options)
    with pytest.raises(ValueError, match=words) as caught:
        execute(works(tmp_path), how, tmp_path / "logs", CPU)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / JOB.key).exists()


def test_tasks_have_time_unless_the_options_say_otherwise(root: Path, tmp_path: Path) -> None:
    for options, minutes in (({}, 24 * 60), ({"timeout_min": "7", "mem_gb": "4"}, 7)):
        how = Execution(DataSource(root), "cpu", "local", options=options)
        executor = execution._executor(how, tmp_path)
        assert executor._executor.parameters["timeout_min"] == minutes


def test_tasks_leave_what_is_left_here_and_failures_are_named_with_their_logs(
    how: Execution,
    done: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("submitit.local.local.start_controller", ForkedTask)
    folder = tmp_path / "tasks"
    taken = folder / "taken"
    taken.mkdir(parents=True)
    (taken / "thesis.tex").write_text("precious")
    work = [Work(OTHER_JOB, taken, ()), works(folder)[0]]
    with pytest.raises(
        ValueError,
        match=r"1 of 2 .*taken.* ValueError: .* not empty .*thesis\.tex.* \(logs in .*logs\)",
    ) as caught:
        execute(work, replace(how, executor="local"), folder / "logs", CPU)
    assert "\n" not in str(caught.value)
    assert re.search(rf"2 tasks.* {re.escape(str(folder / 'logs'))}\n", capsys.readouterr().err)
    assert list(taken.iterdir()) == [taken / "thesis.tex"]
    assert contents(folder / JOB.key) == contents(done / JOB.key)
    logs = "".join(path.read_text() for path in (folder / "logs").glob("*_log.err"))
    assert f"{JOB.key}: diagnosing" in logs


class FakeTask:
    """Ends at its second look; knows the most tasks that ran at a time."""

    running: ClassVar[set["FakeTask"]] = set()
    most: ClassVar[int] = 0

    def __init__(self) -> None:
        self.looks = 0
        FakeTask.running.add(self)
        FakeTask.most = max(FakeTask.most, len(FakeTask.running))

    def done(self) -> bool:
        self.looks += 1
        return self.looks > 1

    def exception(self) -> None:
        FakeTask.running.discard(self)


@pytest.mark.parametrize(
    ("executor", "at_once", "gpus", "device", "most", "devices"),
    [
        ("local", None, 0, "auto", 1, {"auto"}),
        ("local", 2, 0, "cpu", 2, {"cpu"}),
        ("local", None, 2, "auto", 2, {"cuda:0", "cuda:1"}),
        ("local", 4, 2, "cuda", 4, {"cuda:0", "cuda:1"}),
        ("local", 3, 2, "cuda:1", 3, {"cuda:1"}),
        ("local", None, 2, "cpu", 1, {"cpu"}),
        ("slurm", None, 0, "auto", 5, {"auto"}),
        ("slurm", 2, 0, "cuda", 2, {"cuda"}),
    ],
)
def test_as_many_tasks_run_at_a_time_as_there_is_room_for(
    executor: Any,
    at_once: int | None,
    gpus: int,
    device: str,
    most: int,
    devices: set[str],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Executor:
        def submit(self, function: Any, item: Work, how: Execution, visible_gpus: None) -> FakeTask:
            started.append((item.path.name, how.device))
            return FakeTask()

    started: list[tuple[str, str]] = []
    monkeypatch.setattr(FakeTask, "most", 0)
    monkeypatch.setattr(execution, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(execution, "_executor", lambda how, logs: Executor())
    monkeypatch.delenv(execution.VISIBLE_GPUS, raising=False)
    how = Execution(DataSource(root), device, executor, at_once=at_once)
    work = [Work(JOB, tmp_path / str(number), ()) for number in range(5)]
    execute(work, how, tmp_path / "logs", CPU)
    assert [name for name, _ in started] == ["0", "1", "2", "3", "4"]
    assert FakeTask.most == most
    assert {device for _, device in started} == devices


@pytest.mark.parametrize(
    ("executor", "stop"),
    [("local", KeyboardInterrupt), ("local", Terminated), ("slurm", KeyboardInterrupt)],
)
def test_a_command_that_breaks_off_ends_its_tasks_or_says_where_they_are(
    executor: Any,
    stop: type[BaseException],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Task:
        def __init__(self) -> None:
            self.job_id = str(len(tasks) + 11)
            self.cancelled = False

        def done(self) -> bool:
            if executor == "slurm" or not self.cancelled:
                raise stop
            return True

        def cancel(self, check: bool) -> None:
            self.cancelled = True

    class Executor:
        def submit(self, *_: Any) -> Task:
            tasks.append(Task())
            return tasks[-1]

    tasks: list[Task] = []
    monkeypatch.setattr(execution, "_executor", lambda how, logs: Executor())
    monkeypatch.setattr(cluster, "terminate", lambda task: task.cancel(check=False))
    work = [Work(JOB, tmp_path / str(number), ()) for number in range(3)]
    with pytest.raises(stop):
        execute(
            work, Execution(DataSource(root), "cpu", executor, at_once=2), tmp_path / "logs", CPU
        )
    assert [task.cancelled for task in tasks] == 2 * [executor == "local"]
    assert ("scancel 11 12" in capsys.readouterr().err) == (executor == "slurm")


@pytest.mark.parametrize("visible", [None, "2,3"])
def test_tasks_of_this_machine_see_the_gpus_that_it_shows(
    visible: str | None, how: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setenv(execution.VISIBLE_GPUS, "")  # as submitit leaves it
    monkeypatch.setattr(
        execution, "carry_out", lambda *_: seen.append(os.environ.get(execution.VISIBLE_GPUS))
    )
    execution.carry_out_alone(Work(JOB, Path(), ()), replace(how, executor="local"), visible)
    execution.carry_out_alone(Work(JOB, Path(), ()), replace(how, executor="slurm"), None)
    assert seen == [visible, visible]
