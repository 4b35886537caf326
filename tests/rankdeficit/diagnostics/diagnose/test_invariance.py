"""What must not change a report of `diagnose`."""

import copy
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

import rankdeficit as rd
from rankdeficit.diagnostics import ProbeSettings, fit_probe
from rankdeficit.diagnostics.measures import layer_probes
from rankdeficit.diagnostics.reading import blocks
from tests.networks import narrow_resnet18
from tests.processes import run_together
from tests.rankdeficit.diagnostics.diagnose.problems import (
    EXACT,
    batches,
    blobs,
    differences,
    image_data,
    measures,
    small_problem,
)


def test_neither_order_nor_batch_size_nor_spilling_changes_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 30)  # so that few samples are several blocks
    model = narrow_resnet18(4, 6).double()
    x, y = image_data(0, 100)
    test, other = image_data(1, 50), image_data(2, 50)
    layers = ["conv1", "layer2.0.conv1", "fc"]

    def report(order: Tensor, size: int, **options: Any) -> Any:
        pair = (batches(*other, size), batches(*test, size))
        return measures(
            rd.diagnose(
                model, batches(x[order], y[order], size), batches(*test, size), {"other": pair},
                layers=layers, probes=EXACT, **options,
            )
        )  # fmt: skip

    first = report(torch.arange(100), 64)
    shuffled = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    second = report(shuffled, 41, memory=1000, spill_folder=tmp_path)
    assert not list(differences(first, second))
    assert not list(tmp_path.iterdir())


def test_a_network_on_a_gpu_gives_the_same_report(device: torch.device) -> None:
    model = narrow_resnet18(4, 6).double()
    train, test = batches(*image_data(0, 60)), batches(*image_data(1, 30))
    some: dict[str, Any] = {
        "layers": ["layer3.0.conv2", "fc"],
        "probes": ProbeSettings(dtype=torch.float64, resamples=20),
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

    monkeypatch.setattr("rankdeficit.diagnostics.measures.layer_probes.fit_probe", fit)
    rd.diagnose(model, train, test, alignment=False)
    assert devices == [torch.device("cpu")] * 2


def test_two_processes_see_what_one_sees(tmp_path: Path) -> None:
    records = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        run_together(report_share, tmp_path, out, count=processes)
        records.append(json.loads(out.read_text()))
    assert [record.pop("conditions")["processes"] for record in records] == [1, 2]
    assert not list(differences(*records))


def report_share(rank: int, size: int, out: Path) -> None:
    everyone, fit = distributed.new_group(timeout=timedelta(seconds=60)), layer_probes._fit

    def fit_at_once(*arguments: Any) -> Any:
        """Waits for ever where a process fits while another has no layer yet."""
        distributed.barrier(everyone)
        return fit(*arguments)

    def share(seed: int, n: int) -> Any:
        inputs, labels = image_data(seed, n)
        return batches(inputs[rank::size], labels[rank::size], 33)

    layer_probes._fit = fit_at_once
    ood = {"other": (share(2, 50), share(3, 31))}
    model = narrow_resnet18(4, 6).double()
    layers = ["conv1", "layer2.0.conv1", "layer4.1.conv2", "fc"]  # an even number of them
    report = rd.diagnose(model, share(0, 101), share(1, 50), ood, 2.0, layers=layers, probes=EXACT)
    if rank == 0:
        out.write_text(json.dumps(report.record))


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
    found = [path for path, *_ in differences(measures(plain), measures(other))]
    assert found == [".correctness.samples"]  # labels are not the same


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


def test_the_network_stays_as_it_was() -> None:
    model = narrow_resnet18(4, 6)
    model.layer1.eval()
    model.fc.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    generator = torch.get_rng_state()
    x, y = image_data(0, 40)
    rd.diagnose(model, batches(x, y), batches(x, y), probes=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.fc.weight.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), generator)
