"""The example of the README runs and shows what it says."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import rankdeficit as rd


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(rd.diagnostics.__file__).parent / "watch" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code, names)
    watch = names["watch"]
    assert [row["step"] for row in watch.rows] == [0, 20, 40, 50]
    norms = [row["logits.effective_logits_norm"] for row in watch.rows]
    assert norms[-1] > norms[0]
    assert rd.load_run("runs/watch").rows == watch.rows
