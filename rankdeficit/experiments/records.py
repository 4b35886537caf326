"""Records of finished and unfinished runs, read from their folders: `load_run`, and `summary.csv`."""

import csv
import importlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from rankdeficit.checks import as_path, path_errors
from rankdeficit.experiments.runs import (
    RunFolder,
    read_json,
    read_rows,
    write_atomically,
)
from rankdeficit.experiments.settings import Row
from rankdeficit.experiments.tables import report_text

UNITS = ("runs", "cells", "curves", "verdicts")
"""Lists of a summary with a record per run, cell of runs, curve or statement; the first one counts."""


@dataclass(frozen=True)
class Run:
    """What a run folder holds; `pandas.DataFrame(run.rows)` and `pandas.DataFrame(run.runs)` take it."""

    path: Path
    program: str
    """The command that made it."""
    settings: Row
    rows: list[Row]
    """Measurements so far. Where each network has a folder of its own, `folder` names it."""
    summary: Row | None
    """Content of `summary.json`; None while the run is unfinished."""

    @property
    def runs(self) -> list[Row]:
        """A record per run, or per cell or curve where the summary has those. Empty while unfinished."""
        return [] if self.summary is None else units(self.summary)

    def report(self) -> str:
        """The table and the sentences that the command printed.

        Raises ValueError for an unfinished run, and for a program that prints no report.
        """
        if self.summary is None:
            raise ValueError(f"{self.path} has no summary.json; finish the run with --resume")
        reporting = _reporting(self.program)
        try:
            return report_text(*reporting(self.summary))
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path / 'summary.json'} is not a summary of {self.program} ({error!r}); restore "
                "it or run again"
            ) from error


def load_run(folder: Path | str) -> Run:
    """The settings, rows and summary of a run folder of a simulation, a training or a watch.

    Raises ValueError, naming the file, for a folder that is none and for damaged files.
    """
    path = as_path("folder", folder)
    with path_errors("folder", path, "read"):
        if not (path / "settings.json").is_file():
            raise ValueError(f"folder {path} has no settings.json; name the folder of a run")
        written = read_json(path / "settings.json")
        kinds = {"program": str, "settings": dict}
        if not isinstance(written, dict) or not all(
            isinstance(written.get(name), kind) for name, kind in kinds.items()
        ):
            raise ValueError(
                f"{path / 'settings.json'} is not that of a run; name the folder of a run"
            )
        finished = (path / "summary.json").is_file()
        summary = read_json(path / "summary.json") if finished else None
        if finished and not _is_summary(summary):
            raise ValueError(f"{path / 'summary.json'} is damaged; restore it or run again")
        return Run(path, written["program"], written["settings"], list(_rows(path)), summary)


def _is_summary(summary: Any) -> bool:
    """Whether `units` can read it."""
    if not isinstance(summary, dict):
        return False
    records = next((summary[name] for name in UNITS if name in summary), [summary])
    folders = summary.get("folders", records)
    lists = isinstance(records, list) and isinstance(folders, list)
    return lists and len(records) == len(folders) and all(isinstance(own, dict) for own in records)


def units(summary: Row) -> list[Row]:
    """The records of a summary; with the name of the `folder` of each, where it has one."""
    records = next((summary[name] for name in UNITS if name in summary), [summary])
    folders = summary.get("folders")
    if folders is None:
        return [dict(own) for own in records]
    return [{"folder": name, **own} for name, own in zip(folders, records, strict=True)]


def write_summary(folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """Replace `summary.json`, and beside it `summary.csv`: a line per record of `units`.

    A mapping has a column per number, `rank_curve.0.001`; lists are in `summary.json` alone.
    """
    folder.write_json("summary.json", summary)
    text = csv_text(units(read_json(folder.path / "summary.json")))
    if text:
        write_atomically(folder.path / "summary.csv", text.encode())


def csv_text(records: Sequence[Row]) -> str:
    """The single values of records, under dotted names; empty where there are none."""
    lines = [dict(_single(own)) for own in records]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    if not columns:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _single(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _single(value, f"{prefix}{name}.")
        elif not isinstance(value, list | tuple):
            yield f"{prefix}{name}", value


def _rows(path: Path) -> Iterator[Row]:
    """Rows of the folder, or of those in it."""
    if (path / "metrics.jsonl").is_file():
        yield from read_rows(path)
        return
    for inner in sorted(path.glob("*/metrics.jsonl")):
        for row in read_rows(inner.parent):
            yield {"folder": inner.parent.name, **row}


def _reporting(program: str) -> Callable[[Row], tuple[Table, Sequence[str]]]:
    """The program's function that turns a summary into a table and sentences."""
    none = f"{program} prints no report of its runs; read their rows and summary"
    try:
        module = importlib.import_module(program)
    except ModuleNotFoundError as error:
        raise ValueError(f"{none} ({error})") from error
    kinds = [
        own
        for own in vars(module).values()
        if isinstance(own, type) and vars(own).get("program") == program
    ]
    if not kinds and not hasattr(module, "report"):
        raise ValueError(none)
    found: Callable[[Row], tuple[Table, Sequence[str]]] = (kinds[0]() if kinds else module).report
    return found
