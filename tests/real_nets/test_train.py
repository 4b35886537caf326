"""`python -m real_nets.train`: one real network end to end on small images."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from rankdeficit import numerical_rank, runs
from rankdeficit.images import Normalisation, load_splits
from real_nets import models, train
from real_nets.measure import evaluate, layer_ranks
from real_nets.train import Settings
from tests.conftest import ROOT, assert_one_line_error
from tests.images import write_images

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, classes=4, train=30, test=10)
    return folder


def small(data: Path) -> Settings:
    return Settings(
        data=data, temperature=(1.0, 20.0), width=32, depth=4, epochs=12, batch_size=16, lr=0.1,
        device="cpu",
    )  # fmt: skip


def results(folder: Path) -> dict[str, bytes]:
    names = ("summary.json", "metrics.jsonl", "T1-seed0.safetensors", "T20-seed0.safetensors")
    return {name: (folder / name).read_bytes() for name in names}


def test_a_run_learns_and_reports(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train.run(replace(small(images), out=tmp_path / "run"))
    summary = runs.read_json(folder / "summary.json")
    assert [r["temperature"] for r in summary["runs"]] == [1, 20]
    for run in summary["runs"]:
        assert run["accuracy"] > 0.95
        assert run["test_accuracy"] > 0.7
        assert len(run["layer_ranks"]["0.01"]) == 4
        assert run["logits_norm"] / run["effective_logits_norm"] == pytest.approx(
            run["temperature"]
        )
        assert run["rank_curve"]["0.001"] == run["rank"] <= 4
    rows = runs.read_rows(folder)
    assert len(rows) == 26
    starts = [row for row in rows if row["epoch"] == 0]
    assert starts[0]["logits_norm"] == pytest.approx(starts[1]["logits_norm"])
    assert {"epoch", "temperature", "seed", "accuracy", "test_accuracy", "rank"} <= rows[0].keys()
    assert {p.name for p in folder.glob("*.png")} == {"ranks.png", "spectra.png", "layer_ranks.png"}
    output = capsys.readouterr().out
    assert "test acc." in output
    assert "rank after each layer at gamma = 0.01, test images, T = 20: " in output


def test_the_saved_weights_give_the_reported_numbers(images: Path, tmp_path: Path) -> None:
    folder = train.run(replace(small(images), out=tmp_path / "run"))
    splits_train, test = load_splits(images)
    normalise = Normalisation.of(splits_train)
    model = models.build("mlp", inputs=(3, 8, 8), classes=4, width=32, depth=4)
    model.load_state_dict(safetensors.torch.load_file(folder / "T20-seed0.safetensors"))
    run = runs.read_json(folder / "summary.json")["runs"][1]
    evaluation = evaluate(model, splits_train, normalise, 20.0)
    assert evaluation.accuracy == run["accuracy"]
    assert evaluation.loss == pytest.approx(run["loss"], rel=1e-12)
    assert int(numerical_rank(evaluation.logits)) == run["rank"]
    with torch.no_grad():
        hidden, expected = normalise(test.images), []
        for layer in model:
            hidden = layer(hidden)
            if isinstance(layer, torch.nn.ReLU):
                expected.append(int(numerical_rank(hidden)))
        expected.append(int(numerical_rank(hidden)))
    measured = layer_ranks(model, test, normalise)
    assert measured["layer_ranks"] == run["layer_ranks"]
    assert measured["layer_rank_intervals"]["0.001"] == [
        [r, r] for r in run["layer_ranks"]["0.001"]
    ]
    assert run["layer_ranks"]["0.001"] == expected


def test_temperatures_share_start_and_batches(images: Path, tmp_path: Path) -> None:
    both = train.run(replace(small(images), out=tmp_path / "both"))
    one = train.run(replace(small(images), temperature=(20.0,), out=tmp_path / "one"))
    name = "T20-seed0.safetensors"
    assert (both / name).read_bytes() == (one / name).read_bytes()
    a = train.initial_model(small(images), 3, load_splits(images)[0])
    b = train.initial_model(small(images), 3, load_splits(images)[0])
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_a_killed_run_resumes_bit_identically(images: Path, tmp_path: Path) -> None:
    flags = (
        f"--data {images} --temperature 1 20 --width 32 --depth 4 --epochs 12 --batch-size 16 "
        "--lr 0.1 --augmentation crop-flip --device cpu"
    ).split()

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "real_nets.train", *arguments], cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    assert start(*flags, "--out", str(tmp_path / "whole")).wait() == 0
    process = start(*flags, "--out", str(tmp_path / "killed"))
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= 5:
            break
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "summary.json").exists()
    assert start("--resume", str(tmp_path / "killed")).wait() == 0
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


def test_close_temperatures_keep_their_own_weights(images: Path, tmp_path: Path) -> None:
    settings = replace(small(images), temperature=(1.0, 1.0000001), epochs=1)
    folder = train.run(replace(settings, out=tmp_path / "run"))
    assert len(list(folder.glob("*.safetensors"))) == 2


def test_a_diverging_network_is_reported_not_saved(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(small(images), lr=1e30, clip_norm=1e30, out=tmp_path / "run")
    folder = train.run(settings)
    assert "1 of 1 runs diverged; try a lower --lr" in capsys.readouterr().out
    assert not list(folder.glob("*.safetensors"))
    assert runs.read_json(folder / "summary.json")["runs"][0]["rank"] is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"temperature": (0.0,)}, "temperature is 0.0"),
        ({"temperature": ()}, "temperature is empty"),
        ({"model": "gpt"}, "model is 'gpt'"),
        ({"width": 0}, "width is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"gamma": 1.0}, "gamma is 1.0"),
        ({"gamma": 1e-9}, "gamma is 1e-09"),
        ({"seed": 2**62}, "seed is"),
        ({"image_size": 0}, "image_size is 0"),
        ({"data": None}, "data is missing"),
        ({"data": Path("nowhere")}, "nowhere must hold"),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_leave_nothing(
    change: dict[str, object], word: str, images: Path, tmp_path: Path
) -> None:
    settings = replace(small(images), out=tmp_path / "run", **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=word.replace("(", r"\(")):
        train.run(settings)
    assert not (tmp_path / "run").exists()


def test_bad_data_is_one_line(images: Path, tmp_path: Path, command: Command) -> None:
    result = command("real_nets.train", "--data", tmp_path, "--out", tmp_path / "run")
    assert_one_line_error(result, "must hold folders train and test")
    assert not (tmp_path / "run").exists()


@pytest.mark.cuda
def test_cuda_trains_the_same_network(cuda: torch.device, images: Path, tmp_path: Path) -> None:
    settings = replace(small(images), temperature=(1.0,))
    gpu = train.run(replace(settings, device=str(cuda), out=tmp_path / "gpu"))
    cpu = train.run(replace(settings, out=tmp_path / "cpu"))
    ours, theirs = (runs.read_json(folder / "summary.json")["runs"][0] for folder in (gpu, cpu))
    assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.05)
