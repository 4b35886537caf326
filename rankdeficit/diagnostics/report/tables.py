"""The tables of a report, from its record."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.records import Row

SETS_PER_TABLE = 2
"""OOD data sets that fit beside each other in the table of detection."""

Columns = dict[str, Callable[[Any], str | None]]
"""By heading, the cell of a row; None where there is nothing to say."""


def tables(record: Row) -> list[Table]:
    """One table per family of measures of which the record has any."""
    found = [data_table(record), layer_table(record)]
    if record.get("neural_collapse"):
        found.append(collapse_table(record["neural_collapse"]))
    found += detection_tables(record)
    if record.get("calibration"):
        found.append(calibration_table(record))
    return found


def data_table(record: Row) -> Table:
    """A row for the train and one for the test samples."""
    columns: Columns = {
        "data": lambda name: name,
        "samples": lambda name: str(record[name]["samples"]),
        "accuracy": lambda name: _percent(record[name]["accuracy"]),
        "loss": lambda name: _number(record[name]["loss"]),
        "rank": lambda name: rank_text(record[name]["logits"]),
        "centred": lambda name: _text(record[name]["logits"].get("centred_rank")),
        "softmax": lambda name: _text(record[name]["logits"].get("post_softmax_rank")),
        "NC": lambda name: str(records.predicted_rank(record)),
        "norm": lambda name: _number(record[name]["logits"].get("logits_norm")),
        "norm / T": lambda name: _number(record[name]["logits"].get("effective_logits_norm")),
        "stable rank": lambda name: _number(record[name]["logits"].get("stable_rank")),
    }
    caption = (
        f"Ranks at gamma = {record['conditions']['gamma']:g} of the logits, centred over classes, and "
        "after the softmax, with their range where rounding leaves it open. NC: the rank Neural Collapse "
        "predicts, min(c - 1, width)."
    )
    return _table("Logits", caption, columns, ["train", "test"])


def layer_table(record: Row) -> Table:
    """A row per layer."""
    columns: Columns = {
        "#": lambda layer: str(layer["number"]),
        "layer": lambda layer: layer["name"],
        "features": lambda layer: str(layer["features"]),
    }
    for gamma in records.shown_gammas(record):
        columns[f"rank at\n{gamma:g}"] = partial(_ranks_at, record, gamma)
    columns |= {
        "alignment": lambda layer: _with_error(
            layer.get("alignment"), layer.get("alignment_error")
        ),
        "gradient\n/ input": lambda layer: _ranks(layer.get("gradient"), layer.get("input")),
        "probe": lambda layer: _accuracy(layer.get("probe")),
    }
    for name in records.ood_sets(record):
        columns[f"{name}\nprobe"] = partial(_ood_accuracy, name)
    caption = (
        "Layers are numbered from 1, as effective depth counts them. Ranks: train / test at each gamma; "
        "of the loss gradient / of the layer's input at "
        f"gamma = {record['conditions']['gamma']:g}. Alignment with about one standard error. "
        "Accuracies of linear probes, * where the fit has not converged."
    )
    layers = [layer | {"number": i} for i, layer in enumerate(record["layers"], start=1)]
    return _table("Layers", caption, columns, layers)


def collapse_table(found: Row) -> Table:
    """One row: NC1-NC4 beside the rank and the accuracy without which they cannot be read."""
    columns: Columns = {
        "train acc.": lambda row: _percent(row.get("train_accuracy")),
        "retained rank": lambda row: f"{row['retained_rank']} of {row['predicted_rank']}",
        "NC1": lambda row: _number(row.get("nc1")),
        "tr Sw / tr Sb": lambda row: _number(row.get("within_to_between")),
        "CDNV": lambda row: _number(row.get("class_distance_variance")),
        "NC2 equinorm": lambda row: _number(row.get("equinorm")),
        "cosine gap": lambda row: _number(row.get("mean_cosine_gap")),
        "cosine std": lambda row: _number(row.get("cosine_deviation")),
        "NC3": lambda row: _number(row.get("self_duality")),
        "NC4": lambda row: _percent(row.get("nearest_centre_agreement")),
    }
    caption = (
        "NC1-NC3 are 0 and NC4 is 100% in perfect collapse; NC1 is of the retained directions."
    )
    return _table("Neural Collapse, train samples", caption, columns, [found])


def detection_tables(record: Row) -> list[Table]:
    """A row per detector, the best mean AUROC first, and one for OrthoDev; some data sets in each."""
    deviations = record.get("ortho_dev") or {}
    sets = sorted(name for name, found in records.detections(record).items() if found)
    sets = sorted({*sets, *(name for name, value in deviations.items() if value is not None)})
    default = records.default_neco(record)
    marked = default in records.detectors(record)
    caption = (
        "AUROC; FPR at 95% TPR and AUPR with ID / OOD as the positive class. OrthoDev: mean |cos| of "
        "class means and OOD mean." + (" * NECO as for this kind of network." if marked else "")
    )
    found = []
    for start in range(0, len(sets), SETS_PER_TABLE):
        own = sets[start : start + SETS_PER_TABLE]
        columns: Columns = {"detector": lambda name: name + " *" * (name == default)}
        for name in own:
            columns |= _detection_columns(name, records.detections(record).get(name, {}))
        table = _table(
            "OOD detection", caption, columns, records.detectors(record), keep_empty=True
        )
        if any(deviations.get(name) is not None for name in own):
            table.add_section()
            cells = [
                cell for name in own for cell in (_number(deviations.get(name)) or "-", "", "")
            ]
            table.add_row("OrthoDev", *cells)
        found.append(table)
    return found


def calibration_table(record: Row) -> Table:
    """A row before and one after temperature scaling."""
    found = record["calibration"]
    temperatures = {
        "before": f"{record['conditions']['temperature']:g}",
        "after": ", ".join(f"{T:.3g}" for T in found.get("temperatures") or ()),
    }
    columns: Columns = {
        "calibration": lambda name: name,
        "T": lambda name: temperatures[name],
        "NLL": lambda name: _number(found[name]["nll"]),
        "ECE": lambda name: _percent(found[name]["ece"]),
        "Brier": lambda name: _number(found[name]["brier"]),
    }
    caption = "Test samples; after: each half with the temperature fitted on the other."
    return _table("Calibration", caption, columns, ["before", "after"])


def rank_text(measures: Row) -> str:
    """A rank, with its range where rounding leaves it open."""
    low, high = measures.get("rank_interval") or (measures["rank"],) * 2
    return f"{measures['rank']}" + (f" ({low}-{high})" if low < high else "")


def _detection_columns(name: str, found: dict[str, Row]) -> Columns:
    return {
        f"{name}\nAUROC": lambda detector: (
            f"{found[detector]['auroc']:.3f}" if detector in found else None
        ),
        f"{name}\nFPR95": partial(_rates, found, "fpr"),
        f"{name}\nAUPR": partial(_rates, found, "aupr"),
    }


def _rates(found: dict[str, Row], kind: str, detector: str) -> str | None:
    if detector not in found:
        return None
    return " / ".join(f"{found[detector][f'{kind}_{side}_positive']:.3f}" for side in ("id", "ood"))


def _table(
    title: str, caption: str, columns: Columns, items: Sequence[Any], keep_empty: bool = False
) -> Table:
    """Columns of which no item has anything are left out. Names are shown as they are, not as markup."""
    table = Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAVY,
        padding=(0, 1, 0, 0),
    )
    cells = {name: [cell(item) for item in items] for name, cell in columns.items()}
    kept = {name: own for name, own in cells.items() if keep_empty or any(own)}
    for name in kept:
        words = name in ("layer", "data", "detector", "calibration")
        table.add_column(
            Text(name),
            justify="left" if words else "right",
            no_wrap=name != "layer",
            overflow="fold",
        )
    for row in zip(*kept.values(), strict=True):
        table.add_row(*_texts(row))
    return table


def _texts(cells: Iterable[str | None]) -> list[Text]:
    return [Text(cell or "-") for cell in cells]


def _ranks_at(record: Row, gamma: float, layer: Row) -> str:
    """On train and test samples."""
    if gamma == record["conditions"]["gamma"]:
        return f"{rank_text(layer['train'])}/{rank_text(layer['test'])}"
    curves = (records.rank_over_gamma(record, layer[data]) for data in ("train", "test"))
    return "/".join(_text(curve.get(gamma)) or "-" for curve in curves)


def _ranks(first: Row | None, second: Row | None) -> str | None:
    return f"{rank_text(first)}/{rank_text(second)}" if first and second else None


def _ood_accuracy(name: str, layer: Row) -> str | None:
    return _accuracy((layer.get("ood_probes") or {}).get(name))


def _accuracy(probe: Row | None) -> str | None:
    if not probe:
        return None
    return f"{probe['accuracy']:.1%}" + ("" if probe.get("converged", True) else "*")


def _with_error(value: float | None, error: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
