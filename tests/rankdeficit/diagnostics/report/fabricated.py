"""Hand-made records of diagnoses."""

import copy
from typing import Any

Row = dict[str, Any]
GAMMAS = ("0.0001", "0.001", "0.01", "0.03", "0.1")


def spectrum(rank: int, curve: tuple[int, ...], interval: tuple[int, int] | None = None) -> Row:
    return {
        "rank": rank,
        "rank_interval": list(interval or (rank, rank)),
        "rank_curve": dict(zip(GAMMAS, curve, strict=True)),
        "stable_rank": 1.5,
        "effective_rank": 2.5,
    }


def logits(rank: int, curve: tuple[int, ...], interval: tuple[int, int] | None = None) -> Row:
    kinds = {f"{kind}_rank": rank for kind in ("centred", "post_softmax")}
    curves = {f"{name}_curve": dict(zip(GAMMAS, curve, strict=True)) for name in kinds}
    return {
        **spectrum(rank, curve, interval),
        **kinds,
        **curves,
        "centred_rank_interval": list(interval or (rank, rank)),
        "logits_norm": 123.0,
        "effective_logits_norm": 2.46,
        "singular_values": [8.0, 4.0, 2.0, 1.0, 0.5, 1e-9],
    }


def probe(accuracy: float, converged: bool = True) -> Row:
    return {"accuracy": accuracy, "converged": converged, "gradient_norm": 1e-5}


def layer(name: str, number: int, accuracy: float, strange: float) -> Row:
    return {
        "name": name,
        "kind": "convolution",
        "features": 64,
        "train": spectrum(60 - number, (64, 60 - number, 31, 20, 7)),
        "test": spectrum(50 - number, (64, 50 - number, 29, 20, 5)),
        "alignment": 0.25 * (number + 1),
        "alignment_error": 0.0625,
        "gradient": spectrum(11 + number, (20, 11 + number, 8, 5, 3)),
        "input": spectrum(41 + number, (43, 41 + number, 40, 30, 13)),
        "probe": probe(accuracy),
        "ood_probes": {"svhn": probe(strange)},
    }


def interval(value: float, low: float, high: float) -> Row:
    return {"value": value, "interval": [low, high], "level": 0.95, "resamples": 1000}


def rates(auroc: float) -> Row:
    names = ("fpr_id_positive", "fpr_ood_positive", "aupr_id_positive", "aupr_ood_positive")
    return {"auroc": auroc} | dict(zip(names, (0.111, 0.222, 0.333, 0.444), strict=True))


def attended(name: str, heads: int) -> Row:
    values = {
        "spread": 0.5,
        "entropy": 1.5,
        "entropy_share": 0.541,
        "logits_rank": 4.0,
        "softmax_rank": 9.0,
    }
    row = {"name": name, "windows": 1, "heads": heads, "queries": 16, "keys": 16, "inputs": 8}
    for key, value in values.items():
        row |= {
            key: [value + head / 16 for head in range(heads)],
            f"{key}_range": [[0.0, 16.0]] * heads,
        }
    return row


def rank_sampling() -> Row:
    """Ranks over samples, of which the class-centred one has not settled."""
    ranks = {
        "rank": {
            "value": 3, "interval": [2, 3], "convention": "matrix", "settled_at": 3000,
            "samples_curve": {"1500": 2, "3000": 3, "6000": 3},
        },
        "centred_rank": {
            "value": 3, "interval": [3, 3], "convention": "class-centred", "settled_at": None,
            "samples_curve": {"1500": 1, "3000": 2, "6000": 3},
        },
    }  # fmt: skip
    of_classes = {"median": 1.5, "least": 1, "most": 2}
    return {
        "samples": 6000, "resamples": 100, "groups": 64, **ranks, "class_rank": of_classes,
        "balanced_rank": 3,
    }  # fmt: skip


def record() -> Row:
    """Four layers of an interpolating network with 6 classes whose logits have rank 3."""
    data = {"loss": 0.0123, "logits": logits(3, (5, 3, 2, 2, 1))}
    names = ["stem", "layer1.0.conv1", "layer1.1.conv1", "fc"]
    accuracies = zip(names, (0.5, 0.7, 0.95, 0.9), (0.2, 0.6, 0.5, 0.3), strict=True)
    return {
        "network": {
            "name": "Tiny", "layers": 4, "classes": 6, "penultimate_width": 64,
            "neco_variant": "resnet", "parameters": 1234,
        },
        "train": {"samples": 6000, "accuracy": 1.0, **data, "rank_sampling": rank_sampling()},
        "test": {"samples": 1000, "accuracy": 0.875, **copy.deepcopy(data)},
        "layers": [layer(name, i, a, b) for i, (name, a, b) in enumerate(accuracies)],
        "penultimate": {"train": spectrum(9, (9, 9, 9, 9, 9))},
        "alignment": 0.625,
        "neural_collapse": {
            "nc1": 0.0517, "retained_rank": 4, "within_to_between": 0.0617,
            "class_distance_variance": 0.0717, "equinorm": 0.0817, "mean_cosine_gap": 0.0917,
            "cosine_deviation": 0.1017, "self_duality": 0.1117,
            "nearest_centre_agreement": 0.987, "predicted_rank": 5, "train_accuracy": 1.0,
        },
        "attention": {"layers": [attended("layer1.0.attn", 3), attended("layer1.1.attn", 2)]},
        "effective_depth": interval(0.75, 0.5, 1.0),
        "ood_drop": {"svhn": interval(0.5, 0.4375, 0.5625)},
        "detection": {
            "svhn": {
                "energy": rates(0.925), "neco-resnet": rates(0.815) | {"dimension": 9},
                "vim": rates(0.7),
            },
        },
        "ortho_dev": {"svhn": 0.272},
        "calibration": {
            "before": {"nll": 2.17, "ece": 0.234, "brier": 0.345},
            "after": {"nll": 1.19, "ece": 0.056, "brier": 0.289},
            "temperatures": [6.5, 7.25],
        },
        "reliability": {
            "counts": [0, 400, 600], "confidences": [None, 0.5, 0.9], "accuracies": [None, 0.25, 1.0],
        },
        "ood_samples": {"svhn": 500},
        "notes": ["no Fishing: it was raining"],
        "conditions": {"temperature": 50.0, "gamma": 0.001, "seed": 0},
    }  # fmt: skip


def changed(name: str, value: Any) -> Row:
    """The record with another value at a path of keys."""
    altered = record()
    node: Any = altered
    *path, last = [int(key) if key.isdigit() else key for key in name.split("/")]
    for key in path:
        node = node[key]
    node[last] = value
    return altered


def large(sets: int) -> Row:
    """Fifty layers with long names, and many OOD data sets."""
    names = [f"data set {number}" for number in range(sets)]
    own = record()
    own["layers"] = [
        layer(f"encoder.layers.encoder_layer_{i}.self_attention.out_proj", i % 40, 0.9, 0.5)
        | {"ood_probes": dict.fromkeys(names, probe(0.5))}
        for i in range(50)
    ]
    own["detection"] = dict.fromkeys(names, record()["detection"]["svhn"])
    return own
