"""`diagnose` end to end: planted networks, invariances, and data that cannot be measured."""

import copy
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rankdeficit as rd
from rankdeficit.diagnostics import ProbeSettings, fit_probe, ood
from tests.networks import narrow_resnet18

Batches = list[tuple[Tensor, Tensor]]
EXACT = ProbeSettings(dtype=torch.float64, tolerance=1e-7)
QUICK: dict[str, Any] = {"probes": False, "alignment": False}
CARRIED = 20.0  # a bias that keeps every unit of a carrying layer positive, where ReLU is linear


def batches(inputs: Tensor, labels: Tensor, size: int = 64) -> Batches:
    return list(zip(inputs.split(size), labels.split(size), strict=True))


def blobs(n: int, centres: Tensor, spread: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(centres), (n,), generator=generator)
    noise = torch.randn(n, *centres.shape[1:], generator=generator, dtype=centres.dtype)
    return centres[labels] + spread * noise, labels


def linear(weight: Tensor, bias: float = 0.0) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.fill_(bias)
    return layer


def planted_depth(readable_from: int, layers: int) -> nn.Sequential:
    """Four quadrants, told by |x|: linearly readable only after the layer that takes absolute values."""
    both_signs = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]).double()
    parts: list[nn.Module] = []
    for number in range(1, layers):
        if number == readable_from:
            first = linear(both_signs)
            if number > 1:  # what comes in is x + CARRIED
                with torch.no_grad():
                    first.bias.copy_(-CARRIED * both_signs.sum(dim=1))
            parts += [first, nn.ReLU()]
        elif number < readable_from:
            parts += [linear(torch.eye(2).double(), CARRIED if number == 1 else 0.0), nn.ReLU()]
        else:
            parts += [linear(torch.eye(4).double()), nn.ReLU()]
    directions = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]).double()  # |x_1|, |x_2|
    return nn.Sequential(*parts, linear(directions))


def larger_coordinate(n: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)).double()
    return x, (x.abs()[:, 1] > x.abs()[:, 0]).long()


@pytest.mark.parametrize(("readable_from", "layers"), [(1, 4), (2, 5), (4, 6)])
def test_effective_depth_finds_the_layer_from_which_the_label_can_be_read(
    readable_from: int, layers: int
) -> None:
    model = planted_depth(readable_from, layers)
    train, test = (batches(*larger_coordinate(n, seed)) for n, seed in ((2000, 0), (1000, 1)))
    report = rd.diagnose(model, train, test, probes=EXACT)
    assert report["test.accuracy"] == 1
    assert report["effective_depth.value"] == readable_from / layers
    assert report["effective_depth.interval"] == [readable_from / layers] * 2
    accuracies = [layer["probe"]["accuracy"] for layer in report["layers"]]
    assert max(accuracies[: readable_from - 1], default=0) < 0.6


def circle_network(classes: int) -> tuple[nn.Sequential, Tensor]:
    """A rank-2 classifier: class means on a circle, logits the cosines between angles."""
    angles = torch.arange(classes).double() * 2 * math.pi / classes
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    generator = torch.Generator().manual_seed(0)
    embedding = torch.linalg.qr(torch.randn(16, 2, generator=generator).double())[0].mT
    model = nn.Sequential(nn.Identity(), linear(torch.eye(16).double()), linear(circle @ embedding))
    return model, circle @ embedding


def test_a_rank_two_classifier_is_found_out_at_full_accuracy() -> None:
    classes = 12
    model, centres = circle_network(classes)
    train, test = (batches(*blobs(600, centres, 1e-3, seed)) for seed in (0, 1))
    report = rd.diagnose(model, train, test, probes=False)
    assert report["train.accuracy"] == report["test.accuracy"] == 1
    assert report["train.logits.rank"] == report["test.logits.centred_rank"] == 2
    assert report["train.logits.post_softmax_rank"] > 2
    assert report["neural_collapse.retained_rank"] == 2
    assert report["neural_collapse.predicted_rank"] == classes - 1
    assert report["neural_collapse.nearest_centre_agreement"] == 1
    assert report["neural_collapse.equinorm"] < 0.01
    spread = math.sqrt(classes * (classes - 3) / 2) / (classes - 1)
    assert report["neural_collapse.cosine_deviation"] == pytest.approx(spread, rel=0.01)
    assert report["neural_collapse.self_duality"] < 0.01
    # both have two equal singular values in the same plane, so that any basis of it is as good
    assert report["layers"][1]["alignment"] >= math.sqrt(0.5)
    assert report["layers"][1]["gradient"]["rank"] <= 2


def test_streamed_measures_equal_those_of_whole_matrices() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 7)).double()
    x, y = blobs(500, torch.randn(7, 10).double())
    temperature = 3.0
    report = rd.diagnose(model, batches(x, y), batches(x[:99], y[:99]), temperature=temperature)
    with torch.no_grad():
        hidden, logits = model[:2](x), model(x)
    measures = rd.diagnostics.measure_logits(logits, temperature)
    found = report["train.logits"]
    for name in ("rank", "centred_rank", "post_softmax_rank"):
        assert found[name] == int(getattr(measures, name))
    assert found["effective_logits_norm"] == pytest.approx(float(measures.effective_logits_norm))
    assert found["singular_values"] == pytest.approx(measures.singular_values.tolist())
    assert report["train.loss"] == pytest.approx(
        float(nn.functional.cross_entropy(logits / temperature, y))
    )
    spectrum = rd.spectrum(hidden)
    assert report["layers"][0]["train"]["stable_rank"] == pytest.approx(
        float(spectrum.stable_rank())
    )
    assert report["layers"][0]["train"]["rank_curve"] == spectrum.record()["rank_curve"]
    assert report["penultimate.train"] == report["layers"][0]["train"]
    alignment = rd.diagnostics.alignment(model[2].weight.detach(), hidden)
    assert report["layers"][1]["alignment"] == pytest.approx(float(alignment))


def image_data(seed: int, n: int = 300, classes: int = 6) -> tuple[Tensor, Tensor]:
    patterns = torch.randn(classes, 3, 16, 16, generator=torch.Generator().manual_seed(99)).double()
    return blobs(n, patterns, 1.0, seed)


def differences(first: Any, second: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Leaves in which two records differ by more than 1e-10."""
    if isinstance(first, dict) and isinstance(second, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            yield from differences(first[key], second[key], f"{path}.{key}")
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f"{path}.{number}")
    elif isinstance(first, float) and isinstance(second, float):
        if abs(first - second) > 1e-10 * max(1, abs(first)):
            yield path, first, second
    elif first != second:
        yield path, first, second


def measures(report: Any) -> dict[str, Any]:
    """A report's record without its conditions."""
    return {key: value for key, value in report.record.items() if key != "conditions"}


def test_neither_order_nor_batch_size_nor_spilling_changes_a_report(tmp_path: Path) -> None:
    model = narrow_resnet18(4, 6).double()
    x, y = image_data(0)
    test, other = image_data(1, 150), image_data(2, 150)

    def report(order: Tensor, size: int, **options: Any) -> Any:
        pair = (batches(*other, size), batches(*test, size))
        return measures(
            rd.diagnose(
                model, batches(x[order], y[order], size), batches(*test, size), {"other": pair},
                probes=EXACT, **options,
            )
        )  # fmt: skip

    first = report(torch.arange(300), 64)
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    second = report(shuffled, 41, memory=1000, spill_folder=tmp_path)
    assert not list(differences(first, second))
    assert not list(tmp_path.iterdir())


def test_a_network_on_a_gpu_gives_the_same_report(device: torch.device) -> None:
    model = narrow_resnet18(4, 6).double()
    train, test = batches(*image_data(0)), batches(*image_data(1, 150))
    some: dict[str, Any] = {
        "layers": ["conv1", "layer3.0.*", "fc"], "probes": ProbeSettings(dtype=torch.float64),
    }  # fmt: skip
    found = [
        measures(rd.diagnose(network, train, test, {"other": (test, test)}, **some))
        for network in (model, copy.deepcopy(model).to(device))
    ]
    far = [
        (name, a, b)
        for name, a, b in differences(*found)
        if not isinstance(a, float) or abs(a - b) > 1e-6 * max(1, abs(a))
    ]
    assert not far


def test_probes_are_fitted_where_the_network_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model, train, test = small_problem()
    devices: list[Any] = []

    def fit(*args: Any, device: Any, **options: Any) -> Any:
        devices.append(device)
        return fit_probe(*args, device=device, **options)

    monkeypatch.setattr("rankdeficit.diagnostics.layer_probes.fit_probe", fit)
    rd.diagnose(model, train, test, alignment=False)
    assert devices == [torch.device("cpu")] * 2


def test_two_processes_see_what_one_sees(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SHARDED)
    records = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        command = [sys.executable, *launcher, str(script), str(out)]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        records.append(json.loads(out.read_text()))
    assert [record.pop("conditions")["processes"] for record in records] == [1, 2]
    assert not list(differences(*records))


SHARDED = """
import json, sys
import torch
sys.path.insert(0, ".")
import torch.distributed as distributed
import rankdeficit as rd
from tests.networks import narrow_resnet18
from tests.rankdeficit.test_diagnose import EXACT, batches, image_data

distributed.init_process_group("gloo")
rank, size = distributed.get_rank(), distributed.get_world_size()

def share(seed, n):
    inputs, labels = image_data(seed, n)
    return batches(inputs[rank::size], labels[rank::size], 33)

ood = {"other": (share(2, 150), share(3, 101))}
model = narrow_resnet18(4, 6).double()
report = rd.diagnose(model, share(0, 301), share(1, 150), ood, 2.0, probes=EXACT)
if rank == 0:
    open(sys.argv[1], "w").write(json.dumps(report.record))
distributed.destroy_process_group()
"""


def test_rotated_features_and_renamed_classes_give_the_same_measures() -> None:
    torch.manual_seed(0)
    centres = 2 * torch.randn(5, 8).double()
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 12), nn.Linear(12, 5)).double()
    rotation = torch.linalg.qr(torch.randn(12, 12).double())[0]
    names = torch.randperm(5)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed[2].weight.copy_(rotation @ model[2].weight)
        changed[2].bias.copy_(rotation @ model[2].bias)
        changed[3].weight[names] = model[3].weight @ rotation.mT
        changed[3].bias[names] = model[3].bias

    train, test = blobs(400, centres), blobs(200, centres, seed=1)
    plain = rd.diagnose(model, batches(*train), batches(*test), probes=False)
    other = rd.diagnose(changed, *(batches(x, names[y]) for x, y in (train, test)), probes=False)
    found = list(differences(measures(plain), measures(other)))
    assert not found


def test_temperature_is_a_division_of_the_logits() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)).double()
    divided = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in divided[2].parameters():
            parameter /= 50
    centres = torch.randn(4, 6).double()
    data = batches(*blobs(300, centres)), batches(*blobs(100, centres, seed=1))
    hot = rd.diagnose(model, *data, temperature=50.0, probes=False)
    plain = rd.diagnose(divided, *data, probes=False)
    assert hot["train.logits.logits_norm"] == pytest.approx(50 * plain["train.logits.logits_norm"])
    for name in ("train.loss", "train.logits.effective_logits_norm", "calibration.before.ece"):
        assert hot[name] == pytest.approx(plain[name], rel=1e-9)
    assert (
        hot["train.logits.post_softmax_rank_curve"] == plain["train.logits.post_softmax_rank_curve"]
    )


def orthogonal_sets() -> tuple[nn.Module, Batches, Batches, Batches]:
    """ID classes in a plane, OOD samples orthogonal to it; a network that passes them on."""
    model, centres = circle_network(6)
    train, test = (batches(*blobs(600, centres, 0.05, seed)) for seed in (0, 1))
    basis = torch.linalg.qr(centres.mT, mode="complete")[0].mT[2:]  # orthogonal to the plane
    inputs, labels = blobs(300, 3 * basis[:4], 0.05, seed=2)
    return model, train, test, batches(inputs - inputs @ basis[:0].mT @ basis[:0], labels)


def test_samples_orthogonal_to_the_classes_are_detected() -> None:
    model, train, test, strange = orthogonal_sets()
    report = rd.diagnose(model, train, test, {"strange": (None, strange)}, probes=False)
    assert report["detection.strange.neco-equation.auroc"] > 0.999
    assert report["detection.strange.vim.auroc"] > 0.999
    assert report["ortho_dev.strange"] < 0.05
    assert set(report["detection.strange"]) == set(ood.detectors())
    assert report["ood_drop"] == {}


def test_out_of_distribution_drop_is_read_from_the_data_sets_own_labels() -> None:
    """The last layer forgets the third axis, on which the OOD labels depend."""
    keep = torch.eye(3).double()
    model = nn.Sequential(linear(keep), linear(keep[:2]), linear(keep[:2, :2]))
    x = torch.randn(1500, 3, generator=torch.Generator().manual_seed(0)).double()
    id_labels, ood_labels = (x[:, 0] < x[:, 1]).long(), (x[:, 2] > 0).long()
    id_sets = batches(x[:1000], id_labels[:1000]), batches(x[1000:], id_labels[1000:])
    ood_sets = batches(x[:1000], ood_labels[:1000]), batches(x[1000:], ood_labels[1000:])
    report = rd.diagnose(model, *id_sets, {"axis": ood_sets}, probes=EXACT)
    first, _, last = (layer["ood_probes"]["axis"]["accuracy"] for layer in report["layers"])
    assert first > 0.98
    assert last < 0.6
    assert report["ood_drop.axis.value"] == pytest.approx((first - last) / first)
    low, high = report["ood_drop.axis.interval"]
    assert low < report["ood_drop.axis.value"] < high


def test_the_network_stays_as_it_was() -> None:
    model = narrow_resnet18(4, 6)
    model.layer1.eval()
    model.fc.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    generator = torch.get_rng_state()
    x, y = image_data(0)
    rd.diagnose(model, batches(x, y), batches(x, y), probes=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.fc.weight.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), generator)


def small_problem() -> tuple[nn.Module, Batches, Batches]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))
    centres = torch.randn(4, 5)
    return model, batches(*blobs(200, centres)), batches(*blobs(80, centres, seed=1))


def note(report: Any, part: str) -> str:
    found = [text for text in report["notes"] if part in text]
    assert found, report["notes"]
    return found[0]


def test_ood_data_of_one_class_gives_detection_and_a_note_instead_of_a_drop() -> None:
    model, train, test = small_problem()
    strange = [(torch.randn(50, 5), torch.zeros(50, dtype=torch.int64))]
    report = rd.diagnose(model, train, test, {"one": (strange, strange)})
    assert "one class" in note(report, "no probes of one")
    assert "auroc" in report["detection.one.msp"]
    assert report["ood_drop"] == {}


def test_classes_without_samples_give_no_neural_collapse_and_a_note() -> None:
    model, train, test = small_problem()
    few = [(x[y < 3], y[y < 3]) for x, y in train]
    report = rd.diagnose(model, few, test, {"other": (None, test)})
    assert report["neural_collapse"] is None
    note(report, "1 of 4 classes")
    assert report["effective_depth.value"] > 0
    assert report["detection.other.mahalanobis.auroc"] == pytest.approx(0.5)


def test_fewer_samples_than_classes_and_more_classes_than_width_are_measured() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 20))
    x, y = torch.randn(12, 5), torch.arange(12)
    report = rd.diagnose(model, [(x, y)], [(x, y)])
    assert report["train.logits.rank"] <= 4
    note(report, "8 of 20 classes")
    full = rd.diagnose(model, *[[(torch.randn(40, 5), torch.arange(40) % 20)]] * 2)
    assert full["neural_collapse.predicted_rank"] == 3


def test_missing_packages_leave_detectors_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model, train, test = small_problem()
    report = rd.diagnose(model, train, test, {"other": (None, test)}, probes=False)
    assert "rankdeficit[ood]" in note(report, "vim left out")
    assert "neco-resnet" in report["detection.other"]


def test_a_train_set_of_one_class_has_no_probes() -> None:
    model, train, test = small_problem()
    one = [(x, torch.zeros_like(y)) for x, y in train]
    report = rd.diagnose(model, one, test)
    note(report, "no probes of test")
    assert report["effective_depth"] is None


def test_one_of_several_l2_penalties_is_chosen_for_each_layer() -> None:
    model, train, test = small_problem()
    settings = ProbeSettings(l2=(1e3, 1e-3))
    report = rd.diagnose(model, train, test, probes=settings)
    assert [layer["probe"]["l2"] for layer in report["layers"]] == [1e-3, 1e-3]


def test_layers_are_chosen_by_pattern() -> None:
    x, y = image_data(0)
    model = narrow_resnet18(4, 6)
    report = rd.diagnose(model, [(x, y)], [(x, y)], layers=["layer?", "fc"], **QUICK)
    assert [layer["name"] for layer in report["layers"]] == [
        *(f"layer{i}" for i in (1, 2, 3, 4)),
        "fc",
    ]
    with pytest.raises(ValueError, match=r"layer5.*close names.*layer"):
        rd.diagnose(model, [(x, y)], [(x, y)], layers=["layer5"], **QUICK)


def nan_pixels(data: Batches) -> Batches:
    spoilt = [(x.clone(), y) for x, y in data]
    spoilt[1][0][3, 0] = math.nan
    return spoilt


BAD_DATA: dict[str, tuple[Any, str]] = {
    "empty": (lambda data: [], "is empty"),
    "unlabelled": (lambda data: [x for x, _ in data], "pairs"),
    "out of range": (lambda data: [(x, y + 2) for x, y in data], "batch 0: labels lie in 2..5"),
    "NaN pixels": (nan_pixels, r"batch 1: inputs \[3\]"),
    "soft labels": (lambda data: [(x, y.float()) for x, y in data], "class indices"),
    "wrong size": (lambda data: [(x, y[:-1]) for x, y in data], "64 inputs and 63 labels"),
}


@pytest.mark.parametrize("which", ["train", "test"])
@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_is_named(kind: str, which: str) -> None:
    model, train, test = small_problem()
    spoil, message = BAD_DATA[kind]
    data = {"train": train, "test": test}
    data[which] = spoil(data[which])
    with pytest.raises(ValueError, match=f"{which}.*{message}"):
        rd.diagnose(model, data["train"], data["test"], **QUICK)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_bad_settings_are_named() -> None:
    model, train, test = small_problem()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"temperature": 0.0}, "temperature"),
        ({"gamma": 1e-9}, "gamma"),
        ({"grid": 0}, "grid"),
        ({"detectors": ["mps"]}, "msp"),
        ({"ood": {"x": train}}, r"ood\['x'\].*tuple"),
        ({"ood": {"test": (train, test)}}, "another name"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            rd.diagnose(model, train, test, **options)


def test_networks_without_finite_logits_are_refused() -> None:
    model, train, test = small_problem()
    with torch.no_grad():
        model[2].bias.fill_(math.inf)  # type: ignore[index, union-attr]
    with pytest.raises(ValueError, match=r"train, batch 0: logits of samples \[0, 1"):
        rd.diagnose(model, train, test, **QUICK)


def test_inputs_that_do_not_fit_the_network_are_named() -> None:
    model, train, test = small_problem()
    wide = [(torch.randn(10, 6), torch.zeros(10, dtype=torch.int64))]
    with pytest.raises(ValueError, match=r"train, batch 0: .* shape \((2|10), 6\)"):
        rd.diagnose(model, wide, test, **QUICK)
    with pytest.raises(ValueError, match=r"strange, batch 0: .* shape \(10, 6\)"):
        rd.diagnose(model, train, test, {"strange": (None, wide)}, **QUICK)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_generators_are_read_once() -> None:
    model, train, test = small_problem()
    whole = rd.diagnose(model, train, test, **QUICK)
    once = rd.diagnose(model, iter(train), (pair for pair in test), **QUICK)
    assert measures(whole) == measures(once)


def test_progress_is_told_by_data_set() -> None:
    model, train, test = small_problem()
    heard: list[tuple[str, int]] = []
    rd.diagnose(model, train, test, {"o": (train, test)}, on_progress=lambda *x: heard.append(x))
    groups = itertools.groupby(heard, lambda pair: pair[0])
    assert {name: max(done for _, done in group) for name, group in groups} == {
        "train": 200, "test": 80, "o train": 200, "o": 80, "probes of test": 2, "probes of o": 2,
    }  # fmt: skip
