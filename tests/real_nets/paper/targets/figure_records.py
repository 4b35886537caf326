"""Hand-made records of networks, and what is drawn of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rankdeficit.experiments.network_figures import during_training, when_trained
from rankdeficit.experiments.network_figures.runs import FigureRun

Row = dict[str, Any]
Draw = Callable[[Sequence[FigureRun]], Figure | None]
OF_RUNS: list[Draw] = [
    during_training.logits_norm,
    during_training.alignment_and_collapse,
    during_training.ranks_around_softmax,
    during_training.ortho_dev,
    during_training.initial_norms,
    when_trained.probe_accuracies,
    when_trained.layer_and_gradient_ranks,
    when_trained.layer_alignments,
    when_trained.rank_over_gamma,
    when_trained.trade_off,
]


def rows(temperature: float, seed: int, layers: int) -> list[Row]:
    """Measurements at epochs 0, 0.5, 1 and 2; the second has gaps."""
    found: list[Row] = [
        {
            "step": step,
            "epoch": step / 4,
            "logits_norm": temperature * (step + 2.0) + seed,
            "effective_logits_norm": step + 2.0 + seed / temperature,
            "rank": 1 + step,
            "centred_rank": step,
            "post_softmax_rank": 2 + step,
            "alignment": 0.1 * step + 0.01 * seed,
            "layer_alignments": [None] + [0.0125 * step * i for i in range(1, layers)],
            "layer_ranks": {"0.001": [*range(layers)], "0.01": [1] * layers},
            "layer_singular_values": [[5.0 * step + j for j in range(5, 0, -1)]] * layers,
            "ortho_dev": {"svhn": 0.5 - 0.01 * step, "textures": None},
        }
        for step in (0, 2, 4, 8)
    ]
    gap = found[1]
    gap["rank"], gap["alignment"], gap["layer_singular_values"] = None, float("nan"), None
    del gap["logits_norm"], gap["layer_ranks"], gap["ortho_dev"]
    return found


def layer(number: int, accuracy: float, strange: float) -> Row:
    return {
        "alignment": None if number == 1 else 0.02 * number,
        "gradient": {"rank": 60 - number},
        "input": {"rank": 70 - number},
        "probe": {"accuracy": accuracy},
        "ood_probes": {"svhn": {"accuracy": strange}},
    }


def report(temperature: float, seed: int, layers: int) -> Row:
    """Of 11 classes; the last of the layers has the best ID and the worst OOD probe."""
    logits = {"rank": 6, "rank_curve": {"0.0001": 8, "0.01": 4, "0.1": 2}}
    logits |= {"centred_rank": 5, "centred_rank_curve": {"0.0001": 7, "0.01": 3, "0.1": 1}}
    return {
        "network": {"classes": 11, "penultimate_width": 64, "neco_variant": "resnet"},
        "train": {"logits": logits},
        "layers": [
            layer(i, i / layers, (1 + 0.1 * seed) * (1 - i / (2 * layers)))
            for i in range(1, layers + 1)
        ],
        "effective_depth": {"value": (layers - 1) / layers},
        "ood_drop": {"svhn": {"value": 0.25 + 0.1 * seed}},
        "detection": {"svhn": {"neco-resnet": {"auroc": 0.7}, "vim": {"auroc": 0.9}}},
        "conditions": {"temperature": temperature, "gamma": 0.001},
    }


def run(temperature: float = 1.0, seed: int = 0, layers: int = 4, **changes: Any) -> FigureRun:
    own: Row = {
        "temperature": temperature,
        "seed": seed,
        "network": "MLP",
        "data": "CIFAR-10",
        "layers": layers,
        "rows": rows(temperature, seed, layers),
        "report": report(temperature, seed, layers),
    }
    return FigureRun(**own | changes)


def pair(**changes: Any) -> list[FigureRun]:
    """A baseline and a hot network, three seeds each."""
    return [run(T, seed, **changes) for T in (1.0, 50.0) for seed in range(3)]


def drawn(draw: Draw, runs: Sequence[FigureRun]) -> Figure:
    figure = draw(runs)
    assert figure is not None
    return figure


def lines(figure: Figure, panel: int = 0) -> dict[str, tuple[list[float], list[float]]]:
    """Line data by label."""
    return {
        str(line.get_label()): (
            np.asarray(line.get_xdata(), dtype=float).tolist(),
            np.asarray(line.get_ydata(), dtype=float).tolist(),
        )
        for line in figure.axes[panel].get_lines()
    }


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]
