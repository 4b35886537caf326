"""Reports as figures."""

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rankdeficit.diagnostics.registry import all_measures
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.report.outputs import write_text
from rankdeficit.experiments.figure_style import save
from rankdeficit.page import Page, Picture, Section, render
from tests.rankdeficit.diagnostics.report.fabricated import (
    Row,
    changed,
    large,
    logits,
    rates,
    record,
)
from tests.undrawn import needs_latex

FIGURES = dict(figure for measure in all_measures() for figure in measure.figures)


def lines(figure: Figure, panel: int = 0) -> dict[str, tuple[list[float], list[float]]]:
    """Line data by label."""
    found = figure.axes[panel].get_lines()
    return {
        str(line.get_label()): (
            list(np.asarray(line.get_xdata())),
            list(np.asarray(line.get_ydata())),
        )
        for line in found
    }


def drawn(draw: Callable[[Row], Figure | None], own: Row | None = None) -> Figure:
    figure = draw(own or record())
    assert figure is not None
    return figure


def test_the_probe_figure_has_accuracies_and_effective_depth() -> None:
    figure = drawn(FIGURES["probe_accuracies"])
    found = lines(figure)
    assert found["ID"] == ([1, 2, 3, 4], [0.5, 0.7, 0.95, 0.9])
    assert found["OOD: svhn"] == ([1, 2, 3, 4], [0.2, 0.6, 0.5, 0.3])
    assert found["κ = 0.75"][0] == [3, 3]
    spans = {patch.get_label(): patch.get_extents().transformed(figure.axes[0].transData.inverted())
             for patch in figure.axes[0].patches}  # fmt: skip
    assert [spans["95% interval of κ"].x0, spans["95% interval of κ"].x1] == pytest.approx([2, 4])
    band = spans["99%-100% of the last layer's"]
    assert [band.y0, band.y1] == pytest.approx([0.891, 0.9])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ['1 "stem"', '2 "layer1.0.conv1"', '3 "layer1.1.conv1"', '4 "fc"']


def test_the_rank_figures_have_ranks_by_layer() -> None:
    found = lines(drawn(FIGURES["layer_ranks"]))
    assert found["train, γ = 0.001"] == ([1, 2, 3, 4], [60, 59, 58, 57])
    assert found["test, γ = 0.001"][1] == [50, 49, 48, 47]
    assert found["train, γ = 0.01"][1] == [31] * 4
    assert found["test, γ = 0.1"][1] == [5] * 4
    assert found["features"][1] == [64] * 4
    found = lines(drawn(FIGURES["gradient_ranks"]))
    assert found["gradient of the loss"][1] == [11, 12, 13, 14]
    assert found["layer's input"][1] == [41, 42, 43, 44]


def test_the_alignment_figure_has_error_bars_and_gaps() -> None:
    altered = record()
    altered["layers"][2] |= {"alignment": None, "alignment_error": None}
    axes = drawn(FIGURES["alignment"], altered).axes[0]
    (bars,) = axes.containers
    values = bars.lines[0].get_ydata()  # type: ignore[attr-defined]
    np.testing.assert_equal(np.array(values, dtype=float), [0.25, 0.5, np.nan, 1.0])
    segments = bars.lines[2][0].get_segments()  # type: ignore[attr-defined]
    assert segments[1].tolist() == [[2, 0.4375], [2, 0.5625]]
    mean = {line.get_label(): line for line in axes.get_lines()}["mean: 0.583"]
    assert np.asarray(mean.get_ydata())[0] == pytest.approx(7 / 12)


def test_the_logits_figures_have_curves_and_the_prediction() -> None:
    altered = record()
    altered["conditions"]["gamma"] = 0.02
    altered["train"]["logits"] |= {"rank": 4, "centred_rank": 1}
    figure = drawn(FIGURES["logits_ranks"], altered)
    found = lines(figure)
    assert found["raw"] == ([1e-4, 1e-3, 0.01, 0.02, 0.03, 0.1], [5, 3, 2, 4, 2, 1])
    assert found["class-centred"][1] == [5, 3, 2, 1, 2, 1]
    assert found["Neural Collapse: 5"][1] == [5, 5]
    assert lines(figure, 1)["after the softmax"][1] == [5, 3, 2, 3, 2, 1]
    found = lines(drawn(FIGURES["singular_values"]))
    assert found["train"] == ([1, 2, 3, 4, 5, 6], [1, 0.5, 0.25, 0.125, 0.0625, 1.25e-10])
    assert found["γ = 0.001"][1] == [0.001, 0.001]
    assert found["Neural Collapse: 5"][0] == [5, 5]


def test_the_detection_figure_has_a_point_per_detector_and_data_set() -> None:
    altered = record()
    altered["detection"]["noise"] = {"vim": rates(0.99)}
    axes = drawn(FIGURES["detection"], altered).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["neco-resnet (d = 9) *", "vim", "energy"]
    points = {
        str(line.get_label()): list(np.asarray(line.get_xdata())) for line in axes.get_lines()
    }
    assert points["svhn"] == [0.815, 0.7, 0.925]
    np.testing.assert_equal(points["noise"], [np.nan, 0.99, np.nan])


def test_the_calibration_figure_has_both_sides() -> None:
    heights = [
        [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
        for axes in drawn(FIGURES["calibration"]).axes
    ]
    assert heights == [[2.17, 1.19], [0.234, 0.056], [0.345, 0.289]]


def test_all_figures_are_written_and_nothing_else(tmp_path: Path) -> None:
    paths = Report(large(3)).plot(tmp_path / "figures")
    assert [path.stem for path in paths] == list(FIGURES)
    assert sorted(paths) == sorted((tmp_path / "figures").iterdir())
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"


def test_no_figure_is_made_in_the_user_s_style(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Figure] = []
    place = "rankdeficit.diagnostics.report.outputs.save"
    monkeypatch.setattr(place, lambda figure, path: made.append(figure))
    with matplotlib.rc_context({"text.usetex": True}):
        assert needs_latex(drawn(FIGURES["calibration"]))
        Report(record()).plot(tmp_path)
        assert matplotlib.rcParams["text.usetex"]
    assert len(made) == len(FIGURES)
    assert not any(map(needs_latex, made))


def test_a_network_with_zero_logits_and_no_layers_is_still_reported(tmp_path: Path) -> None:
    dead = changed("layers", [])
    for data in ("train", "test"):
        dead[data]["logits"] = logits(0, (0,) * 5) | {"singular_values": [0.0] * 6}
    dead |= {"effective_depth": None, "ood_drop": {}}
    dead["train"]["rank_sampling"] = None
    report = Report(dead)
    assert report.sentences()[0].startswith("Rank deficit")
    assert {path.stem for path in report.plot(tmp_path)} == {
        "logits_ranks", "attention", "detection", "calibration", "reliability",
    }  # fmt: skip
    assert "Tiny: 0 layers" in repr(report)
    assert "Tiny: 0 layers" in str(report)


@pytest.mark.parametrize("name", ["$$", "$\\foo$", "x_{$ 5$", "漢字", "nul\0", "<b>&"])
def test_figures_and_pages_take_names_of_any_characters(name: str, tmp_path: Path) -> None:
    figure = drawn(FIGURES["calibration"])
    figure.suptitle(f"{name}, T = 1")
    figure.axes[0].set_xticks([0, 1], [name, r"$\sigma_1$"])
    save(figure, tmp_path / "figure.png")
    assert figure.axes[0].get_xticklabels()[1].get_parse_math()
    page = Page(name, [], [Section("figures", "F", pictures=[Picture(figure, name, name)])], [])
    path = write_text(tmp_path / "page.html", lambda: render(page))
    assert name in path.read_text(encoding="utf-8") or name == "<b>&"
