"""What no network is trained on, found before anything is written; unusual networks that are."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from rankdeficit.compiling import check_compiler
from real_nets.jobs import data as job_data
from real_nets.jobs import trial
from real_nets.jobs.job import Job
from real_nets.jobs.run import train_job
from real_nets.jobs.trial import try_training
from real_nets.models import MODELS, Definition
from real_nets.models.parts import Shape
from real_nets.training.recipe import Recipe
from tests.real_nets.models.headed import OneHead, TwoHeads
from tests.real_nets.tiny import contents, data_of, tiny_job, write_root
from tests.real_nets.training.small import small_mlp, training


class Outputs(NamedTuple):
    """As GoogLeNet's during training."""

    logits: Tensor
    aux_logits: Tensor


class WithAuxiliary(nn.Module):
    """The network, which while training has further logits."""

    def __init__(self, network: nn.Module, kind: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.network, self.kind = network, kind
        self.auxiliary = nn.Linear(192, 2)

    def forward(self, inputs: Tensor) -> object:
        logits = self.network(inputs)
        return self.kind(logits, self.auxiliary(inputs.flatten(1))) if self.training else logits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "data")


@pytest.fixture
def job_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """A job with a network of its own, which is registered meanwhile."""

    def make(network: Callable[[int], nn.Module], **options: Any) -> Job:
        def own(*, inputs: Shape, classes: int) -> nn.Module:
            return network(classes)

        monkeypatch.setitem(MODELS, "own", Definition(own, "own"))
        return tiny_job(model="own", width=None, depth=None, **options)

    return make


def test_a_job_that_cannot_be_trained_leaves_nothing(root: Path, tmp_path: Path) -> None:
    job = tiny_job(norm="batch", batch_size=1)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"mlp.* batch.* one"):
        train_job(job, data_of(job, root), tmp_path / "jobs" / "own")
    assert contents(tmp_path) == before
    assert not (tmp_path / "jobs").exists()


def test_what_only_training_cannot_take_is_found(root: Path, job_of: Callable[..., Job]) -> None:
    class Picky(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            assert not self.training, "no"
            return super().forward(inputs)  # type: ignore[no-any-return]

    job = job_of(lambda classes: Picky(nn.Flatten(), nn.Linear(192, classes)))
    with pytest.raises(ValueError, match=r"own.* 8 x 8.*\(no\).* another"):
        try_training(job, data_of(job, root))


def test_a_trial_leaves_the_random_numbers(root: Path) -> None:
    job = tiny_job(model="vit", depth=1)
    before = torch.get_rng_state()
    try_training(job, data_of(job, root))
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_with_auxiliary_logits_are_trained_on_their_own() -> None:
    plain, other = training(small_mlp()), training(WithAuxiliary(small_mlp(), Outputs))
    for one in (plain, other):
        one.run_until(6, lambda step: None)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[f"network.{name}"], value)


def test_networks_whose_logits_are_not_told_apart_are_refused(
    root: Path, job_of: Callable[..., Job]
) -> None:
    def network(classes: int) -> nn.Module:
        return WithAuxiliary(nn.Sequential(nn.Flatten(), nn.Linear(192, classes)), lambda *x: x)

    job = job_of(network)
    with pytest.raises(ValueError, match=r"own.* logits.* train"):
        try_training(job, data_of(job, root))


def test_weights_that_do_not_count_are_for_one_process_alone(
    root: Path, job_of: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def network(classes: int) -> nn.Module:
        return WithAuxiliary(nn.Sequential(nn.Flatten(), nn.Linear(192, classes)), Outputs)

    job = job_of(network)
    try_training(job, data_of(job, root))
    monkeypatch.setattr(trial, "rank_and_size", lambda: (0, 2))
    with pytest.raises(ValueError, match=r"auxiliary\.weight.* processes"):
        try_training(job, data_of(job, root))


@pytest.mark.parametrize(
    ("processes", "options", "said"),
    [
        (2, {"followed_images": 1}, "followed_images.* 1, .* 2 .*--followed-images 2"),
        (5, {"diagnosed_images": 4}, "diagnosed_images.* 4, .* 5 processes"),
        (9, {"batch_size": 8}, "batch_size.* 8, .* 9 processes"),
        (41, {"batch_size": 120, "ood": ()}, "own.* 40 test .* 41 .* 40"),
        (19, {"batch_size": 120}, "other.* 18 test .* 19 processes"),
    ],
    ids=lambda value: str(value),
)  # fmt: skip
def test_more_processes_than_images_leave_nothing(
    processes: int, options: dict[str, Any], said: str, root: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    job = tiny_job(**{"ood": ("other",), "diagnosed_images": 0} | options)
    before = contents(tmp_path)
    monkeypatch.setattr(job_data, "rank_and_size", lambda: (0, processes))
    with pytest.raises(ValueError, match=said):
        train_job(job, data_of(job, root), tmp_path / "jobs" / "own")
    assert contents(tmp_path) == before
    monkeypatch.setattr(job_data, "rank_and_size", lambda: (0, processes - 1))
    try_training(job, data_of(job, root))


def test_rates_are_not_reparametrised_of_one_of_several_classifiers(
    root: Path, job_of: Callable[..., Job]
) -> None:
    job = job_of(TwoHeads, temperature=5.0)
    try_training(job, data_of(job, root))
    hot = replace(job, lr_rule="reparametrised")
    told = r"lr_rule.* 'reparametrised', .* classifier.* other.* one.* --lr-rule"
    with pytest.raises(ValueError, match=told):
        try_training(hot, data_of(job, root))
    one = job_of(lambda classes: OneHead(classes, classes), temperature=5.0)
    try_training(replace(one, lr_rule="reparametrised"), data_of(job, root))


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("model", [{}, {"head_rank": 2}, {"model": "vit", "depth": 1}])
def test_rates_are_not_reparametrised_where_logits_are_normalised(
    norm: str, model: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    usual = {"temperature": 5.0, "lr_rule": "reparametrised", "head_norm": norm}
    hot = tiny_job(**usual | model)
    told = (
        rf"lr_rule.* 'reparametrised', .*head_norm.* '{norm}', .* T = 5 .*--lr-rule matched"
        ".* --head-norm$"
    )
    with pytest.raises(ValueError, match=told):
        train_job(hot, data_of(hot, root), tmp_path / "jobs" / "own")
    assert not (tmp_path / "jobs").exists()
    for fit in ({"temperature": 1.0}, {"lr_rule": "matched"}, {"head_norm": "none"}):
        try_training(replace(hot, **fit), data_of(hot, root))


@pytest.mark.parametrize(("features", "rank"), [(2, 2), (6, 3)])
def test_a_classifier_may_be_a_convolution(
    features: int, rank: int, root: Path, tmp_path: Path, job_of: Callable[..., Job]
) -> None:
    def network(classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, features, 3), nn.ReLU(), nn.Conv2d(features, classes, 1, bias=False),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip

    job = job_of(network, epochs=1)
    summary = train_job(job, data_of(job, root), tmp_path / "own")
    assert summary["neural_collapse_rank"] == rank
    assert summary["rank"] <= features


@pytest.fixture
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        raise RuntimeError("InvalidCxxCompiler: no g++\nand much more")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=fail))
    check_compiler.cache_clear()


WITHOUT = r"torch.compile.* C\+\+ .*\(InvalidCxx.*: no g\+\+\).* --compile"


@pytest.mark.usefixtures("_no_compiler")
def test_without_a_compiler_nothing_is_written(root: Path, tmp_path: Path) -> None:
    job = tiny_job(compile=True)
    with pytest.raises(ValueError, match=WITHOUT):
        train_job(job, data_of(job, root), tmp_path / "jobs" / "own")
    assert not (tmp_path / "jobs").exists()


@pytest.mark.usefixtures("_no_compiler")
def test_a_compiler_that_fails_later_is_one_line() -> None:
    one = training(small_mlp(), Recipe(epochs=1, batch_size=8, compile=True))
    with pytest.raises(ValueError, match=WITHOUT):
        one.run_until(1, lambda step: None)


def test_errors_of_others_stay_what_they_are() -> None:
    class Broken(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            raise RuntimeError("out of luck")

    one = training(Broken(192, 2), Recipe(epochs=1, batch_size=8))
    with pytest.raises(RuntimeError, match="out of luck"):
        one.run_until(1, lambda step: None)
