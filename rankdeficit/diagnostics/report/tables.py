"""The tables of a report: two that every record has, and those that the measures declare."""

from rich.table import Table

from rankdeficit.diagnostics.registry import Column, Row, all_measures
from rankdeficit.diagnostics.report.cells import make_table, number, percent, text


def tables(record: Row) -> list[Table]:
    """Data sets and layers, then each measure's own tables."""
    own = [table for measure in all_measures() for table in measure.tables(record)]
    return [data_table(record), layer_table(record), *own]


def data_table(record: Row) -> Table:
    """A row for the train and one for the test samples."""
    columns = [
        Column("data", lambda row: row["name"]),
        Column("samples", lambda row: text(row["samples"])),
        Column("accuracy", lambda row: percent(row["accuracy"])),
        Column("loss", lambda row: number(row["loss"])),
    ]
    columns += [c for measure in all_measures() for c in measure.data_columns(record)]
    rows = [record[name] | {"name": name} for name in ("train", "test")]
    return make_table("Logits", columns, rows)


def layer_table(record: Row) -> Table:
    """A row per layer."""
    counted = "Layers are numbered from 1, as effective depth counts them."
    note = counted if record.get("effective_depth") else ""
    columns = [
        Column("#", lambda layer: text(layer["number"]), note),
        Column("layer", lambda layer: layer["name"]),
        Column("features", lambda layer: text(layer["features"])),
    ]
    columns += [c for measure in all_measures() for c in measure.layer_columns(record)]
    layers = [layer | {"number": i} for i, layer in enumerate(record["layers"], start=1)]
    table = make_table("Layers", columns, layers, words=2)
    if table.columns:
        table.columns[0].justify = "right"
    return table
