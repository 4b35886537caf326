"""Options that have no effect beside others are refused, by every command, when they are typed."""

import importlib
from dataclasses import fields
from functools import cache
from typing import Any

import pytest

from rankdeficit.experiments import cli
from rankdeficit.experiments.options import Unused, given_fields, parse, refuse_unused

TRAIN, DIAGNOSE, REPRODUCE = "real_nets.train", "real_nets.diagnose", "real_nets.reproduce"
DIAL = "real_nets.dial"
NAMED = "--model mlp --untrained --data FOLDER"
CASES: list[tuple[str, str, str, str]] = [
    (TRAIN, "--momentum 0.9", "--optimizer adamw", "--optimizer sgd"),
    (TRAIN, "--no-nesterov", "--optimizer adamw", "--optimizer sgd"),
    (TRAIN, "--label-smoothing 0", "--loss mse", "--loss cross-entropy"),
    (TRAIN, "--lr-rule reparametrised", "--temperature 1 1", "--temperature 1 2"),
    *(
        (TRAIN, option, "--epochs 0", "--epochs 1")
        for option in (
            "--stop-accuracy 1", "--batch-size 8", "--optimizer sgd", "--lr 0.1", "--momentum 0.5",
            "--lr-rule reparametrised", "--weight-decay 0.1", "--schedule step", "--nesterov",
            "--warmup-epochs 0", "--clip-norm 2", "--augmentation crop-flip", "--precision bf16",
            "--compile", "--milestones 0.5",
        )
    ),
    *(
        (TRAIN, option, "--data glyphs:5", f"--data {other}")
        for option, other in (
            ("--root FOLDER", "cifar10"), ("--download", "cifar10"), ("--on-corrupt skip", "own"),
            ("--workers 1", "own"),
        )
    ),
    *(
        (TRAIN, option, "--temperature-schedule constant", f"--temperature-schedule {other}")
        for option, other in (
            ("--hot-share 0.2", "hot"), ("--temperature-ramp 0.2", "up"),
            ("--temperature-cycles 3", "cyclic"),
        )
    ),
    (DIAL, "--momentum 0.9", "--optimizer adamw", "--optimizer sgd"),
    (DIAL, "--nesterov", "--optimizer adamw", "--optimizer sgd"),
    (DIAL, "--label-smoothing 0.1", "--loss mse", "--loss cross-entropy"),
    (DIAL, "--lr-rule reparametrised", "--temperature 1", "--temperature 1 2"),
    *(
        (DIAL, option, "--data glyphs:5", f"--data {other}")
        for option, other in (
            ("--root FOLDER", "cifar10"), ("--download", "cifar10"), ("--on-corrupt skip", "own"),
            ("--workers 1", "own"),
        )
    ),
    *(
        (DIAL, option, "--data FOLDER", f"--data FOLDER --temperature-schedule {other}")
        for option, other in (
            ("--hot-share 0.2", "hot"), ("--temperature-ramp 0.2", "up"),
            ("--temperature-cycles 3", "cyclic"),
        )
    ),
    (TRAIN, "--temperature-schedule up", "--temperature 1", "--temperature 5"),
    (TRAIN, "--root FOLDER", "--data FOLDER", "--data cifar10"),
    (TRAIN, "--download", "--data FOLDER", "--data cifar10"),
    (TRAIN, "--download", "--data own", "--data svhn"),
    (TRAIN, "--download", "--data held --root FOLDER", "--data svhn --root FOLDER"),
    (TRAIN, "--on-corrupt skip", "--data cifar10", "--data imagenet"),
    (TRAIN, "--workers 2", "--data cifar10", "--data FOLDER"),
    (DIAGNOSE, "--detectors msp", NAMED, f"{NAMED} --ood FOLDER"),
    (DIAGNOSE, "--detectors msp", "--ood FOLDER --measures logits", "--ood FOLDER --measures detection"),
    (DIAGNOSE, "--ood FOLDER", "--measures logits", "--measures ood_drop"),
    (DIAGNOSE, "--grid 3", "--measures alignment", "--measures layer_ranks"),
    (DIAGNOSE, "--convention covariance", "--measures logits", "--measures penultimate"),
    (DIAGNOSE, "--probe-l2 1", "--measures logits", "--measures effective_depth"),
    (DIAGNOSE, "--probe-l2 1", "--no-probes", "--no-alignment"),
    (DIAGNOSE, "--probe-l2 1", "--probe-preset tunnel", "--probe-preset converged"),
    (DIAGNOSE, "--probe-preset tunnel", "--no-probes", "--no-alignment"),
    *(
        (DIAGNOSE, option, "--measures logits", "")
        for option in ("--no-probes", "--alignment", "--no-gradients")
    ),
    *(
        (DIAGNOSE, option, "--trained FOLDER", "")
        for option in (
            "--model mlp", "--checkpoint F", "--untrained", "--temperature 1", "--classes 3",
            "--width 8", "--depth 3", "--stem auto", "--norm default", "--head-rank 2",
            "--head-norm none", "--attention-temperature 2", "--learned-attention",
            "--intervention soft-cap",
        )
    ),
    (DIAGNOSE, "--normalisation data", "--mean 0 0 0 --std 1 1 1", ""),
    *(
        (REPRODUCE, option, "quick --budget smoke", "quick --budget small")
        for option in (
            "--data FOLDER", "--download", "--on-corrupt stop", "--replace a=b", "--workers 4",
            "--further-ood a",
        )
    ),
    (REPRODUCE, "--slurm a=1", "quick", "quick --executor slurm"),
    (REPRODUCE, "--at-once 2", "quick --executor here", "quick --executor local"),
    (REPRODUCE, "--budget smoke", "--list", "quick"),
    (REPRODUCE, "--missing", "--list", "quick"),
    (REPRODUCE, "--plan", "", "quick"),
    *(
        (f"simulations.{name}", "--momentum 0.9", f"--optimizer {optimizer}", "--optimizer sgd")
        for name in ("ufm", "mlp")
        for optimizer in ("adam", "gd")
    ),
    *(
        (f"simulations.{name}", option, "--temperature 1 50", "--temperature 50")
        for name in ("ufm", "mlp")
        for option in ("--baseline", "--no-baseline")
    ),
    *(
        ("simulations.mlp", option, "", "--data FOLDER") for option in ("--images 9", "--image-size 9")
    ),
    *(
        ("simulations.mlp", f"--{name} 3", "--data FOLDER", "")
        for name in ("classes", "samples-per-class", "inputs", "separation", "imbalance")
    ),
    ("simulations.temperature_schedule", "--ramp 0.2", "--schedule cyclic hot", "--schedule up"),
    ("simulations.temperature_schedule", "--cycles 3", "--schedule up cold", "--schedule cyclic"),
    ("simulations.temperature_schedule", "--temperature 3", "--schedule cold", "--schedule hot"),
    ("simulations.dynamics", "--smallest-mode 1e-5", "--start random", "--start balanced"),
    ("simulations.dynamics", "--largest-mode 1e-3", "--start random", "--start balanced"),
    ("simulations.dynamics", "--init-scale 1", "--start balanced", "--start random"),
    ("simulations.phase_diagram", "--limit-ranks", "--seeds 1", "--seeds 2"),
    ("simulations.phase_diagram", "--no-limit-ranks", "--classes 3", "--classes 4"),
    ("simulations.phase_diagram", "--rule matched", "--temperature 1", "--temperature 1 2"),
]  # fmt: skip


def settings_of(module: str) -> type[Any]:
    return importlib.import_module(module).Settings  # type: ignore[no-any-return]


@cache
def unused(module: str, line: str) -> Unused:
    """Options without effect beside those of a command line."""
    return parse(settings_of(module), line.split(), module).unused()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the folders of a data set called held."""
    root = tmp_path_factory.mktemp("root")
    for split in ("train", "test"):
        (root / "held" / split).mkdir(parents=True)
    return str(root)


@pytest.mark.parametrize(
    ("module", "option", "beside", "mended"), CASES, ids=[", ".join(case) for case in CASES]
)
def test_an_option_is_refused_where_it_has_no_effect_and_only_there(
    module: str, option: str, beside: str, mended: str, folder: str
) -> None:
    (name,) = given_fields(option.split()) & {own.name for own in fields(settings_of(module))}
    assert name in unused(module, beside.replace("FOLDER", folder))
    assert name not in unused(module, mended.replace("FOLDER", folder))


def test_all_options_that_may_have_no_effect_are_fields_and_tried_here(folder: str) -> None:
    tried = {
        (module, name) for module, option, *_ in CASES for name in given_fields(option.split())
    }
    for module, _, beside, _ in CASES:
        found = unused(module, beside.replace("FOLDER", folder))
        assert found.keys() <= {own.name for own in fields(settings_of(module))}
        if module != REPRODUCE or "quick" in beside:  # without targets, no other has an effect
            assert {(module, name) for name in found} <= tried


@pytest.mark.parametrize("spelled", ["--momentum=0.5", "--momentum 0.5", "--bias --momentum 0.9"])
def test_a_command_refuses_in_one_line_what_was_typed(
    spelled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ufm", "--optimizer", "gd", *spelled.split()])
    with pytest.raises(SystemExit) as stop:
        cli.main(settings_of("simulations.ufm"), lambda _: pytest.fail("it was run"), "ufm")
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    for word in ("--momentum", "--optimizer gd", "leave it out"):
        assert word in line


def test_an_option_that_was_not_typed_is_not_refused() -> None:
    settings = settings_of("simulations.ufm")(optimizer="gd", momentum=0.5)
    refuse_unused(settings, ["--optimizer", "gd"])
    assert given_fields(["--batch-size", "3", "--no-bias", "-1"]) >= {"batch_size", "bias"}
