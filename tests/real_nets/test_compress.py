"""The command that compresses trained networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdeficit.control.compression import load
from rankdeficit.control.compression.cost import Cost
from rankdeficit.control.compression.promise import Paired
from rankdeficit.control.compression.record import LayerDimensions, Numbers, Plan
from rankdeficit.control.compression.report import Row, summaries
from rankdeficit.experiments.runs import read_json
from real_nets import compress, train
from real_nets.compress import Settings
from real_nets.models import Architecture
from tests.images import write_images


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two networks."""
    images = tmp_path_factory.mktemp("images")
    write_images(images, classes=4, train=20, test=40)
    settings = train.Settings(
        data=str(images), temperature=(1.0, 20.0), width=16, depth=4, epochs=4, batch_size=16, lr=0.1,
        device="cpu", milestones=(), out=tmp_path_factory.mktemp("trained") / "run",
    )  # fmt: skip
    return train.run(settings)


def asked(**options: Any) -> Settings:
    usual = {"lose_at_most": 0.2, "confidence": 0.9, "device": "cpu", "latency": False}
    return Settings(**usual | options)


def test_a_run_with_baselines(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each network and method, and networks that load again."""
    out = compress.run(
        asked(trained=(trained,), compare_baselines=True, steps=("project",), out=tmp_path / "out")
    )
    rows = read_json(out / "summary.json")
    told = [(row["network"], row["temperature"], row["method"]) for row in rows]
    assert told == [
        (f"T{t}-seed0", float(t), method)
        for t in (1, 20)
        for method in ("activations", "weights", "magnitude")
    ]
    printed = capsys.readouterr().out
    assert "T20-seed0" in printed
    assert printed.count("= weights") == printed.count("= magnitude") == 2
    for row in rows:
        assert row["tested"]["samples"] == 80
        assert row["decided"] is None or row["decided"]["samples"] < 80
    (folder,) = out.glob("*T20-seed0-activations")
    original = Architecture("mlp", 4, (3, 8, 8), width=16, depth=4).build(0)
    again = load(original, folder)
    assert sum(own.numel() for own in again.parameters()) == rows[3]["after"]["parameters"]


def test_halves_are_disjoint_and_of_the_seed(trained: Path) -> None:
    own = compress.diagnose.complete(compress.one_network(asked(), trained / "T1-seed0"))
    ready = compress.prepare(own, torch.device("cpu"), None)
    images = replace(ready.folders.test, labels=torch.arange(160))
    first, second = compress.halves(images, 3)
    assert sorted([*first.labels.tolist(), *second.labels.tolist()]) == list(range(160))
    assert not torch.equal(first.labels, compress.halves(images, 4)[0].labels)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lose_at_most": 1.5}, "lose_at_most"),
        ({"lose_at_most": 0.001}, "images"),
        ({"temperature": 0.0}, "temperature"),
        ({"trained": (Path("nowhere"),)}, "nowhere"),
        ({"trained": ()}, "model"),
        ({"out": Path("/proc/here")}, "out"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_use(options: dict[str, Any], told: str, trained: Path, tmp_path: Path) -> None:
    usual = {"trained": (trained / "T1-seed0",), "out": tmp_path / "out"}
    with pytest.raises(ValueError, match=told):
        compress.run(asked(**usual | options))
    assert not (tmp_path / "out").exists()


def test_a_loss_of_the_margin_breaks_the_promise() -> None:
    """The promise is a smaller loss."""
    before = torch.arange(100) >= 0
    cost = Cost(1, 1, 4, 4, ())
    rows = []
    for lost in (0, 1):
        tested = Paired.of(before, torch.arange(100) >= lost, 0.01, 0.01)
        found = Numbers(
            Plan(), "activations", (LayerDimensions("a", 4, 4),), cost, cost, None, tested, (), {},
            0.01, 0.99, (),
        )  # fmt: skip
        assert Numbers.read(found.record()) == found
        rows.append(Row(str(lost), 1.0, "activations", found))
    (line,) = summaries(rows)
    assert "1 of 2 networks" in line


def test_an_interrupted_run_goes_on(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks that are done stay, and are not compressed again."""
    settings = asked(trained=(trained,), steps=("project",), out=tmp_path / "out")
    whole = compress.run(replace(settings, out=tmp_path / "whole"))
    right, calls = compress.compressed, []

    def stopped(*arguments: Any) -> Any:
        calls.append(arguments[-1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return right(*arguments)

    monkeypatch.setattr(compress, "compressed", stopped)
    with pytest.raises(KeyboardInterrupt) as stop:
        compress.run(settings)
    assert "--resume" in stop.value.__notes__[0]
    out = compress.run(Settings(resume=tmp_path / "out"))
    assert calls == ["T1-seed0", "T20-seed0", "T20-seed0"]
    assert read_json(out / "summary.json") == read_json(whole / "summary.json")
    for network in ("01-T1-seed0-activations", "02-T20-seed0-activations"):
        weights = [(path / network / "weights.safetensors").read_bytes() for path in (out, whole)]
        assert weights[0] == weights[1]
    before = calls.copy()
    compress.run(Settings(resume=out))  # with nothing left to do
    assert calls == before
