"""What is measured during training, against the same numbers from whole tensors."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rankdeficit import GAMMAS, cross_entropy, numerical_rank
from rankdeficit.diagnostics.states.alignment import alignment
from rankdeficit.images import Images
from real_nets.jobs.data import JobData
from real_nets.jobs.job import Job
from real_nets.jobs.measures import MEASUREMENTS, TOP_VALUES, Follower, final_measures, measured_at
from real_nets.jobs.run import initial_network
from tests.real_nets.tiny import data_of, tiny_job, write_root

JOB = tiny_job(followed_images=50, temperature=5.0, ood=("other",))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("root"))


def learner(job: Job, data: JobData) -> nn.Sequential:
    model = initial_network(job, data)
    assert isinstance(model, nn.Sequential)
    return model


def images_of(images: Images) -> tuple[Tensor, Tensor]:
    inputs, labels = zip(*images, strict=True)
    return torch.cat(inputs), torch.cat(labels)


@torch.no_grad()
def layers_of(model: nn.Sequential, inputs: Tensor) -> list[tuple[nn.Linear, Tensor, Tensor]]:
    """Every layer of an MLP with what it reads and the representation after it."""
    found, hidden = [], inputs
    linear, read = None, inputs
    for module in model:
        if isinstance(module, nn.Linear):
            if linear is not None:
                found.append((linear, read, hidden))
            linear, read = module, hidden
        hidden = module(hidden)
    assert linear is not None
    return [*found, (linear, read, hidden)]


def test_a_short_training_is_measured_at_powers_of_four_and_after_every_epoch() -> None:
    assert measured_at(3, 20) == {0, 1, 4, 16, 20, 40, 60}
    assert measured_at(2, 4) == {0, 1, 4, 8}
    assert measured_at(2, 1) == {0, 1, 2}
    assert measured_at(0, 20) == {0}
    assert measured_at(26, 5) == {0, 1, 4, *range(15, 130, 15), 130}


@given(epochs=st.integers(1, 300), steps=st.integers(1, 5000))
def test_measurements_are_few_evenly_spread_and_end_at_the_end(epochs: int, steps: int) -> None:
    found = sorted(measured_at(epochs, steps))
    assert found[0] == 0
    assert found[-1] == epochs * steps
    late = [step for step in found if step >= steps]
    assert len(late) <= MEASUREMENTS
    assert len(late) >= min(epochs, MEASUREMENTS / 2)
    assert all(step % steps == 0 for step in late)
    gaps = [(after - before) // steps for before, after in zip([0, *late], late, strict=False)]
    assert len({*gaps[:-1]}) <= 1
    assert gaps[-1] <= gaps[0]
    early = [step for step in found if 0 < step < steps]
    assert all(step == 4**i for i, step in enumerate(early))
    assert 4 ** len(early) >= steps


def test_a_measurement_equals_the_measures_of_whole_tensors(root: Path) -> None:
    data = data_of(JOB, root)
    model = learner(JOB, data)
    row = Follower(model, JOB, data).measure()
    inputs, labels = images_of(data.train.some(50))
    layers = layers_of(model, inputs)
    logits = layers[-1][2].double()
    assert row["accuracy"] == float((logits.argmax(dim=1) == labels).double().mean())
    assert row["loss"] == pytest.approx(float(cross_entropy(logits, labels, 5.0)), rel=1e-6)
    test_inputs, test_labels = images_of(data.test.some(50))
    test_logits = layers_of(model, test_inputs)[-1][2].double()
    right = test_logits.argmax(dim=1) == test_labels
    assert row["test_accuracy"] == float(right.double().mean())
    test_loss = float(cross_entropy(test_logits, test_labels, 5.0))
    assert row["test_loss"] == pytest.approx(test_loss, rel=1e-6)
    assert row["rank"] == int(numerical_rank(logits))
    for gamma in GAMMAS:
        ranks = [int(numerical_rank(after.double(), gamma)) for _, _, after in layers]
        assert row["layer_ranks"][str(gamma)] == ranks
    for (layer, read, after), values, aligned in zip(
        layers, row["layer_singular_values"], row["layer_alignments"], strict=True
    ):
        expected = torch.linalg.svdvals(after.double())[:TOP_VALUES]
        torch.testing.assert_close(torch.tensor(values).double(), expected, rtol=1e-5, atol=1e-5)
        flat = read.flatten(1)
        assert aligned == pytest.approx(float(alignment(layer.weight.detach(), flat)), abs=1e-4)
    assert row["alignment"] == pytest.approx(sum(row["layer_alignments"]) / 3)
    means = torch.stack([layers[-1][1][labels == k].double().mean(dim=0) for k in range(4)])
    strange = layers_of(model, images_of(data.ood_images("other", "test"))[0])[-1][1].double()
    cosines = torch.cosine_similarity(means, strange.mean(dim=0)[None])
    assert row["ortho_dev"] == {"other": pytest.approx(float(cosines.abs().mean()), rel=1e-6)}
    json.dumps(row, allow_nan=False)


def test_classes_without_followed_images_have_no_part_in_ortho_dev(root: Path) -> None:
    job = tiny_job(followed_images=3, ood=("other",))
    data = data_of(job, root)
    model = learner(job, data)
    inputs, labels = images_of(data.train.some(3))
    present = sorted(set(labels.tolist()))
    assert len(present) < data.classes
    features = layers_of(model, inputs)[-1][1].double()
    means = torch.stack([features[labels == k].mean(dim=0) for k in present])
    strange = layers_of(model, images_of(data.ood_images("other", "test").some(3))[0])[-1][
        1
    ].double()
    cosines = torch.cosine_similarity(means, strange.mean(dim=0)[None])
    expected = pytest.approx(float(cosines.abs().mean()), rel=1e-6)
    assert Follower(model, job, data).measure()["ortho_dev"] == {"other": expected}


def test_layers_without_an_alignment_have_no_part_in_its_mean(root: Path) -> None:
    job = tiny_job()
    grouped = nn.Conv2d(3, 6, 3, groups=3)
    model = nn.Sequential(grouped, nn.ReLU(), nn.Flatten(), nn.Linear(216, 8), nn.Linear(8, 4))
    row = Follower(model, job, data_of(job, root)).measure()
    first, *others = row["layer_alignments"]
    assert first is None
    assert row["alignment"] == pytest.approx(sum(others) / 2)


def test_the_end_is_measured_like_any_step_but_on_all_images(root: Path) -> None:
    job = tiny_job(followed_images=120, temperature=5.0)
    data = data_of(job, root)
    follower = Follower(learner(job, data), job, data)
    row, final = follower.measure(), final_measures(follower.network, job, data)
    for name in set(row) & set(final) - {"layer_ranks"}:
        assert row[name] == final[name]
    assert final["train_layer_ranks"] == row["layer_ranks"]
    assert final["accuracy"] == follower.accuracy()
    assert final["layers"] == ["1", "3", "5"]
    for gamma, intervals in final["layer_rank_intervals"].items():
        for rank, (low, high) in zip(final["layer_ranks"][gamma], intervals, strict=True):
            assert low <= rank <= high


@pytest.mark.parametrize(("epochs", "accuracy"), [(0, "followed"), (1, "all")])
def test_networks_that_are_not_trained_are_measured_on_followed_images(
    epochs: int, accuracy: str, root: Path
) -> None:
    job = tiny_job(epochs=epochs, followed_images=50)
    data = data_of(job, root)
    model = learner(job, data)
    final = final_measures(Follower(model, job, data).network, job, data)
    for images, name in ((data.train, "accuracy"), (data.test, "test_accuracy")):
        inputs, labels = images_of({"followed": images.some(50), "all": images}[accuracy])
        right = (model(inputs).argmax(dim=1) == labels).double().mean()
        assert final[name] == pytest.approx(float(right), abs=1e-12)


def test_the_threshold_asked_for_is_among_those_of_the_layers(root: Path) -> None:
    job = tiny_job(gamma=0.4)
    data = data_of(job, root)
    model = learner(job, data)
    follower = Follower(model, job, data)
    row, final = follower.measure(), final_measures(follower.network, job, data)
    inputs, _ = images_of(data.train.some(60))
    expected = [int(numerical_rank(a.double(), 0.4)) for _, _, a in layers_of(model, inputs)]
    assert row["layer_ranks"]["0.4"] == expected
    assert row["rank"] == expected[-1]
    assert set(final["layer_ranks"]) == {str(g) for g in (*GAMMAS, 0.4)}
    assert final["rank"] == final["train_layer_ranks"]["0.4"][-1]


def test_measuring_leaves_the_network_and_the_random_numbers_alone(root: Path) -> None:
    job = tiny_job(norm="batch")
    data = data_of(job, root)
    model = learner(job, data).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    follower = Follower(model, job, data)
    first = follower.measure()
    assert follower.measure() == first
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_of_zeros_has_rank_zero_and_no_directions(root: Path) -> None:
    data = data_of(JOB, root)
    model = learner(JOB, data)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    row = Follower(model, JOB, data).measure()
    assert row["rank"] == 0
    assert row["layer_ranks"]["0.001"] == [0, 0, 0]
    assert row["ortho_dev"] == {"other": None}
    assert row["loss"] == pytest.approx(float(torch.tensor(4.0).log()))
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize(
    ("bias", "finite"), [(1.0, True), (1e18, True), (1e20, False), (float("nan"), False)]
)
def test_logits_whose_squares_overflow_count_as_no_numbers(
    bias: float, finite: bool, root: Path
) -> None:
    data = data_of(JOB, root)
    model = learner(JOB, data)
    nn.init.constant_(model[-1].bias, bias)  # type: ignore[arg-type]
    follower = Follower(model, JOB, data)
    assert follower.is_finite() is finite
    if finite:
        json.dumps(follower.measure(), allow_nan=False)
