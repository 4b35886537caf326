"""Bad input is refused in one line, and nothing is left."""

from pathlib import Path

import pytest

from rankdeficit.experiments.options import parse_pairs
from real_nets import reproduce
from tests.images import write_images
from tests.real_nets.reproduce.asking import TINY, Main, contents

ROOTED = ["--budget", "small", "--data", "ROOT"]
BAD: list[tuple[list[str], list[str]]] = [
    (["tabel1"], ["'tabel1'", " table1"]),
    (["quick", "zzz"], ["'zzz'", "--list"]),
    (["quick", "--cells", "CIFAR-10/*"], ["'CIFAR-10/*'", "CIFAR-100/ResNet-18"]),
    (["table3", "--cells", "*/VGG-19", "MLP"], ["'MLP'", "CIFAR-10/VGG-19"]),
    (["fig6", "--cells", "*"], ["'*'", "no cells"]),
    (["table1", "--budget", "small"], ["small budget", "--data"]),
    (["table1", *ROOTED[:3], "nowhere"], ["data nowhere "]),
    (["fig1", *ROOTED, "--replace", "cifar100=gone"], ["1 left out", "gone"]),
    (["table1", *ROOTED, "--cells", "ImageNet-1k/*"], ["2 left out", "ImageNet-1k/ResNet-34"]),
    (["fig1", *ROOTED, "--replace", "svhn"], ["replace is 'svhn'", "NAME=VALUE"]),
    (["fig1", *ROOTED, "--replace", "=svhn"], ["replace is '=svhn'", "NAME=VALUE"]),
    (["fig1", *ROOTED, "--replace", "cifar=a"], ["replace", "'cifar'", "cifar10, cifar100"]),
    (["quick", "--replace", "cifar10=a"], ["--replace", "smoke budget"]),
    (["fig1", *ROOTED, "--further-ood", "gone"], ["/gone", "train"]),
    (["fig6", *ROOTED, "--further-ood", "cifar10"], ["--further-ood", "fig6"]),
    (["quick", "--further-ood", "cifar10"], ["--further-ood", "smoke budget"]),
    (["quick", "--data", "ROOT"], ["--data", "smoke budget"]),
    (["--budget", "small"], ["--budget", "targets"]),
    (["quick", "--list"], ["targets", "--list"]),
    (["quick", "--executor", "cloud"], ["'cloud'", "'local', 'slurm'"]),
    (["quick", "--slurm", "a=1"], ["--executor slurm"]),
    (["quick", "--executor", "slurm", "--slurm", "a"], ["slurm is 'a'", "NAME=VALUE"]),
    (["quick", "--executor", "local", "--slurm", "a=1"], ["slurm is {'a': 1}", "submitit"]),
    (["quick", "fig6", "--budget", "small"], ["small budget", "--data"]),
    (["quick", "--budget", "huge"], ["'huge'", "smoke"]),
    (["quick", "--seeds", "0"], ["seeds is 0"]),
    (["quick", "--epochs", "-1"], ["epochs is -1"]),
    (["quick", "--temperature", "0"], ["temperature is 0"]),
    (["quick", "--temperature", "nan"], ["temperature is nan"]),
    (["quick", "--temperature", "1"], ["temperature is 1;", "above 1"]),
    (["quick", "--gamma", "1"], ["gamma is 1.0"]),
    (["fig6", "--gamma", "0"], ["gamma is 0.0"]),
    (["quick", "--width", "0"], ["width is 0"]),
    (["quick", "--lr", "inf"], ["lr is inf"]),
    (["quick", "--batch-size", "0"], ["batch_size is 0"]),
    (["quick", "--diagnosed-images", "-1"], ["diagnosed_images is -1"]),
    (["table1", *ROOTED, "--workers", "-1"], ["workers is -1"]),
    (["quick", "--list", "--budget", "smoke"], ["--budget", "--list"]),
    (["fig6", "--epochs", "3"], ["--epochs", "fig6"]),
    (["fig6", "--temperature", "10"], ["--temperature", "fig6"]),
    (["fig6", "--seeds", "2"], ["--seeds", "fig6"]),
    (["fig6", "--tensorboard"], ["--tensorboard", "fig6"]),
    (["fig6", "--recipe", "adaptive"], ["--recipe", "fig6"]),
    (["fig6", "--convention", "covariance"], ["--convention", "fig6"]),
    (["fig6", "--probe-preset", "tunnel"], ["--probe-preset", "fig6"]),
    (["quick", "--convention", "some"], ["some", "covariance"]),
    (["fig6", "--other-temperatures", "3"], ["--other-temperatures", "fig6"]),
    (["table1", "--other-temperatures", "3", "0"], ["temperature is 0"]),
    (["fig6", "--executor", "local"], ["--executor", "fig6"]),
    (["fig6", *ROOTED], ["--data", "fig6"]),
    (["fig6", "fig8", "--lr", "0.1"], ["--lr", "fig6, fig8"]),
    (["fig8", "--temperature", "10"], ["--temperature", "fig8"]),
    (["fig8", "--diagnosed-images", "10"], ["--diagnosed-images", "fig8"]),
    (["fig6", *ROOTED, "--replace", "imagenet=gone"], ["--replace", "fig6"]),
    (["fig6", *ROOTED, "--download"], ["--download", "fig6"]),
    (["quick", "--device", "tpu"], ["device is 'tpu'"]),
    (["quick", "--lr-rule", "some"], ["'some'", "matched"]),
    (["quick", "--image-size", "0"], ["image_size is 0"]),
    (["quick", "--unknown"], ["--unknown"]),
    (["fig1", "--cells", "a", "--cells=b"], ["--cells", "once"]),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[" ".join(bad) for bad, _ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    words: list[str],
    main: Main,
    tmp_path: Path,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(root) if argument == "ROOT" else argument for argument in arguments]
    assert main(*given, "--out", tmp_path / "store") == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("real_nets.reproduce: error: ")
    for word in words:
        assert word in line
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


def test_unreadable_data_leave_nothing(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "root" / "cifar10", classes=2, train=2, test=2)
    (tmp_path / "root" / "cifar10" / "train" / "class0" / "0.png").write_text("no image")
    assert main("fig3", *TINY, "--data", tmp_path / "root", "--out", tmp_path / "store") == 2
    assert "0.png" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "store").exists()


def test_the_store_is_for_one_command_at_a_time(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with reproduce.locked(tmp_path):
        assert main("fig6", "--out", tmp_path) == 2
    assert "in use" in capsys.readouterr().err
    assert not (tmp_path / "targets").exists()


@pytest.mark.usefixtures("untrained")
def test_a_place_that_is_no_store_is_refused_before_anything_is_timed_or_written(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign, file, used = (tmp_path / name for name in ("foreign", "file", "used"))
    foreign.mkdir()
    (foreign / "report.html").write_text("mine")
    file.write_text("mine")
    with reproduce.locked(used):
        for place, words in (
            (foreign, "report.html"),
            (file, "/file"),
            (used, "in use"),
        ):
            before = contents(tmp_path)
            assert main("quick", "--out", place) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert words in line
            assert contents(tmp_path) == before


def test_pairs_may_hold_further_signs_of_equality() -> None:
    assert parse_pairs("slurm", ("a=1", "comment=b=c")) == {"a": "1", "comment": "b=c"}
    assert parse_pairs("slurm", ()) == {}
