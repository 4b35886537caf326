"""The run folder: atomic, locked, resumable, one-line errors."""

import errno
import os
import platform
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdeficit.experiments import runs
from rankdeficit.experiments.runs import RunFolder


def new_folder(path: Path) -> RunFolder:
    return RunFolder.create(path, "tests", {"size": 3, "temperature": (1.0, 2.0)})


def fail_if_called(_: dict[str, Any]) -> None:
    raise AssertionError("there was nothing to restore")


def restored(folder: RunFolder) -> dict[str, Any]:
    states: list[dict[str, Any]] = []
    assert folder.restore_checkpoint("cpu", states.append)
    return states[0]


def test_settings_come_back(tmp_path: Path) -> None:
    new_folder(tmp_path / "a").close()
    folder, settings = RunFolder.reopen(tmp_path / "a", "tests")
    assert settings == {"size": 3, "temperature": [1.0, 2.0]}
    folder.close()


def test_the_processor_is_named_where_the_system_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PROCESSORS", tmp_path / "cpuinfo")
    cpu = torch.device("cpu")
    assert runs.device_name(cpu) in (platform.processor(), platform.machine())
    runs.PROCESSORS.write_text("processor\t: 0\nmodel name\t: Some CPU 7 GHz\nflags\t\t: a b\n")
    assert runs.device_name(cpu) == "Some CPU 7 GHz"
    runs.PROCESSORS.write_text("Hardware: none\n")
    assert runs.device_name(cpu) in (platform.processor(), platform.machine())


@pytest.mark.cuda
def test_the_gpu_is_named(cuda: torch.device) -> None:
    assert runs.device_name(cuda) == torch.cuda.get_device_name(cuda)


def test_rows_after_the_checkpoint_are_cut_on_resuming(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "a")
    folder.append_rows([{"step": 0}, {"step": 1}])
    folder.save_checkpoint({"step": 1, "tensor": torch.arange(3)})
    folder.append_rows([{"step": 2, "loss": float("nan")}])
    assert runs.read_rows(folder.path)[-1] == {"step": 2, "loss": None}
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3')  # a write cut short
    assert [row["step"] for row in runs.read_rows(folder.path)] == [0, 1, 2]
    assert restored(folder)["tensor"].tolist() == [0, 1, 2]
    assert runs.read_rows(folder.path) == [{"step": 0}, {"step": 1}]


def test_without_a_checkpoint_a_resumed_run_starts_anew(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "a")
    folder.append_rows([{"step": 0}])
    assert not folder.restore_checkpoint("cpu", fail_if_called)
    assert runs.read_rows(folder.path) == []


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_truncated_checkpoint_is_one_clear_error(tmp_path: Path, keep: int) -> None:
    folder = new_folder(tmp_path / "a")
    folder.save_checkpoint({"step": 1, "tensor": torch.zeros(1000)})
    os.truncate(folder.path / "checkpoint.pt", keep)
    with pytest.raises(ValueError, match=r"checkpoint\.pt.*delete"):
        folder.restore_checkpoint("cpu", fail_if_called)


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "a")
    torch.save({"state": Path, "metrics_bytes": 0}, folder.path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt.*read"):
        folder.restore_checkpoint("cpu", fail_if_called)


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "a")
    folder.save_checkpoint({"step": 1})
    folder.append_rows([{"step": 2}])

    def restore(state: dict[str, Any]) -> None:
        torch.zeros(3).copy_(torch.zeros(state["width"]))

    with pytest.raises(ValueError, match=r"checkpoint\.pt.*settings\.json"):
        folder.restore_checkpoint("cpu", restore)
    assert runs.read_rows(folder.path) == [{"step": 2}]


def test_lost_rows_are_noticed(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "a")
    folder.append_rows([{"step": 0}])
    folder.save_checkpoint({"step": 0})
    os.truncate(folder.path / "metrics.jsonl", 3)
    with pytest.raises(ValueError, match=r"metrics\.jsonl.* rows"):
        folder.restore_checkpoint("cpu", fail_if_called)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_folder(tmp_path / "a")
    folder.save_checkpoint({"step": 1})
    folder.write_json("summary.json", {"runs": [1]})

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=r"No space left.*room.*'.*checkpoint\.pt'"):
        folder.save_checkpoint({"step": 2})
    with pytest.raises(OSError, match=r"No space left.*room.*'.*summary\.json'"):
        folder.write_json("summary.json", {"runs": [2]})
    monkeypatch.undo()
    assert restored(folder) == {"step": 1}
    assert runs.read_json(folder.path / "summary.json") == {"runs": [1]}
    assert not list(folder.path.glob("*.partial"))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EPERM, "may write"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "may write"),
        (errno.EDQUOT, "room"),
        (errno.EIO, "check.* disk"),
    ],
)
def test_what_to_do_depends_on_what_was_wrong(
    number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for owner, name in ((os, "fsync"), (Path, "open"), (Path, "replace")):
        with monkeypatch.context() as changed:
            changed.setattr(owner, name, fail)
            with pytest.raises(OSError, match=words) as found:
                runs.write_atomically(tmp_path / "file", b"new")
        assert ("make room" in str(found.value)) == (number == errno.EDQUOT)
        assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way_of_a_file_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError, match=r"another.*'.*/taken'"):
        runs.write_atomically(tmp_path / "taken", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_interrupted_write_leaves_nothing_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runs.write_atomically(tmp_path / "file", b"new")
    assert not list(tmp_path.iterdir())


def test_rows_that_do_not_fit_on_the_disk_are_an_error(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "a")
    folder.append_rows([{"step": 0}])
    folder.save_checkpoint({"step": 0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))  # a second row fits in part only
        with pytest.raises(OSError, match="room"):
            folder.append_rows([{"step": 1}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert restored(folder) == {"step": 0}
    assert runs.read_rows(folder.path) == [{"step": 0}]


def test_a_damaged_checkpoint_can_be_deleted_for_the_one_before(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "a")
    for step in range(3):
        folder.append_rows([{"step": step}])
        folder.save_checkpoint({"step": step})
    checkpoint = folder.path / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(ValueError, match="delete"):
        folder.restore_checkpoint("cpu", fail_if_called)
    assert len(runs.read_rows(folder.path)) == 3
    checkpoint.unlink()
    assert restored(folder) == {"step": 1}
    assert runs.read_rows(folder.path) == [{"step": 0}, {"step": 1}]


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"empty.*thesis\.tex.*another"):
        new_folder(tmp_path / "full")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="written"):
        new_folder(tmp_path / "file")
    with pytest.raises(ValueError, match="written"):
        new_folder(tmp_path / "file" / "below")
    with pytest.raises(ValueError, match=r"settings\.json"):
        RunFolder.reopen(tmp_path, "tests")
    new_folder(tmp_path / "other").close()
    with pytest.raises(ValueError, match=r"empty.*--resume .*other"):
        new_folder(tmp_path / "other")
    with pytest.raises(ValueError, match=r"^(?!.*--resume).*another"):
        runs.check_new(tmp_path / "other", resumable=False)
    with pytest.raises(ValueError, match=r"run.*something"):
        RunFolder.reopen(tmp_path / "other", "something")
    (tmp_path / "other" / "settings.json").write_text('{"prog')
    with pytest.raises(ValueError, match="damaged"):
        RunFolder.reopen(tmp_path / "other", "tests")


def test_the_second_process_is_refused(tmp_path: Path) -> None:
    first = new_folder(tmp_path / "a")
    with pytest.raises(ValueError, match="in use"):
        RunFolder.reopen(tmp_path / "a", "tests")
    first.close()
    RunFolder.reopen(tmp_path / "a", "tests")[0].close()


def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(ValueError, match="name a file"):
            runs.write_atomically(tmp_path / name, b"new")
    assert sorted(own.name for own in tmp_path.iterdir()) == ["link", "pipe"]
    assert (tmp_path / "pipe").is_fifo()
