"""`python -m simulations.equivalence`: every case as the theory has it, its folder and its errors."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdeficit.experiments import runs
from rankdeficit.toys.mlp import MlpShape
from rankdeficit.toys.ufm import UfmShape
from simulations import equivalence
from simulations.equivalence import CASES, Settings, Unit, twin_scales

Row = dict[str, Any]

SMALL = Settings(
    temperature=(5.0,), depth=(2,), seeds=1, classes=3, samples_per_class=2, width=4, steps=12,
    measure_every=5, device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(depth=(2, 3), seeds=1, steps=80, device="cpu")
    return equivalence.Equivalence().run(
        replace(settings, out=tmp_path_factory.mktemp("full") / "run")
    )


def test_every_case_is_as_the_theory_has_it(full: Path) -> None:
    cells = runs.read_json(full / "summary.json")["cells"]
    assert len(cells) == 2 * len(CASES)
    equal = [cell for cell in cells if cell["expected"] == "equal"]
    assert len(equal) == 24
    for cell in equal:
        assert max(cell["differences"]) < 1e-10, cell["case"]
        assert cell["found"] == "equal"
        assert cell["loss_difference"] < 1e-9
        assert all(rank == twin for rank, twin in cell["ranks"])
    for cell in cells:
        if cell["expected"] == "different":
            assert min(cell["differences"]) > 1e-3, cell["case"]
            assert cell["found"] == "different"


def test_equal_pairs_learn_and_are_not_the_same_numbers(full: Path) -> None:
    rows = runs.read_rows(full)
    for cell in runs.read_json(full / "summary.json")["cells"]:
        if cell["expected"] == "different":
            continue
        own = [row for row in rows if (row["case"], row["depth"]) == (cell["case"], cell["depth"])]
        assert own[-1]["loss"] < own[0]["loss"] - 1e-3, cell["case"]
    assert any(0 < row["difference"] < 1e-10 for row in rows)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("gradient descent", lambda p, a: torch.optim.SGD(p, lr=0.1 * a**2)),
        (
            "Nesterov momentum",
            lambda p, a: torch.optim.SGD(p, lr=0.1 * a**2, momentum=0.9, nesterov=True),
        ),
        (
            "momentum, weight decay scaled",
            lambda p, a: torch.optim.SGD(p, lr=0.1 * a**2, momentum=0.9, weight_decay=1e-3),
        ),
        ("Adam", lambda p, a: torch.optim.Adam(p, lr=5e-3 * a)),
        (
            "AdamW, decoupled decay scaled",
            lambda p, a: torch.optim.AdamW(p, lr=5e-3 * a, weight_decay=1e-2),
        ),
    ],
)
def test_the_original_is_a_plain_run_of_torch(
    name: str, make: Callable[[list[torch.Tensor], float], torch.optim.Optimizer]
) -> None:
    """The batch's first run at T = 37 against autograd on the parameters themselves."""
    (case,) = [case for case in CASES if case.name == name]
    pair = equivalence.Pair(Settings(device="cpu"), Unit(case, 37.0, 2, 0))
    factors = pair.model.shape.unpack(pair.model.parameters[:1].clone())
    parts = [factors.features[0], *(W[0].mT for W in factors.weights)]
    parts = [part.clone().requires_grad_() for part in parts]
    optimizer = make(parts, 37 ** (1 / 3))
    labels = torch.arange(6).repeat_interleave(5)
    for _ in range(20):
        pair.step()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(parts[0] @ parts[1] @ parts[2] / 37, labels).backward()
        optimizer.step()
    ours = pair.model.shape.unpack(pair.model.parameters[:1])
    for part, found in zip(
        parts, [ours.features[0], *(W[0].mT for W in ours.weights)], strict=True
    ):
        torch.testing.assert_close(found, part.detach(), rtol=1e-9, atol=1e-11)


def test_one_seed_that_differs_makes_a_case_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = equivalence.compare

    def differ_at_seed_one(settings: Settings, unit: Unit) -> Iterator[Row]:
        change = dict.fromkeys(("difference", "loss_difference"), 1.0 * unit.seed)
        return (row | change for row in original(settings, unit))

    monkeypatch.setattr(equivalence, "compare", differ_at_seed_one)
    monkeypatch.setattr(equivalence, "CASES", (CASES[0], CASES[12]))
    folder = equivalence.Equivalence().run(replace(SMALL, seeds=2, out=tmp_path / "run"))
    for cell in runs.read_json(folder / "summary.json")["cells"]:
        assert cell["differences"] == [0, 1]
        assert cell["loss_difference"] == 1
        assert cell["found"] == "different"


def test_scales_of_a_two_layer_net_with_biases_by_hand() -> None:
    mlp = MlpShape(1, 2, 2, 2, bias=True)  # W_1 (2, 1), W_2 (2, 2), b_1 (2), b_2 (2)
    homogeneous = twin_scales(mlp, "homogeneous", 3.0, 9.0)
    assert homogeneous.tolist() == [3, 3, 3, 3, 3, 3, 3, 3, 9, 9]
    head = twin_scales(mlp, "head", 3.0, 9.0)
    assert head.tolist() == [1, 1, 9, 9, 9, 9, 1, 1, 9, 9]
    ufm = UfmShape(2, 1, 1, 2, bias=True)  # W_1 (1, 1), W_2 (2, 1), H (2, 1), b_1 (1), b_2 (2)
    assert twin_scales(ufm, "homogeneous", 3.0, 27.0).tolist() == [3, 3, 3, 3, 3, 9, 27, 27]
    assert twin_scales(ufm, "head", 3.0, 27.0).tolist() == [1, 27, 27, 1, 1, 1, 27, 27]


@pytest.mark.parametrize("twin", ["homogeneous", "head"])
@pytest.mark.parametrize("model", ["ufm", "mlp"])
def test_scaled_parameters_scale_the_logits_by_the_temperature(twin: Any, model: Any) -> None:
    (case,) = [case for case in CASES if case.name == "momentum, ReLU, biases scaled by layer"]
    case = replace(case, twin=twin, model=model)
    pair = equivalence.Pair(replace(SMALL, width=6), Unit(case, 11.0, 3, 0))
    with torch.no_grad():
        pair.model.parameters[0] += 0.1  # so that biases count
        pair.model.parameters[1] = pair.model.parameters[0] / pair.scales
        logits = (
            pair.model.logits() if model == "ufm" else pair.model.forward(*pair.data[:1]).logits
        )
    torch.testing.assert_close(logits[0], 11 * logits[1], rtol=1e-12, atol=1e-13)


def test_the_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = replace(SMALL, temperature=(20.0, 5.0), seeds=2, seed=3)
    folder = equivalence.Equivalence().run(replace(settings, out=tmp_path / "run"))
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "settings.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt",
        "environment.json", "summary.json", "summary.csv",
    }  # fmt: skip
    summary = runs.read_json(folder / "summary.json")
    first, second = (summary["cells"][i]["losses"] for i in (0, 1))
    assert first[0] != first[1]  # seeds differ
    assert first != second
    keys = [(cell["case"], cell["temperature"]) for cell in summary["cells"]]
    assert keys == [(case.name, T) for case in CASES for T in (5.0, 20.0)]
    rows = runs.read_rows(folder)
    assert [row["step"] for row in rows[:4]] == [0, 5, 10, 12]
    assert len(rows) == len(keys) * 2 * 4
    for cell in summary["cells"]:
        own = [
            row
            for row in rows
            if (row["case"], row["temperature"]) == (cell["case"], cell["temperature"])
        ]
        ends = [row for row in own if row["step"] == 12]
        assert cell["losses"] == [[row["loss"], row["twin_loss"]] for row in ends]
        assert cell["differences"] == [
            max(row["difference"] for row in own if row["seed"] == seed) for seed in (3, 4)
        ]
    output = capsys.readouterr().out
    assert "All cases agree" in output
    assert str(folder) in output


def test_the_figure_shows_the_rows(full: Path) -> None:
    rows, summary = runs.read_rows(full), runs.read_json(full / "summary.json")
    figures = equivalence.Equivalence().figures(rows, summary)
    assert {*figures} == {"differences"}
    figure = figures["differences"]
    (line,) = [x for x in figure.axes[1].get_lines() if x.get_label() == "learning rate alone"]
    own = [row for row in rows if (row["case"], row["depth"]) == ("learning rate alone", 2)]
    assert line.get_ydata().tolist() == [row["difference"] for row in own]
    assert len(figure.axes[0].get_lines()) == 1 + sum(case.equal for case in CASES)


def test_diverged_seeds_are_counted_beside_the_range_of_the_others(full: Path) -> None:
    summary = runs.read_json(full / "summary.json")
    summary["cells"][0]["differences"] = [1e-3, None, 1e-2, 2e-3]
    table, _ = equivalence.Equivalence().report(summary)
    (text,) = [cell for column in table.columns for cell in column.cells if "diverged" in str(cell)]
    assert text == "1.0e-03 to 1.0e-02 (1 diverged)"


def test_diverged_and_surprising_pairs_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate at which gradient descent explodes, and a correction wrongly left out."""
    monkeypatch.setitem(equivalence.BASE_LR, "gd", 1e60)
    wrong = replace(CASES[3], left_out="start")
    monkeypatch.setattr(equivalence, "CASES", (CASES[0], wrong, CASES[12]))
    folder = equivalence.Equivalence().run(replace(SMALL, out=tmp_path / "run"))
    diverged, surprising, _ = runs.read_json(folder / "summary.json")["cells"]
    assert diverged["differences"] == [None]
    assert diverged["ranks"] == [[None, None]]
    assert surprising["found"] == "different"
    output = " ".join(capsys.readouterr().out.split())
    assert "(1 diverged)" in output
    for name in ("gradient descent", "Adam"):
        assert re.search(rf"{name} \(T = 5, depth 2\): .*equal.* different", output)
    assert "All cases" not in output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", "0"], ["temperature is 0.0"]),
        (["--temperature", "nan"], ["temperature is nan"]),
        (["--temperature"], ["temperature is empty"]),
        (["--temperature", "37", "1"], ["temperature is 1.0", "differ"]),
        (["--temperature", "1e51"], ["temperature is 1e+51", "1e-50..1e+50"]),
        (["--temperature", "1e-51"], ["temperature is 1e-51"]),
        (["--depth"], ["depth is empty"]),
        (["--depth", "3", "1"], ["depth is 1", "at least 2"]),
        (["--classes", "1"], ["classes is 1"]),
        (["--samples-per-class", "0"], ["samples_per_class is 0"]),
        (["--width", "0"], ["width is 0"]),
        (["--steps", "0"], ["steps is 0"]),
        (["--measure-every", "0"], ["measure_every is 0"]),
        (["--seeds", "0"], ["seeds is 0"]),
        (["--seed", "-1"], ["seed is -1"]),
        (["--gamma", "0"], ["gamma is 0.0"]),
        (["--device", "abacus"], ["device is 'abacus'"]),
    ],
    ids=lambda value: " ".join(value),
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_one_line_and_leave_nothing(
    flags: list[str], words: list[str], assert_refused: Callable[..., None]
) -> None:
    assert_refused(equivalence, flags, words)


@pytest.mark.parametrize("T", [1e-50, 1e50])
def test_the_most_extreme_temperatures_stay_finite(T: float) -> None:
    for case in CASES:
        rows = list(equivalence.compare(SMALL, Unit(case, T, 2, 0)))
        assert rows[-1]["step"] == 12
