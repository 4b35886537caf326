"""What to ask of `real_nets.diagnose`, and its answers."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rankdeficit.diagnostics.report import Report
from real_nets import diagnose
from real_nets.diagnose import Settings

Command = Callable[..., subprocess.CompletedProcess[str]]


NETWORK = "T20-seed0/weights.safetensors"
FREE: dict[str, None] = {"width": None, "depth": None}
"""A network of its own size."""


def as_trained(note: str) -> bool:
    """Whether a note tells that images are normalised as in training, so that nothing is to be done."""
    return "trained with" in note and "--mean" not in note


def asked(**options: Any) -> Settings:
    return Settings(**{"device": "cpu", "detectors": ("msp",)} | options)


def quick(**options: Any) -> Settings:
    return asked(**{"probes": False, "alignment": False, "gradients": False} | options)


def by_name(trained: Path, images: Path, **options: Any) -> Settings:
    network = {"model": "mlp", "width": 32, "depth": 3, "checkpoint": trained / NETWORK}
    return quick(**network | {"data": images, "temperature": 20.0} | options)


def report(settings: Settings) -> Report:
    folder = diagnose.run(settings)
    assert folder is not None
    return Report.from_json(folder / "report.json")


def numbers(found: Report) -> dict[str, Any]:
    record = {k: v for k, v in found.record.items() if k != "notes"}
    return record | {"conditions": {**record["conditions"], "seconds": None, "processes": None}}
