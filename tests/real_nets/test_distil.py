"""`python -m real_nets.distil`: students of a stored teacher, which must stay what it was."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdeficit import cross_entropy
from rankdeficit.control.distillation import kd_loss
from rankdeficit.experiments import runs
from real_nets import distil, train
from real_nets.distil import Settings
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.run import initial_network, train_job
from real_nets.jobs.teacher import loss_of
from real_nets.jobs.trained import find_trained
from real_nets.training.loop import Training
from tests.real_nets.tiny import CPU, data_of, tiny_job, write_root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def taught(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a teacher trained at T = 20."""
    path = tmp_path_factory.mktemp("teacher") / "T20-seed0"
    job = tiny_job(temperature=20.0, epochs=2, milestones=(0.1,))
    train_job(job, data_of(job, root), path)
    return path


@pytest.fixture
def teacher(taught: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(taught, tmp_path / taught.name))


def small(root: Path, teacher: Path, out: Path, **options: Any) -> Settings:
    usual = {
        "data": str(root / "own"), "teacher": str(teacher), "out": out, "width": 8, "depth": 3,
        "epochs": 1, "batch_size": 16, "lr": 0.1, "followed_images": 60, "device": "cpu",
    }  # fmt: skip
    return Settings(**usual | options)


def test_a_student_is_a_trained_network_that_names_its_teacher(
    root: Path, teacher: Path, tmp_path: Path
) -> None:
    path = distil.run(small(root, teacher, tmp_path / "run", kd_temperature=2.0, epochs=0))
    file = teacher / "weights.safetensors"
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    for settings in (path / "settings.json", path / "T1-seed0" / "settings.json"):
        written = runs.read_json(settings)["settings"]
        written = written.get("job", written)
        assert (written["teacher"], written["teacher_weights"]) == (str(file), sha)
        assert written["kd_temperature"] == 2.0
    found = find_trained(path)
    assert found == JobFolder(path / "T1-seed0")
    assert any(str(file) in note for note in found.job.notes_on_loss)


def test_without_weight_the_teacher_changes_nothing(root: Path, teacher: Path) -> None:
    plain = tiny_job(width=8, epochs=1)
    settings = distil.with_teacher(small(root, teacher, teacher))
    told = {"teacher": settings.teacher, "teacher_weights": settings.teacher_weights}
    found = []
    for job in (plain, replace(plain, kd_weight=0.0, **told), replace(plain, **told)):
        data = data_of(job, root)
        training = Training(
            initial_network(job, data), data.batches, job, temperature=1.0, seed=0, device=CPU,
            criterion=loss_of(job, data),
        )  # fmt: skip
        training.run_until(training.steps, lambda step: None)
        assert "criterion" not in training.state()
        found.append(torch.cat([p.detach().flatten() for p in training.model.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_loss_has_both_networks_at_the_temperatures_that_they_are_trained_at(
    root: Path, teacher: Path
) -> None:
    settings = distil.with_teacher(small(root, teacher, teacher))
    job = tiny_job(
        width=8, temperature=3.0, teacher=settings.teacher, kd_temperature=2.0, kd_weight=0.6,
        teacher_weights=settings.teacher_weights,
    )  # fmt: skip
    data = data_of(job, root)
    student = initial_network(job, data)
    own = tiny_job(temperature=20.0, epochs=2)
    stored = initial_network(own, data)
    stored.load_state_dict(JobFolder(teacher).read_weights())
    inputs, labels = next(iter(data.train))
    found = loss_of(job, data)(student(inputs), labels, 0, inputs)
    z, v = student(inputs) / 3, stored(inputs) / 20
    expected = 0.6 * kd_loss(z, v, 2.0) + 0.4 * cross_entropy(z, labels)
    torch.testing.assert_close(found, expected)


def test_a_distillation_goes_on_with_its_teacher_alone(
    root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(root, teacher, tmp_path / "run", epochs=0)

    def interrupted(item: Any, *arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "train_here", interrupted)
        with pytest.raises(KeyboardInterrupt):
            distil.run(settings)
    resumed = Settings(resume=settings.out)
    file, moved = teacher / "weights.safetensors", tmp_path / "moved"
    file.rename(moved)
    with pytest.raises(ValueError, match="--teacher"):
        distil.run(resumed)
    shutil.copy(teacher / "accuracy-0.1.safetensors", file)
    with pytest.raises(ValueError, match=r"other weights.*SHA-256"):
        distil.run(resumed)
    moved.replace(file)
    assert JobFolder(distil.run(resumed) / "T1-seed0").job.teacher == str(file)


def test_teachers_that_cannot_teach_are_refused_before_anything_is_written(
    root: Path, teacher: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    usual = small(root, teacher, out)
    for change, word in (
        ({"teacher": None}, "--teacher"),
        ({"teacher": str(tmp_path)}, "--teacher.* settings.json"),
        ({"data": str(root / "other")}, "other images"),
        ({"per_class": 5}, "other images"),
        ({"teacher_weights": "ab"}, "other weights"),
        ({"kd_temperature": 0.0}, "kd_temperature is 0"),
        ({"kd_weight": -1.0}, "kd_weight is -1"),
    ):
        with pytest.raises(ValueError, match=word):
            distil.run(replace(usual, **change))
        assert not out.exists()


def test_kept_weights_teach_too(root: Path, teacher: Path, tmp_path: Path) -> None:
    file = teacher / "accuracy-0.1.safetensors"
    settings = distil.with_teacher(small(root, file, tmp_path / "run"))
    assert settings.teacher == str(file)
    assert settings.teacher_weights == hashlib.sha256(file.read_bytes()).hexdigest()
