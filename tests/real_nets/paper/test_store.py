"""A store of jobs: one process at a time, records of targets that come back or name what is wrong."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from real_nets.paper.grid import BASELINE, LOW_NORM, OTHER, Cell
from real_nets.paper.store import (
    TargetRecord,
    check_free,
    check_place,
    job_folder,
    locked,
    read_targets,
    write_target,
)

CELL = Cell("CIFAR-10", "MLP", BASELINE, "cifar10", 1.0, ("a", "b"))


def record(name: str, **change: Any) -> TargetRecord:
    content = {"budget": "smoke", "cells": [CELL], "left_out": {"x": "y"}, "computed": {"z": [1]}}
    return TargetRecord(name=name, **content | change)


def test_records_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    for name in ("fig1", "table1", "table2"):
        write_target(tmp_path, record(name))
    found = read_targets(tmp_path, ["table2", "unknown", "fig1"])
    assert found == [record("table2"), record("fig1")]
    assert found[0].cells[0].keys == ("a", "b")
    write_target(tmp_path, record("fig1", computed={}))
    assert read_targets(tmp_path, ["fig1"]) == [record("fig1", computed={})]


def test_a_target_is_filled_one_part_after_the_other(tmp_path: Path) -> None:
    hot = replace(CELL, condition=LOW_NORM, temperature=50.0, keys=("c",))
    other = replace(CELL, network="VGG-19", keys=("d",))
    write_target(tmp_path, record("fig1", cells=[CELL, hot], left_out={"x": "y", other.name: "no"}))
    write_target(tmp_path, record("fig1", cells=[other], left_out={"u": "v"}))
    (found,) = read_targets(tmp_path, ["fig1"])
    assert found == record("fig1", cells=[CELL, hot, other], left_out={"x": "y", "u": "v"})
    again = replace(CELL, keys=("e",))
    write_target(tmp_path, record("fig1", cells=[again], left_out={}))
    (found,) = read_targets(tmp_path, ["fig1"])
    assert found.cells == [again, other]
    write_target(tmp_path, record("fig1", cells=[again, other], left_out={}))
    assert read_targets(tmp_path, ["fig1"]) == [record("fig1", cells=[again, other], left_out={})]


def test_what_a_record_shows_no_longer_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hot = replace(CELL, condition=LOW_NORM, temperature=50.0, keys=("c",))
    write_target(tmp_path, record("fig1", cells=[CELL, hot]))
    write_target(tmp_path, record("fig1", cells=[CELL, hot]))
    assert not capsys.readouterr().err
    longer = replace(CELL, keys=("d",)), replace(hot, keys=("e",))
    write_target(tmp_path, record("fig1", cells=list(longer)))
    (line,) = capsys.readouterr().err.splitlines()
    assert "CIFAR-10/MLP (low logit norm, T = 50)" in line
    assert str(tmp_path / "targets" / "fig1.json") in line
    write_target(tmp_path, record("fig1", budget="small", cells=[replace(CELL, keys=("f",))]))
    assert "(baseline, T = 1), CIFAR-10/MLP (low logit norm, T = 50)" in capsys.readouterr().err


def test_every_temperature_that_was_tried_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hot = replace(CELL, condition=LOW_NORM, temperature=50.0, keys=("c",), reason="it was first")
    warm = replace(hot, temperature=30.0, keys=("d",), reason="it was better")
    write_target(tmp_path, record("fig1", cells=[CELL, hot]))
    write_target(tmp_path, record("fig1", cells=[CELL, warm]))
    assert not capsys.readouterr().err
    (found,) = read_targets(tmp_path, ["fig1"])
    assert found.cells == [CELL, warm, replace(hot, condition=OTHER, reason="")]
    write_target(tmp_path, record("fig1", cells=[CELL, hot]))
    (found,) = read_targets(tmp_path, ["fig1"])
    assert found.cells == [CELL, replace(warm, condition=OTHER, reason=""), hot]


def test_what_is_left_out_again_has_the_newer_reason(tmp_path: Path) -> None:
    other = replace(CELL, network="VGG-19", keys=("d",))
    write_target(tmp_path, record("fig1", left_out={"x": "no x here", "y": "no y here"}))
    write_target(tmp_path, record("fig1", cells=[other], left_out={"x": "x is too small"}))
    (found,) = read_targets(tmp_path, ["fig1"])
    assert found.left_out == {"x": "x is too small", "y": "no y here"}


def test_another_budget_starts_anew_and_so_does_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(CELL, network="VGG-19")
    write_target(tmp_path, record("fig1"))
    write_target(tmp_path, record("fig1", budget="small", cells=[other]))
    expected = [record("fig1", budget="small", cells=[other])]
    assert read_targets(tmp_path, ["fig1"]) == expected
    for content in ("", "{}", '{"cells": [3]}'):
        (tmp_path / "targets" / "fig1.json").write_text(content)
        assert not capsys.readouterr().err
        write_target(tmp_path, record("fig1", budget="small", cells=[other]))
        assert read_targets(tmp_path, ["fig1"]) == expected
        assert "fig1.json" in capsys.readouterr().err


def test_a_store_without_results_says_so(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"no results.*--out"):
            read_targets(folder, ["fig1"])
    write_target(tmp_path, record("fig1"))
    with pytest.raises(ValueError, match="no results"):
        read_targets(tmp_path, ["table1"])


@pytest.mark.parametrize(
    "content",
    ["", '{"name": "fig1"', "[]", "{}", '{"cells": 3}', '{"cells": [3]}', '{"cells": [{}]}',
     '{"cells": []}', '{"cells": [], "name": "fig1", "new": 1}'],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_a_damaged_record_is_one_clear_error(content: str, tmp_path: Path) -> None:
    write_target(tmp_path, record("table1"))
    (tmp_path / "targets" / "fig1.json").write_text(content)
    with pytest.raises(ValueError, match=r"fig1\.json"):
        read_targets(tmp_path, ["table1", "fig1"])
    assert read_targets(tmp_path, ["table1"]) == [record("table1")]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    store = tmp_path / "deep" / "store"
    with locked(store):
        assert store.is_dir()
        with pytest.raises(ValueError, match=r"/store .*in use"), locked(store):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(store):
        pass


def test_a_failed_run_leaves_the_store_to_others(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_an_error_within_is_not_mistaken_for_a_folder_that_cannot_be_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(OSError, match="No space left"), locked(tmp_path):
        raise OSError(28, "No space left on device")


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"--out .*file.* written"), locked(place):
            pass
    assert (tmp_path / "file").read_text() == "precious"


def lay_out(place: Path, files: list[str], folders: list[str]) -> None:
    for name in folders:
        (place / name).mkdir()
    for name in files:
        (place / name).write_text("mine")


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        ([], []),
        ([".lock"], []),
        ([".lock"], ["submitit"]),
        ([".lock"], ["jobs"]),
        (["report.html", "mine"], ["targets"]),
        (["README.md"], ["figures", "jobs", "targets"]),
        ([".x.partial", "log.txt"], ["mine"]),
    ],
)
def test_a_store_goes_on_and_an_empty_folder_starts_one(
    files: list[str], folders: list[str], tmp_path: Path
) -> None:
    lay_out(tmp_path, files, folders)
    check_place(tmp_path)
    check_place(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        (["report.html"], []),
        ([".lock", "report.html"], []),
        ([".lock", "settings.json"], ["T1-seed0"]),
        ([".lock", "settings.json"], ["jobs"]),
        (["jobs"], []),
    ],
)
def test_a_folder_of_something_else_is_no_place_for_a_store(
    files: list[str], folders: list[str], tmp_path: Path
) -> None:
    lay_out(tmp_path, files, folders)
    with pytest.raises(ValueError, match=r"--out .* other files"):
        check_place(tmp_path)


def test_a_file_and_a_folder_without_permission_are_no_places_for_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"/file\b"):
            check_place(place)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=r"written .*Permission denied"):
        check_place(tmp_path / "new")


def test_looking_whether_a_store_is_free_makes_none(tmp_path: Path) -> None:
    check_free(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with locked(tmp_path), pytest.raises(ValueError, match="in use"):
        check_free(tmp_path)
    check_free(tmp_path)


def test_jobs_and_records_are_where_the_page_says(tmp_path: Path) -> None:
    assert job_folder(tmp_path, "key") == tmp_path / "jobs" / "key"
    write_target(tmp_path, record("fig1"))
    written = json.loads((tmp_path / "targets" / "fig1.json").read_text())
    assert written["cells"][0]["keys"] == ["a", "b"]
