"""A watch leaves training as it is, and measures what a diagnosis measures."""

import copy
import json
import logging
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Subset,
    TensorDataset,
)

import rankdeficit as rd
from rankdeficit.diagnostics.watch import Thresholds
from tests.processes import run_together
from tests.rankdeficit.diagnostics.diagnose.problems import batches, blobs

CENTRES = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
IMAGES, LABELS = blobs(96, CENTRES)
ALL = {"logits": 1, "alignment": 2, "gradient_ranks": 2}


class Noisy(nn.Module):
    """A layer that draws from all generators, in evaluation mode too."""

    def forward(self, values: Tensor) -> Tensor:
        drawn = random.random() + float(np.random.rand())  # noqa: NPY002
        return values + 0.01 * drawn * torch.rand_like(values)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), Noisy(), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(128, 4),
    )  # fmt: skip


def train(model: nn.Module, watch: rd.Watch | None, steps: int = 6) -> list[Any]:
    """What a training leaves: weights, statistics, gradients, modes, and the next random numbers."""
    torch.manual_seed(2), random.seed(2), np.random.seed(2)  # noqa: NPY002
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model[4].eval()  # type: ignore[index]  # a mode of its own
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=16, shuffle=True)
    if watch is not None:
        watch.open()
    for (inputs, labels), _ in zip(loader, range(steps), strict=False):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(model(inputs).float() / 2, labels)
            loss.backward()
            optimizer.step()
            if watch is not None:
                watch.step(loss)
    if watch is not None:
        watch.close()
    drawn = [torch.rand(3), random.random(), np.random.rand()]  # noqa: NPY002
    grads = [own.grad.clone() for own in model.parameters() if own.grad is not None]
    modes = [own.training for own in model.modules()]
    hooks = [len(own._forward_hooks) + len(own._forward_pre_hooks) for own in model.modules()]
    return [*model.state_dict().values(), *grads, *drawn, modes, hooks]


def equal(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if isinstance(first, Tensor) else bool(first == second)


@pytest.mark.usefixtures("unchecked")  # the checks draw random numbers of Python
def test_training_is_the_same_to_the_bit() -> None:
    probes = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=16, shuffle=True)
    watched = network()
    watch = rd.Watch(watched, probes, every=2, temperature=2.0, measures=ALL, samples=24)
    with_watch, alone = train(watched, watch), train(network(), None)
    assert len(watch.rows) == 4
    assert all(map(equal, with_watch, alone))


class Drawing(Dataset[Any]):
    """Samples with noise of generators of the data set and of its transform."""

    def __init__(self) -> None:
        self.generator, self.transform = np.random.default_rng(0), random.Random(0)
        self.noise, self.older = torch.Generator().manual_seed(0), np.random.RandomState(0)

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        drawn = self.generator.random() + self.transform.random() + self.older.rand()
        noise = torch.rand((), generator=self.noise)
        return IMAGES[index] + noise + float(drawn), int(LABELS[index])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("where", ["loader", "sampler", "data set", "parts"])
def test_generators_of_the_loader_are_left_as_they_were(where: str) -> None:
    own = torch.Generator().manual_seed(3)
    data: Dataset[Any] = TensorDataset(IMAGES, LABELS)
    if where == "loader":
        loader: DataLoader[Any] = DataLoader(data, 16, shuffle=True, generator=own)
    elif where == "sampler":
        loader = DataLoader(data, 16, sampler=RandomSampler(LABELS.tolist(), generator=own))
    else:
        data = Drawing()
        data = ConcatDataset([Subset(data, range(50)), data]) if where == "parts" else data
        loader = DataLoader(data, 16)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    plan = [own.get_state(), copy.deepcopy(data)]
    rd.Watch(plain, loader).open().close()
    assert torch.equal(own.get_state(), plan[0])
    for _ in range(2):
        assert torch.equal(data[60][0], plan[1][60][0])


@pytest.mark.usefixtures("unchecked")
def test_a_watch_takes_data_sets_and_names_what_is_none() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    watched = [
        rd.Watch(model, data, samples=96, measures=["logits"]).open()
        for data in (TensorDataset(IMAGES, LABELS), [(IMAGES, LABELS)])
    ]
    assert watched[0].rows[0]["loss"] == pytest.approx(watched[1].rows[0]["loss"])
    wrong: Any
    for wrong in (None, IMAGES, "data"):
        with pytest.raises(ValueError, match="batches is"):
            rd.Watch(model, wrong).open()
    for wrong in ("nan", torch.ones(2), [1.0]):
        with pytest.raises(ValueError, match="loss is"):
            rd.Watch(model, [(IMAGES, LABELS)], every=1).open().step(wrong)


def test_a_learned_temperature_is_read_at_every_measurement(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    learned = nn.Parameter(torch.tensor(2.0))
    with rd.Watch(
        model, [(IMAGES, LABELS)], every=1, temperature=learned, out=tmp_path / "watch"
    ) as watch:
        with torch.no_grad():
            learned.fill_(8.0)
        watch.step()
    rows = rd.load_run(tmp_path / "watch").rows
    assert [row["temperature"] for row in rows] == [2.0, 8.0]
    for row in rows:
        norms = row["logits.logits_norm"] / row["logits.effective_logits_norm"]
        assert norms == pytest.approx(row["temperature"])


def test_measures_of_one_set_of_samples_are_taken_of_the_probes() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    data = [(IMAGES, LABELS)]
    watch = rd.Watch(model, data, samples=96, measures=["calibration", "reliability"]).open()
    expected = rd.diagnose(model, data, data, measures=["calibration"])
    name = "calibration.before.nll"
    assert watch.rows[0][name] == pytest.approx(expected[name])


class Kept(list[dict[str, Any]]):
    log = list.append


def test_rows_are_the_numbers_of_a_diagnosis(tmp_path: Path) -> None:
    model, logger = network().eval(), Kept()
    model[3] = nn.Identity()  # type: ignore[index]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    probes, reports = batches(IMAGES[:40], LABELS[:40], 32), []
    out = tmp_path / "watch"

    def diagnosed() -> rd.diagnostics.Report:
        return rd.diagnose(model, probes, probes, temperature=2.0, measures=[*ALL], grid=1)

    with rd.Watch(
        model, batches(IMAGES, LABELS, 32), every=2, temperature=2.0, measures=ALL, samples=40,
        out=out, tensorboard=True, loggers=[logger],
    ) as watch:  # fmt: skip
        reports.append(diagnosed())
        for step in range(1, 6):
            loss = nn.functional.cross_entropy(model(IMAGES) / 2, LABELS)
            optimizer.zero_grad(), loss.backward(), optimizer.step()
            if step in (2, 4, 5):
                reports.append(diagnosed())
            watch.step(loss)
    assert [row["step"] for row in watch.rows] == [0, 2, 4, 5]
    assert ["alignment" in row for row in watch.rows] == [True, False, True, False]
    for row, report in zip(watch.rows, reports, strict=True):
        measured = set(row) - {"step", "train_loss", "finite", "alarms", "loss_over_uniform"}
        for name in measured:
            own = name if name.startswith(("layers", "alignment")) else f"train.{name}"
            assert row[name] == pytest.approx(report[own], rel=1e-9, abs=1e-12), name
        assert row["loss_over_uniform"] == pytest.approx(row["loss"] / math.log(4))
    assert {"logits.post_softmax_rank", "logits.rank_curve.0.01", "layers.6.gradient.rank"} <= set(
        watch.rows[2]
    )
    written = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert written == watch.rows == logger
    assert list((out / "tensorboard").iterdir())


def linear_watch(model: nn.Module, **settings: Any) -> rd.Watch:
    """A watch of a network that reads vectors, whose alarms are collected."""
    own = {"batches": batches(IMAGES.flatten(1), LABELS), "measures": ["logits"]} | settings
    return rd.Watch(model, on_alarm=lambda alarm: None, **own)


def test_a_non_finite_network_raises_its_alarm_once_and_training_goes_on() -> None:
    model = nn.Linear(108, 4)
    with linear_watch(model, every=1) as watch:
        watch.step(1.0)
        watch.step(torch.tensor(torch.inf))
        watch.step(2.0)
        nn.init.constant_(model.weight, torch.nan)
        watch.step(2.0)
        watch.step(2.0)
    assert [row["finite"] for row in watch.rows] == [True, True, True, True, False, False]
    assert [(own.step, own.name) for own in watch.alarms] == [(2, "non-finite"), (4, "non-finite")]


def test_networks_that_stay_or_collapse_raise_their_alarms() -> None:
    still, narrow = nn.Linear(108, 4), nn.Linear(108, 4, bias=False)
    nn.init.normal_(still.weight, std=1e-4)
    with torch.no_grad():  # tells class 0 alone
        narrow.weight.copy_(torch.outer(torch.eye(4)[0], 0.02 * CENTRES[0].flatten()))
    found = []
    for model in (still, narrow):
        with linear_watch(model, every=5, thresholds=Thresholds(stalled_steps=20)) as watch:
            for _ in range(22):
                watch.step()
        found.append([(own.step, own.name) for own in watch.alarms])
    assert found == [[(20, "stalled")], [(0, "collapsed")]]


def test_an_alarm_is_a_warning_unless_told_otherwise() -> None:
    model = nn.Linear(108, 4)
    nn.init.constant_(model.weight, torch.nan)
    watch = rd.Watch(model, batches(IMAGES.flatten(1), LABELS), measures=[])
    with pytest.warns(RuntimeWarning, match="step 0, non-finite"):
        watch.open()
    watch.release()


def test_an_error_in_training_closes_the_files_without_a_measurement(tmp_path: Path) -> None:
    watch = linear_watch(nn.Linear(108, 4), out=tmp_path / "watch")

    def train() -> None:
        with watch:
            watch.step()
            raise RuntimeError("own")

    with pytest.raises(RuntimeError, match="own"):
        train()
    assert len(watch.rows) == 1
    with pytest.raises(ValueError, match="open"):
        watch.step()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"measures": ["rank"]}, "measures has 'rank'"),
        ({"measures": ["effective_depth"]}, "'probes'.*diagnose"),
        ({"measures": {"logits": 0}}, "logits.* 0"),
        ({"measures": "logits"}, r"\['logits'\]"),
        ({"tensorboard": True}, "out="),
        ({"gamma": 1e-12}, "gamma is 1e-12"),
        ({"out": Path(__file__).parent}, "not empty"),
        ({"out": 3}, "out is 3"),
        ({"temperature": torch.ones(2)}, "temperature"),
        ({"thresholds": 0.5}, "thresholds is 0.5"),
        ({"loggers": None}, "loggers is None"),
        ({"loggers": [print]}, r"loggers\[0\].*log"),
        ({"loggers": [logging.getLogger()]}, r"loggers\[0\].*log"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rd.Watch(nn.Linear(108, 4), [], **settings)


@pytest.mark.parametrize(
    "probes", [(IMAGES.flatten(1), LABELS + 9), (IMAGES.flatten(1)[:, 1:], LABELS)]
)
def test_probes_that_do_not_fit_are_named_and_leave_no_folder(
    probes: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    watch = rd.Watch(nn.Linear(108, 4), [probes], out=tmp_path / "watch")
    with pytest.raises(ValueError, match="batches, batch 0"):
        watch.open()
    assert not list(tmp_path.iterdir())


def test_a_watch_goes_on_where_it_was_closed_and_is_opened_once() -> None:
    watch = linear_watch(nn.Linear(108, 4))
    for _ in range(2):
        with watch:
            watch.step()
            with pytest.raises(ValueError, match="open"):
                watch.open()
    assert [row["step"] for row in watch.rows] == [0, 1, 2]
    watch.open(step=1)
    assert [row["step"] for row in watch.rows] == [0, 1]
    watch.release()


def test_probes_of_few_classes_are_not_a_collapse() -> None:
    """Logits of one class have rank 1, which is all that Neural Collapse predicts of them."""
    one = torch.zeros_like(LABELS)
    model = nn.Linear(108, 4)
    nn.init.zeros_(model.weight)
    model.bias.data = torch.tensor([9.0, 0.0, 0.0, 0.0])
    with linear_watch(model, batches=batches(IMAGES.flatten(1), one)) as watch:
        assert watch.rows[0]["logits.centred_rank"] == 1
    assert not watch.alarms


def test_no_probes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"batches.*empty"):
        rd.Watch(nn.Linear(108, 4), []).open()


def _share(rank: int, count: int, folder: Path) -> None:
    """Rows of a watch of which each process has a share of the probes, and of one that overflows."""
    model = DistributedDataParallel(plain_network())
    rows = watched(model, rank, count, folder / "watch")
    large = nn.Linear(108, 4, bias=False)
    nn.init.constant_(large.weight, 1e30)
    probes = [
        (1e20 * rank * IMAGES[:4].flatten(1).abs(), LABELS[:4])
    ]  # finite in the first process
    with rd.Watch(large, probes, measures=["logits"], on_alarm=lambda alarm: None) as watch:
        pass
    (folder / f"{rank}.json").write_text(json.dumps([rows, watch.rows]))


def plain_network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
    )


def watched(model: nn.Module, rank: int, count: int, out: Path | None = None) -> list[Any]:
    """Rows of a training on all images with a share of the probes."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    probes = batches(IMAGES[:65][rank::count], LABELS[:65][rank::count], 16)
    model.eval()  # statistics of BatchNorm are those of one process
    with rd.Watch(
        model, probes, every=2, temperature=2.0, measures=ALL, samples=65, out=out
    ) as watch:
        for _ in range(3):
            loss = nn.functional.cross_entropy(model(IMAGES) / 2, LABELS)
            optimizer.zero_grad(), loss.backward(), optimizer.step()
            watch.step(loss)
    return watch.rows


def test_two_processes_have_the_rows_of_one(tmp_path: Path) -> None:
    run_together(_share, tmp_path, tmp_path)
    (first, lost), (second, also_lost) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)
    )
    assert first == second
    assert rd.load_run(tmp_path / "watch").rows == first
    for own, one in zip(first, watched(plain_network(), 0, 1), strict=True):
        assert own.keys() == one.keys()
        for name, value in one.items():
            if isinstance(value, float):
                assert own[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
            else:
                assert own[name] == value, name
    assert [row["finite"] for row in lost] == [row["finite"] for row in also_lost] == [False]
