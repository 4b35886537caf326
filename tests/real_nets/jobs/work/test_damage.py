"""Folders of others, and files that are damaged: refused, told of, or made again."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rankdeficit.experiments.runs import RunFolder
from real_nets.jobs.folder import PROGRAM, JobFolder
from tests.real_nets.jobs.work.jobs import HOT, CutError, diagnose, train
from tests.real_nets.tiny import contents, tiny_job


def test_a_folder_of_other_data_is_refused(root: Path, copy: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    changed = moved / "other" / "test" / "class1" / "0.png"
    original = changed.read_bytes()
    shutil.copy(changed.with_name("1.png"), changed)
    before = contents(copy)
    with pytest.raises(ValueError, match=r"hot.* other data.* restore"):
        train(HOT, moved, copy)
    assert contents(copy) == before
    changed.write_bytes(original)
    assert train(HOT, moved, copy) == JobFolder(copy).summary


@pytest.mark.parametrize("change", [{"lr": 0.2}, {"seed": 1}, {"ood": ()}], ids=str)
def test_a_folder_of_another_job_is_refused(change: dict[str, Any], root: Path, copy: Path) -> None:
    before = contents(copy)
    with pytest.raises(ValueError, match=r"hot.* another folder"):
        train(replace(HOT, **change), root, copy)
    assert contents(copy) == before


def test_a_job_from_before_an_option_existed_had_its_default(root: Path, copy: Path) -> None:
    written = json.loads((copy / "settings.json").read_text())
    del written["settings"]["job"]["head_norm"]
    (copy / "settings.json").write_text(json.dumps(written))
    assert train(HOT, root, copy) == JobFolder(copy).summary
    with pytest.raises(ValueError, match="another job"):
        train(replace(HOT, head_norm="layer"), root, copy)


def test_a_folder_that_another_process_uses_is_refused(root: Path, copy: Path) -> None:
    folder, _ = RunFolder.reopen(copy, PROGRAM)
    with pytest.raises(ValueError, match=r"hot.* in use"):
        train(HOT, root, copy)
    folder.close()
    assert train(HOT, root, copy) == JobFolder(copy).summary


def test_a_refused_job_leaves_its_folder_to_others(root: Path, copy: Path) -> None:
    with pytest.raises(ValueError, match="another job") as kept:  # with all that it refers to
        train(replace(HOT, lr=0.2), root, copy)
    assert kept.traceback
    RunFolder.reopen(copy, PROGRAM)[0].close()


def test_files_of_others_are_not_written_over(root: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"not empty.* thesis\.tex"):
        train(HOT, root, tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"precious"}


def test_a_damaged_summary_is_measured_again(root: Path, hot: Path, copy: Path) -> None:
    for content in ("", '{"outcome": "interp', "[]", '{"rank": 3}'):
        (copy / "summary.json").write_text(content)
        before = contents(copy)
        with pytest.raises(ValueError, match=r"summary\.json.* damaged.* delete"):
            train(HOT, root, copy)
        assert contents(copy) == before
    (copy / "summary.json").unlink()
    train(HOT, root, copy)
    assert contents(copy) == contents(hot)


@pytest.mark.parametrize(
    "content", ["", '{"program": "real', "[]", '{"program": "real_nets.job", "settings": 3}']
)
def test_damaged_settings_are_one_clear_error(content: str, root: Path, copy: Path) -> None:
    (copy / "settings.json").write_text(content)
    before = contents(copy)
    with pytest.raises(ValueError, match=r"settings\.json.* damaged|not .*real_nets\.job"):
        train(HOT, root, copy)
    assert contents(copy) == before


def test_a_truncated_checkpoint_costs_one_interval(root: Path, tmp_path: Path) -> None:
    job = tiny_job(epochs=1, batch_size=12)
    train(job, root, tmp_path / "whole")
    path = tmp_path / "cut"

    def cut(step: int) -> None:
        if step == 6:
            raise CutError

    with pytest.raises(CutError):
        train(job, root, path, on_step=cut)
    for keep in (300, 0):
        os.truncate(path / "checkpoint.pt", keep)
        before = contents(path)
        with pytest.raises(ValueError, match=r"checkpoint\.pt.* read.* delete"):
            train(job, root, path)
        assert contents(path) == before
    (path / "checkpoint.pt").unlink()
    heard: list[int] = []
    train(job, root, path, on_step=heard.append)
    assert heard[0] == 1
    assert contents(path) == contents(tmp_path / "whole")


def test_truncated_final_weights_are_made_again_from_the_checkpoint(
    root: Path, hot: Path, copy: Path
) -> None:
    (copy / "diagnoses" / "final.json").unlink()
    os.truncate(copy / "weights.safetensors", 1000)
    before = contents(copy)
    with pytest.raises(ValueError, match=r"weights\.safetensors.* delete .*summary\.json"):
        diagnose(HOT, root, copy)
    assert contents(copy) == before
    for name in ("weights.safetensors", "summary.json"):
        (copy / name).unlink()
    heard: list[int] = []
    train(HOT, root, copy, on_step=heard.append)
    diagnose(HOT, root, copy)
    assert heard == [48]
    assert contents(copy) == contents(hot)


def test_truncated_weights_of_a_milestone_need_another_training(root: Path, copy: Path) -> None:
    os.truncate(copy / "accuracy-0.9.safetensors", 1000)
    with pytest.raises(ValueError, match=r"accuracy-0\.9\.saf.* delete .*folder .*hot"):
        diagnose(HOT, root, copy, "accuracy-0.9")


def test_missing_weights_are_made_again_as_damaged_ones(root: Path, hot: Path, copy: Path) -> None:
    (copy / "accuracy-0.9.safetensors").unlink()
    with pytest.raises(ValueError, match=r"accuracy-0\.9\.saf.* missing.* delete .*folder .*hot"):
        diagnose(HOT, root, copy, "accuracy-0.9")
    shutil.copy(hot / "accuracy-0.9.safetensors", copy)
    for name in ("diagnoses/final.json", "weights.safetensors"):
        (copy / name).unlink()
    with pytest.raises(ValueError, match=r"weights\.saf.* missing.* delete summary\.json"):
        diagnose(HOT, root, copy)
    (copy / "summary.json").unlink()
    train(HOT, root, copy)
    diagnose(HOT, root, copy)
    assert contents(copy) == contents(hot)


@pytest.mark.parametrize("content", ["", "[]", '{"diagnosis_seconds": 3}'])
def test_a_damaged_environment_is_named(content: str, root: Path, copy: Path) -> None:
    (copy / "diagnoses" / "final.json").unlink()
    (copy / "environment.json").write_text(content)
    with pytest.raises(ValueError, match=r"environment\.json.* damaged.* delete"):
        diagnose(HOT, root, copy)
    (copy / "environment.json").unlink()
    diagnose(HOT, root, copy)


def test_a_damaged_diagnosis_is_made_again(root: Path, hot: Path, copy: Path) -> None:
    file = copy / "diagnoses" / "final.json"
    for content in ("", '{"train": {', "[]", '{"train": 3}'):
        file.write_text(content)
        before = contents(copy)
        with pytest.raises(ValueError, match=r"final\.json.* delete"):
            diagnose(HOT, root, copy)
        assert contents(copy) == before
    file.unlink()
    diagnose(HOT, root, copy)
    assert contents(copy) == contents(hot)
