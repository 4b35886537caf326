"""What the README shows is what happens."""

import re
from typing import Any

import torch

from rankdeficit import bounds
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_library_example_runs_and_says_the_truth() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(example, names)
    rd, logits = names["rd"], names["logits"]
    assert rd.numerical_rank(logits) == 3
    assert rd.numerical_rank(rd.softmax(30 * logits)) > 3
    assert names["gram"].spectrum().rank() == 3
    gap = bounds.singular_gap(rd.softmax(logits[:50]).mT)
    assert gap.lower <= gap.gap <= gap.upper
    assert names["code"].rank == 2


def test_the_two_commands_are_there_for_ci_to_run() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README, re.M)
    assert [command.split()[-1] for command in commands] == ["50", "pytest"]
