"""The atlas of initial norms as a command."""

import csv
import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from rankdeficit.experiments.runs import read_rows
from real_nets import norms
from real_nets.norms import Candidate, Settings, candidates
from tests.real_nets.tiny import contents

SMALL = {"library": ("own",), "names": ("mlp", "resnet20"), "classes": 10, "images": 4, "seeds": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("norms") / "run"
    return norms.run(Settings(**SMALL, out=out, max_parameters=10**7))


def test_table_and_summary(folder: Path) -> None:
    with (folder / "norms.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"mlp", "resnet20"}
    assert all(float(row["lowest"]) <= float(row["training"]) for row in rows.values())
    assert int(rows["resnet20"]["width"]) == 64
    assert rows["resnet20"]["normalised"].startswith("BatchNorm2d")
    summary = json.loads((folder / "summary.json").read_text())
    assert [own["name"] for own in summary["networks"]] == list(rows)
    assert (folder / "norms.png").exists()
    assert (folder / "prediction.png").exists()


def test_resumed_after_a_kill(folder: Path, tmp_path: Path) -> None:
    """A network whose row was cut off is measured again, with the same numbers."""
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    for name in ("settings.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "metrics.jsonl").write_bytes(lines[0] + lines[1][:40])
    norms.run(Settings(resume=tmp_path))
    for name in ("metrics.jsonl", "norms.csv", "summary.json"):
        assert contents(tmp_path)[name] == contents(folder)[name]


def test_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Networks that are too large or cannot take the images have their reason."""
    settings = Settings(
        library=("torchvision",), names=("squeezenet1_1", "mnasnet0_5"), image_size=9, images=2,
        seeds=1, max_parameters=10**6, out=tmp_path / "run",
    )  # fmt: skip
    with pytest.raises(ValueError, match="names"):
        norms.run(settings)
    rows = read_rows(tmp_path / "run")
    reasons = {row["name"]: row["left_out"] for row in rows}
    assert "million parameters" in reasons["mnasnet0_5"]
    assert reasons["squeezenet1_1"]


@pytest.mark.parametrize(
    ("name", "size"),
    [("regnet_x_400mf", 224), ("inception_v3", 299), ("vit_b_16", 224), ("efficientnet_b1", 240)],
)
def test_sizes_of_torchvision(name: str, size: int) -> None:
    """RegNets cannot be built without memory, and Inception takes no image of 224 x 224."""
    own = Candidate("torchvision", "", name)
    with torch.device("meta") if name[0] == "v" else nullcontext():
        model = own.build(224, 1000)
    assert own.parameters(224, 1000) == sum(parameter.numel() for parameter in model.parameters())
    assert own.image_size(model) == size


def test_families_in_turn() -> None:
    """A limited number of networks has as many families as it can."""
    found = candidates("torchvision", ())
    families = {own.family for own in found}
    assert {own.family for own in found[: len(families)]} == families
    assert len({own.name for own in found}) == len(found)


def test_bad_settings() -> None:
    for changes, told in (
        ({"images": 1}, "images"),
        ({"seeds": 0}, "seeds"),
        ({"temperature": 0.0}, "temperature"),
        ({"library": ()}, "library"),
    ):
        with pytest.raises(ValueError, match=told):
            Settings(**changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no-such-net"):
        candidates("own", ("no-such-net",))
