"""Help of options: one placeholder, one text and one default each."""

from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from rankdeficit.experiments import options

COMMANDS = [
    "proofs.__main__", "real_nets.train", "real_nets.diagnose", "real_nets.reproduce",
    "real_nets.report", "simulations.dynamics", "simulations.equivalence",
    "simulations.gibbs", "simulations.hyperparameters", "simulations.mlp",
    "simulations.phase_diagram", "simulations.random_softmax",
    "simulations.temperature_schedule", "simulations.ufm",
]  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A base."""

    width: int = 4
    """Width of a layer."""
    rate: float | None = None
    """Learning rate [default: 0.1, with Adam 0.01]."""


@dataclass(frozen=True)
class Settings(Base):
    """Example of every kind of option."""

    width: int = 8
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Some names."""
    mean: tuple[float, float] | None = None
    """Two means."""
    kind: Literal["a", "b"] = "a"
    """A kind."""
    out: Path | None = None
    """A file."""
    fast: bool = True
    """Whether to hurry."""
    exact: bool | None = None
    """Whether to round."""


def help_of(kind: type, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        options.parse(kind, ["--help"], "tests", "More of it.")
    assert not stop.value.code
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_has_one_placeholder_and_one_default(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(Settings, capsys)
    for part in (
        "Example of every kind of option. More of it.",
        "--width INT Width of a layer. (default: 8)",
        "--rate FLOAT Learning rate. (default: 0.1, with Adam 0.01)",
        "[NAMES ...] Some names.",
        "--mean FLOAT FLOAT Two means.",
        "--kind {a,b} A kind. (default: a)",
        "--out PATH A file.",
        "--fast, --no-fast Whether to hurry. (default: yes)",
        "--exact {True,False} Whether to round.",
    ):
        assert part in shown
    assert "None" not in shown


def test_values_arrive_whatever_their_help() -> None:
    words = "one two --mean 1 2 --kind b --out x --no-fast --exact False --rate 3".split()
    parsed = options.parse(Settings, words, "tests")
    assert parsed == Settings(8, 3.0, ("one", "two"), (1.0, 2.0), "b", Path("x"), False, False)
    assert options.parse(Settings, [], "tests") == Settings()


@pytest.mark.parametrize("module", COMMANDS)
def test_every_option_of_every_command_is_explained_once(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = import_module(module).Settings
    texts = options.documentation(kind)
    made = {field.name for field in fields(kind) if field.metadata.get("help")}
    assert {field.name for field in fields(kind) if not texts.get(field.name)} == made
    shown = help_of(kind, capsys)
    assert "None" not in shown
    assert "[default" not in shown
    assert shown.count("(default:") <= len(fields(kind))
