"""`python -m real_nets.train`: networks end to end on small images, each in a folder of its own."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.figure import Figure

from rankdeficit import load_run
from rankdeficit.experiments import runs
from real_nets import train
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.jobs.run import train_job
from real_nets.train import Settings
from real_nets.training.loop import DivergedError
from tests.conftest import assert_one_line_error
from tests.images import write_images
from tests.real_nets.tiny import contents, data_of, write_root
from tests.undrawn import needs_latex

Command = Callable[..., subprocess.CompletedProcess[str]]
FIGURES = {"ranks.png", "spectra.png", "layer_ranks.png", "alignment.png"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("root"))


def small(folder: Path, **options: Any) -> Settings:
    usual = {
        "data": str(folder / "own"), "temperature": (20.0, 1.0), "width": 16, "depth": 3,
        "epochs": 1, "batch_size": 16, "lr": 0.1, "followed_images": 60, "device": "cpu",
    }  # fmt: skip
    return Settings(**usual | options)


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `small`."""
    return train.run(small(root, out=tmp_path_factory.mktemp("runs") / "whole"))


@pytest.mark.usefixtures("drawn")
def test_a_run_learns_and_reports(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train.run(small(root, epochs=6, gamma=0.03, out=tmp_path / "run"))
    summary = runs.read_json(folder / "summary.json")
    assert [run["temperature"] for run in summary["runs"]] == [1, 20]
    assert summary["folders"] == ["T1-seed0", "T20-seed0"]
    assert (summary["classes"], summary["train_images"], summary["test_images"]) == (4, 120, 40)
    for run, name in zip(summary["runs"], summary["folders"], strict=True):
        assert run["accuracy"] > 0.95
        assert run["test_accuracy"] > 0.7
        assert (run["model"], run["seed"], run["outcome"]) == ("mlp", 0, "interpolated")
        assert run.items() >= JobFolder(folder / name).summary.items()
        assert (folder / name / "weights.safetensors").is_file()
    assert {path.name for path in folder.glob("*.png")} == FIGURES
    assert runs.read_json(folder / "environment.json")["device"] == "cpu"
    said = capsys.readouterr()
    assert said.err == ""
    for words in ("test acc.", "gamma = 0.03", str(folder), *summary["verdict"]):
        assert " ".join(words.split()) in " ".join(said.out.split())
    for gamma, temperature in (("0.01", 1), ("0.01", 20), ("0.03", 1), ("0.03", 20)):
        ranks = summary["runs"][temperature == 20]["layer_ranks"][gamma]
        line = f"rank after each layer at gamma = {gamma}, test images, T = {temperature}: "
        assert line + " ".join(map(str, ranks)) in said.out
    run = load_run(folder)
    assert said.out.startswith(run.report())
    assert [own["folder"] for own in run.runs] == summary["folders"]
    assert {row["folder"] for row in run.rows} == set(summary["folders"])
    assert run.rows[-1].items() >= JobFolder(folder / summary["folders"][-1]).rows[-1].items()
    assert len((folder / "summary.csv").read_text().splitlines()) == 1 + len(run.runs)


def test_every_network_is_the_job_that_its_folder_tells(
    root: Path, whole: Path, tmp_path: Path
) -> None:
    written = runs.read_json(whole / "T20-seed0" / "settings.json")["settings"]
    job = Job.of(written["job"])
    assert (job.data, job.temperature, job.seed, job.lr) == ("own", 20, 0, 0.1)
    assert written["root"] == str(root)
    train_job(job, data_of(job, root), tmp_path / "alone")
    assert contents(tmp_path / "alone") == contents(whole / "T20-seed0")


def test_temperatures_and_seeds_have_folders_of_their_own(root: Path, tmp_path: Path) -> None:
    settings = small(
        root, temperature=(1.0, 1.0000001, 1.0, 0.5), seeds=2, seed=3, epochs=0,
        out=tmp_path / "run",
    )  # fmt: skip
    folder = train.run(settings)
    names = [f"T{T}-seed{seed}" for seed in (3, 4) for T in ("0.5", "1", "1.0000001")]
    assert runs.read_json(folder / "summary.json")["folders"] == names
    weights = [(folder / name / "weights.safetensors").read_bytes() for name in names]
    assert len(set(weights[:3])) == len(set(weights[3:])) == 1
    assert weights[0] != weights[3]


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    root: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[str] = []
    real = train.train_here

    def interrupted(item: Any, *arguments: Any) -> Any:
        if finished:
            raise KeyboardInterrupt
        finished.append(item.path.name)
        return real(item, *arguments)

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(train, "train_here", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.run(small(root, out=out))
    assert finished == ["T1-seed0"]
    assert not (out / "summary.json").exists()
    kept = (out / "T1-seed0" / "summary.json").stat().st_mtime_ns
    assert train.run(Settings(resume=out)) == out
    assert contents(out) == contents(whole)
    assert (out / "T1-seed0" / "summary.json").stat().st_mtime_ns == kept


def test_figures_come_from_the_folder_alone(whole: Path, tmp_path: Path) -> None:
    before = contents(whole)
    for name in FIGURES:
        (whole / name).unlink()
    train.draw(whole)
    assert contents(whole) == before


def test_no_figure_is_made_in_the_user_s_style(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Figure] = []
    monkeypatch.setattr(train.figure_style, "save", lambda figure, path: made.append(figure))
    with matplotlib.rc_context({"text.usetex": True}):
        train.draw(whole)
    assert len(made) == len(FIGURES)
    assert not any(map(needs_latex, made))


def test_a_run_means_the_same_from_any_folder(
    root: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    train.run(small(root, data="own", out=tmp_path / "near"))
    monkeypatch.chdir(root.parent)
    train.run(small(root, data="own", root=Path(root.name), out=tmp_path / "named"))
    monkeypatch.chdir(tmp_path)
    summary = (whole / "summary.json").read_bytes()
    for name in ("near", "named"):
        assert (tmp_path / name / "summary.json").read_bytes() == summary
        (tmp_path / name / "T20-seed0" / "summary.json").unlink()
        train.run(Settings(resume=tmp_path / name))
        assert (tmp_path / name / "summary.json").read_bytes() == summary
    recorded = runs.read_json(tmp_path / "near" / "settings.json")["settings"]["data"]
    assert recorded == str(root / "own")


def test_glyphs_need_no_folder(tmp_path: Path) -> None:
    options = {"image_size": 8, "temperature": (1.0,), "epochs": 0, "out": tmp_path / "run"}
    settings = small(tmp_path, data="glyphs:2", **options)
    summary = runs.read_json(train.run(settings) / "summary.json")
    assert (summary["classes"], summary["train_images"]) == (100, 200)


@pytest.mark.parametrize("name", ["glyphs", "glyph-fonts:3"])
@pytest.mark.parametrize("spelled", ["{}", "./{}", "{}/"])
def test_a_folder_that_is_named_like_glyphs_is_not_replaced_by_them(
    name: str, spelled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name / "pictures").mkdir(parents=True)
    options = {"temperature": (1.0,), "epochs": 0, "out": tmp_path / "run"}
    settings = small(tmp_path, data=spelled.format(name), **options)
    said = f"{name} .*train.*test.*--data {name} "
    with pytest.raises(ValueError, match=said):
        train.run(settings)
    assert not (tmp_path / "run").exists()
    write_images(tmp_path / name, classes=2, train=2, test=1)
    summary = runs.read_json(train.run(settings) / "summary.json")
    assert (summary["classes"], summary["train_images"]) == (2, 4)


def test_networks_that_diverge_are_reported_once_the_others_are_done(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    settings = small(root, seeds=2, lr=1e20, epochs=1, temperature=(50.0,), out=out)
    with pytest.raises(DivergedError) as caught:
        train.run(settings)
    first, second = str(caught.value).split("; T = 50, ")
    assert first.startswith("T = 50, seed 0: ")
    assert "step 1 (epoch 0.12)" in first
    assert second.startswith("seed 1: ")
    said = capsys.readouterr()
    assert "2 of 2 runs diverged" in said.out
    assert "--lr" in said.out
    assert said.err == ""
    for run in runs.read_json(out / "summary.json")["runs"]:
        assert run["outcome"] == "diverged"
        assert run["rank"] is None
    assert not list(out.rglob("*.safetensors"))
    with pytest.raises(DivergedError, match="seed 1"):
        train.run(Settings(resume=out))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"temperature": (0.0,)}, "temperature is 0.0"),
        ({"temperature": ()}, "temperature is empty"),
        ({"seeds": 0}, "seeds is 0"),
        ({"seed": 2**62}, "seed is"),
        ({"model": "gpt"}, "gpt"),
        ({"width": 0}, "width is 0"),
        ({"gamma": 1.0}, "gamma is 1.0"),
        ({"gamma": 1e-9}, "gamma is 1e-09"),
        ({"milestones": (2.0,)}, "milestones are"),
        ({"followed_images": 0}, "followed_images is 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"data": None}, "data.*--data glyphs"),
        ({"data": "nowhere"}, "'nowhere'.*--root.*glyphs"),
        ({"data": "cifar10"}, "'cifar10'.*--root"),
        ({"data": "./nowhere/"}, r"data \./nowhere/ .*exist"),
        ({"data": "/nowhere/own"}, "data /nowhere/own .*exist"),
        ({"data": __file__}, "test_train.py .*folder"),
        ({"data": "nowhere", "root": Path("none")}, "none/nowhere .*train"),
        ({"model": "resnet18", "stem": "imagenet", "depth": 3}, "depth is 3"),
        ({"model": "torchvision:alexnet", "width": None, "depth": None},
         "alexnet.* 8 x 8 .*--image-size"),
        ({"model": "torchvision:squeezenet1_1", "width": None, "depth": None, "image_size": 32,
          "lr_rule": "reparametrised"}, "classifier.*--lr-rule matched"),
        ({"norm": "batch", "batch_size": 1}, "mlp .*batches of one"),
        ({"head_norm": "batch", "batch_size": 1}, "--batch-size 2"),
    ],
    ids=lambda value: str(value),
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_leave_nothing(
    change: dict[str, Any], word: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=word):
        train.run(replace(small(root, out=tmp_path / "run"), **change))
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_written_over_but_resumed(root: Path, whole: Path) -> None:
    before = contents(whole)
    with pytest.raises(ValueError, match=r"whole .*--resume"):
        train.run(small(root, out=whole))
    with pytest.raises(ValueError, match="--epochs"):
        train.run(Settings(resume=whole, epochs=3))
    assert contents(whole) == before


def test_a_run_whose_settings_were_edited_is_not_mixed(
    root: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train.run(small(root, epochs=0, out=out))
    written = json.loads((out / "settings.json").read_text())
    written["settings"]["lr"] = 0.5
    (out / "settings.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match=r"T1-seed0 .* job"):
        train.run(Settings(resume=out))


def test_bad_data_is_one_line(tmp_path: Path, command: Command) -> None:
    result = command("real_nets.train", "--data", tmp_path, "--out", tmp_path / "run")
    assert_one_line_error(result, "train", "test")
    assert not (tmp_path / "run").exists()
