"""`python -m simulations.gibbs`: its statements hold, and wrong values make them fail."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import rankdeficit as rd
import simulations.gibbs
from rankdeficit import gibbs
from rankdeficit.diagnostics.measures.scaling import fit_temperature
from rankdeficit.experiments.settings import Row
from simulations.gibbs import Gibbs, Settings, decay, fits, report, states, verdicts

SMALL = Settings(
    temperature=(1.0, 4.0), classes=4, samples=400, kind=("two ahead", "random"), temperatures=5,
    sigma=(1.0, 2.0), noise=(0.1, 0.3), decay=(1e-3, 4e-3, 0.2), seeds=2, device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def small() -> tuple[list[Row], Row]:
    """Rows and summary of a small run."""
    run = Gibbs().results(SMALL)
    assert run.summary is not None
    return run.rows, run.summary


def by_statement(found: list[verdicts.Verdict]) -> dict[str, verdicts.Verdict]:
    return {verdict["statement"]: verdict for verdict in found}


def test_all_statements_hold(small: tuple[list[Row], Row]) -> None:
    rows, summary = small
    found = by_statement(summary["verdicts"])
    assert [name for name, verdict in found.items() if not verdict["holds"]] == []
    assert len(found) == len(verdicts.SAMPLED) + len(verdicts.EXACTLY) + 6
    for verdict in found.values():
        assert verdict["least"] <= verdict["median"] <= verdict["largest"] <= verdict["allowed"]
    assert (
        found["dF/dT = -H"]["n"] == 2 * 5
    )  # kinds and temperatures: the seeds have the same logits
    assert found["F(q) - F(p) = T KL(q || p)"]["n"] == 2 * 5 * 2
    assert found["norm does not rise with decay"]["n"] == 2 * 2 * 2 * 2
    assert found["two factors: equal tau, equal minimum"]["n"] == 1  # 1 * 4e-3 and 4 * 1e-3
    assert len({(row["part"], row["seed"]) for row in rows}) == 8


WRONG: dict[str, tuple[str, str, float]] = {
    "best T of Gaussian clusters is 2 sigma^2": ("clusters", "temperature_error", 20),
    "gap under label noise is T ln(q / (1 - q))": ("noise", "gap_error", -20),
    "cold: p off the top <= (c - m) / m e^(-g/T)": ("states", "cold_share", 0.95),
    "NLL convex in 1/T, slope E_p z - z_y": ("clusters", "convexity_error", 1e-3),
    "two factors: minimum in tau": ("two factors", "objective", 1e-3),
    "two factors: equal tau, equal minimum": ("two factors", "objective", 1e-3),
    "two factors: decay is heating": ("two factors", "residual", 1e-2),
    "two inputs: share no temperature explains": ("linear", "residual", 1e-2),
    "Gaussian logits: rank of span, + 1 off a sphere": ("clusters", "rank", 1),
    "norm does not rise with decay": ("linear", "squared_norm", 1e6),
    "cross-entropy does not fall with decay": ("linear", "loss", -1),
}
"""A part and field of the rows, and what is added to the last row in which it stands."""


@pytest.mark.parametrize("statement", WRONG)
def test_a_wrong_value_fails_its_statement(statement: str, small: tuple[list[Row], Row]) -> None:
    part, field, added = WRONG[statement]
    rows = [dict(row) for row in small[0]]
    shared = [r for r in rows if part in (r["part"], r.get("model")) and r[field] is not None]
    if "equal" in statement:
        shared = [row for row in shared if row["decay"] == 4e-3 and row["temperature"] == 1]
    shared = [row for row in shared if row["seed"] == 0] if part == "states" else shared
    shared[-1][field] += added
    assert not by_statement(verdicts.judge(rows))[statement]["holds"]


def test_draws_follow_the_softmax() -> None:
    logits = states.logits_of("random", 5, 0)
    assert logits.mean().abs() < 1e-15
    assert logits.square().mean().item() == pytest.approx(1)
    for T in (0.5, 2.0):
        drawn = states.draw(logits, T, 20_000, torch.Generator().manual_seed(1))
        expected = 20_000 * rd.softmax(logits, T)
        chi2 = ((torch.bincount(drawn, minlength=5) - expected).square() / expected).sum()
        assert chi2 < 18.5  # 0.1 % of four degrees of freedom
        row = states.sampled(logits, T, drawn)
        values = -logits[drawn].numpy()
        assert row["sampled_energy"] == pytest.approx(values.mean())
        assert row["sampled_variance"] == pytest.approx(values.var(ddof=1))
        entropy = (row["sampled_energy"] - row["sampled_free_energy"]) / T
        assert entropy == pytest.approx(row["sampled_entropy"])


def test_clusters_have_the_fitted_temperature_of_their_logits(small: tuple[list[Row], Row]) -> None:
    size = fits.Clusters(SMALL.classes, SMALL.inputs, SMALL.samples)
    generator = torch.Generator().manual_seed(0)
    means = fits.place_means("random", size, generator)
    labels = torch.randint(4, (400,), generator=generator)
    inputs = means[labels] + torch.randn(400, 3, dtype=torch.float64, generator=generator)
    logits = gibbs.gaussian_logits(inputs, means)
    row = next(row for row in small[0] if row["part"] == "clusters")
    assert (row["seed"], row["sigma"], row["temperature"]) == (0, 1.0, 2.0)
    assert row["fitted"] == pytest.approx(fit_temperature(logits, labels))
    at_one = rd.cross_entropy(logits, labels, 2.0).item()
    assert row["losses"][fits.FACTORS.index(1.0)] == pytest.approx(at_one)
    assert row["least_loss"] <= min(row["losses"])
    circle = fits.place_means("circle", size, generator)
    torch.testing.assert_close(circle.norm(dim=1), torch.full((4,), fits.RADIUS).double())


def test_chords_tell_a_wrong_slope() -> None:
    logits = 3 * torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(30) % 4
    assert fits.loss_curve(logits, labels, 2.0)[1] == 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gibbs, "nll_slope", lambda z, y, T: 0 * z.sum() + 1 / T)
        assert fits.loss_curve(logits, labels, 2.0)[1] > 0.01


@pytest.mark.parametrize("T", [0.5, 30.0])
def test_the_gap_of_noisy_labels(T: float) -> None:
    assert fits.fit_gap(0.8, T) == pytest.approx(T * math.log(4), rel=1e-6)
    (row,) = fits.fit_noise(T, [0.2], 500, torch.Generator().manual_seed(0))
    spread = T / math.sqrt(500 * 0.16)
    assert row["gap"] - row["gap_error"] * spread == pytest.approx(row["expected_gap"])
    (row,) = fits.fit_noise(T, [1e-9], 50, torch.Generator().manual_seed(0))
    assert (row["gap"], row["gap_error"], row["fit_error"]) == (None, None, None)


def test_decay_heats_inputs_of_equal_length_only() -> None:
    for lengths, heats in (((2.0, 2.0), True), ((1.0, 3.0), False)):
        rows = [
            {"part": "decay", "model": "linear", "seed": 0, **row}
            for row in decay.linear(lengths, 2.0, [1e-3, 1e-1], 0)
        ]
        (found,) = verdicts.heating(rows)
        assert found["heats"] == heats
        assert rows[1]["heating"] > 1  # smaller weights are hotter
    T, reference = rows[1]["heating"], torch.tensor(rows[0]["margins"])
    best = np.linalg.norm(torch.tensor(rows[1]["margins"]) - reference / T)
    share = best / np.linalg.norm(rows[1]["margins"])
    assert rows[1]["residual"] == pytest.approx(share, rel=1e-5)


def test_a_run_without_optima_says_so() -> None:
    settings = replace(SMALL, sigma=(1e-4,), noise=(1e-9,), seeds=1, decay=(1e-3,))
    run = Gibbs().results(settings)
    summary = run.summary
    assert summary is not None
    assert len(report.draw(run.rows, summary).axes) == 9
    assert summary["fits"][0]["fitted"] == [None]
    assert any("no finite optimum" in sentence for sentence in report.report(summary)[1])


def test_the_page_shows_measurements_and_theory(small: tuple[list[Row], Row]) -> None:
    rows, summary = small
    panels = report.draw(rows, summary).axes[:9]
    theory = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    sigma, T = (np.array(values) for values in theory["2σ²"].get_data())
    assert T.tolist() == (2 * sigma**2).tolist()
    own = sorted((r for r in rows if r.get("model") == "two factors"), key=lambda row: row["tau"])
    ends = [own[0]["predicted_objective"], own[-1]["predicted_objective"]]
    assert theory["closed form"].get_ydata()[[0, -1]].tolist() == pytest.approx(ends)
    margins = sorted(
        (r for r in rows if r.get("model") == "linear"), key=lambda r: r["effective_decay"]
    )
    ratios = [row["margins"][1] / row["margins"][0] for row in (margins[0], margins[-1])]
    assert theory["exact"].get_ydata()[[0, -1]].tolist() == pytest.approx(ratios)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", "0"], ["temperature is 0"]),
        (["--temperature", "nan"], ["temperature is nan"]),
        (["--classes", "2"], ["classes is 2"]),
        (["--samples", "1"], ["samples is 1"]),
        (["--temperatures", "1"], ["temperatures is 1"]),
        (["--least-temperature", "-1"], ["least_temperature is -1"]),
        (["--largest-temperature", "inf"], ["largest_temperature inf"]),
        (["--kind"], ["kind is empty"]),
        (["--kind", "flat"], ["--kind"]),
        (["--sigma", "0"], ["sigma is 0.0"]),
        (["--noise", "0.5"], ["noise is (0.5,)"]),
        (["--decay", "nan"], ["decay is nan"]),
        (["--lengths", "1"], ["lengths are (1.0,)"]),
        (["--lengths", "1", "-3"], ["lengths is -3.0"]),
        (["--inputs", "1"], ["inputs is 1"]),
        (["--seeds", "0"], ["seeds is 0"]),
    ],
    ids=lambda value: " ".join(value),
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_one_line_and_leave_nothing(
    flags: list[str], words: list[str], assert_refused: Callable[..., None]
) -> None:
    assert_refused(simulations.gibbs, flags, words)
