"""Jobs: their names tell them apart, their records bring them back, and nonsense is refused."""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from real_nets.jobs.job import Job, JobOptions

OTHER: dict[str, Any] = {
    "data": "cifar10", "ood": ("svhn",), "temperature": 50.0, "seed": 1, "diagnosed_images": 0,
    "model": "resnet18", "width": 8, "depth": 3, "stem": "cifar", "norm": "batch", "head_rank": 2,
    "head_norm": "layer", "attention_temperature": 4.0,
    "learned_attention": True, "init": "orthogonal", "init_scale": 0.5, "head_scale": 0.5,
    "pretrained": True, "image_size": 8, "gamma": 1e-2, "followed_images": 10,
    "milestones": (0.5,), "epochs": 2, "stop_accuracy": 0.5, "batch_size": 2, "loss": "mse",
    "label_smoothing": 0.1, "optimizer": "adamw", "lr": 0.1, "lr_rule": "reparametrised",
    "momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "schedule": "step",
    "warmup_epochs": 1.0, "clip_norm": None, "augmentation": "flip", "precision": "bf16",
    "channels_last": True, "compile": True, "temperature_schedule": "down", "hot_share": 0.5,
    "temperature_ramp": 1.0, "temperature_cycles": 2, "crop": 0.5, "per_class": 9,
    "test_per_class": 5, "intervention": ("z-loss=0.1", "soft-cap"),
    "teacher": "T50-seed0", "teacher_weights": "ab", "kd_temperature": 2.0, "kd_weight": 0.5,
}  # fmt: skip
"""Another value for every option."""


def test_jobs_that_differ_in_anything_have_different_names() -> None:
    assert OTHER.keys() == {field.name for field in fields(Job)}
    jobs = [Job(), *(replace(Job(), **{name: value}) for name, value in OTHER.items())]
    assert len({job.key for job in jobs}) == len(jobs)


def test_a_name_says_what_the_job_is_and_stays_the_same() -> None:
    nothing_changed = hashlib.sha256(b"{}").hexdigest()[:8]
    assert Job().key == f"glyphs_mlp_T1_seed0_{nothing_changed}"
    job = Job(data="glyphs:50", model="timm:resnet18", temperature=2.5, seed=3)
    changed = b'{"data": "glyphs:50", "model": "timm:resnet18", "seed": 3, "temperature": 2.5}'
    digest = hashlib.sha256(changed).hexdigest()[:8]
    assert job.key == f"glyphs-50_timm-resnet18_T2.5_seed3_{digest}"
    close = replace(job, temperature=2.5000001)
    assert close.key.startswith("glyphs-50_timm-resnet18_T2.5_seed3_")
    assert close.key != job.key


def test_a_new_option_does_not_rename_old_jobs() -> None:
    @dataclass(frozen=True)
    class NewerJob(Job):
        colour: str = "grey"

    assert NewerJob(lr=0.1).key == Job(lr=0.1).key
    assert NewerJob(lr=0.1, colour="red").key != Job(lr=0.1).key


def test_a_record_brings_the_job_back() -> None:
    plain = {k: v for k, v in OTHER.items() if k not in ("label_smoothing", "optimizer", "lr_rule")}
    for job in (Job(), Job(**plain)):
        record = json.loads(json.dumps(job.record()))
        assert Job.of(record) == job
        assert Job.of(record).key == job.key
    with pytest.raises(TypeError, match="colour"):
        Job.of({**Job().record(), "colour": "red"})


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("mlp", "width depth norm head_rank head_norm init init_scale head_scale"),
        ("resnet18", "stem width"),
    ],
)
def test_the_architecture_has_the_options_of_the_network(model: str, names: str) -> None:
    given = {name: OTHER[name] for name in names.split()}
    built = Job(model=model, **given).architecture(7, (3, 8, 6))
    assert (built.name, built.classes, built.inputs) == (model, 7, (3, 8, 6))
    assert {name: getattr(built, name) for name in given} == given


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"gamma": 1.0}, "gamma is 1.0"),
        ({"gamma": 1e-9}, r"gamma.* 1e-09.* \[1e-06, 1\)"),
        ({"diagnosed_images": -1}, "diagnosed_images is -1"),
        ({"followed_images": 0}, "followed_images is 0"),
        ({"milestones": (0.5, 1.5)}, r"milestones are \(0.5, 1.5\)"),
        ({"milestones": (0.0,)}, r"milestones are \(0.0,\)"),
        ({"model": "resnt18"}, "resnt18"),
        ({"width": 0}, "width is 0"),
        ({"per_class": 0}, "per_class is 0"),
        ({"test_per_class": -1}, "test_per_class is -1"),
        ({"model": "resnet18", "depth": 3}, "depth is 3"),
        ({"head_rank": 0}, "head_rank is 0"),
        ({"kd_temperature": 0.0}, "kd_temperature is 0"),
        ({"kd_weight": 1.5}, "kd_weight is 1.5"),
    ],
    ids=str,
)
def test_jobs_that_make_no_sense(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(Job(), **change).check()


def test_options_are_checked_without_a_job() -> None:
    JobOptions().check()
    Job().check()
    with pytest.raises(ValueError, match="followed_images is -3"):
        JobOptions(followed_images=-3).check()
