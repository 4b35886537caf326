"""Objects of users' own files and packages, and networks made from them."""

from pathlib import Path

import pytest
from torch import nn

from rankdeficit.experiments.own_code import absolute, find_object, names_object
from real_nets.models import Architecture

CODE = """
import math
import beside
from torch import nn

def plain():
    return nn.Linear(3, 2)

def sized(*, num_classes, width=4):
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, num_classes))

class Net(nn.Linear):
    def __init__(self, classes=7):
        super().__init__(3, classes)

made = nn.Linear(3, 5)
def greedy(depth): ...
def none(): ...
def failing(): raise RuntimeError("no such file")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "nets.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    return tmp_path / "nets.py"


def build(name: str) -> nn.Module:
    return Architecture(name, 6, (3, 4, 4)).build(0)


def test_functions_classes_and_modules_make_networks(file: Path) -> None:
    outputs = {"plain": 2, "sized": 6, "Net": 6, "made": 5}
    for name, expected in outputs.items():
        linear = [m for m in build(f"{file}:{name}").modules() if isinstance(m, nn.Linear)][-1]
        assert linear.out_features == expected
    assert isinstance(build("torch.nn:Identity"), nn.Identity)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nets.py:other", "other.*plain, sized"),
        ("none.py:plain", r"none\.py.* exist"),
        ("broken.py:plain", "broken.py.*ModuleNotFoundError.*nothing_of_that_name"),
        ("nets.py:greedy", "depth.*num_classes"),
        ("nets.py:none", "none.*NoneType"),
        ("nets.py:failing", "no such file"),
        ("nets.py:math.pi", "float"),
    ],
)
def test_what_makes_no_network_is_told(file: Path, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(f"{file.parent}/{name}")


def test_packages_and_options_that_are_unknown(file: Path) -> None:
    with pytest.raises(ValueError, match=r"no_package\.inner.*found"):
        find_object("no_package.inner:net", "model")
    with pytest.raises(ValueError, match=r"width.*3.*leave"):
        Architecture(f"{file}:plain", 6, (3, 4, 4), width=3)
    with pytest.raises(ValueError, match=r"model.*'unknown'"):
        Architecture("unknown", 6, (3, 4, 4))


def test_names_and_paths() -> None:
    assert names_object("a/b.py:c")
    assert names_object("a.b:c")
    assert not any(map(names_object, ("resnet18", "a:", ":b")))
    assert absolute("b.py:c") == f"{Path.cwd()}/b.py:c"
    assert absolute("a.b:c") == "a.b:c"
