"""The run folder: settings, metrics, checkpoints and results that survive a kill at any moment.

    settings.json     the settings; written first, never changed
    metrics.jsonl     one row per run and measurement, appended as they are made
    checkpoint.pt     the state to resume from, replaced as a whole; checkpoint.previous.pt: the last one
    environment.json  versions, device, threads, wall time, which may differ between equal runs
    summary.json      the results; the same settings give the same bytes
    *.png             figures, drawn from the files above

Files are replaced by writing aside, syncing and renaming. Rows that follow the last checkpoint are
cut off on resuming, and made again.
"""

import errno
import io
import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from rankdeficit.checks import check_output_folder
from rankdeficit.distributed import rank_and_size

CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
TEMPORARY = ".partial"
LOCK = ".lock"
PROCESSORS = Path("/proc/cpuinfo")
"""Where Linux names the processor."""


@dataclass(frozen=True)
class RunFolder:
    """A locked run folder of one program. Make it with `create` or `reopen`; both raise ValueError."""

    path: Path
    lock: FileLock
    started: float

    @classmethod
    def create(cls, path: Path, program: str, settings: dict[str, Any]) -> "RunFolder":
        """Start a folder, which must not exist or be empty."""
        check_new(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder = cls(path, _lock(path), time.monotonic())
        except OSError as error:
            raise ValueError(
                f"--out {path} cannot be written ({error.strerror or error}); "
                "name a folder that you may write to"
            ) from error
        check_new(path)
        folder.write_json("settings.json", {"program": program, "settings": settings})
        return folder

    @classmethod
    def reopen(cls, path: Path, program: str) -> tuple["RunFolder", dict[str, Any]]:
        """Open a folder to resume, with the settings it was made with."""
        if not (path / "settings.json").is_file():
            raise ValueError(
                f"--resume {path} has no settings.json; name the folder of an earlier run, "
                "or start one with --out"
            )
        folder = cls(path, _lock(path), time.monotonic())
        written = read_json(path / "settings.json")
        if not isinstance(written, dict) or written.get("program") != program:
            raise ValueError(f"--resume {path} is not a run of {program}")
        if not isinstance(written.get("settings"), dict):
            raise ValueError(f"{path / 'settings.json'} is damaged; start a new run with --out")
        return folder, written["settings"]

    def close(self) -> None:
        """Release the lock."""
        self.lock.release()

    def write_json(self, name: str, content: Any) -> None:
        """Replace a JSON file as a whole; non-finite numbers become null."""
        write_json(self.path / name, content)

    def append_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows to metrics.jsonl in one write."""
        lines = [json.dumps(_jsonable(row), allow_nan=False) + "\n" for row in rows]
        content, path = "".join(lines).encode(), self.path / "metrics.jsonl"
        with _explained(path), path.open("ab", buffering=0) as file:
            if file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by this state (tensors and plain values), and keep the one before."""
        metrics = self.path / "metrics.jsonl"
        if metrics.exists():
            with metrics.open("rb") as file:
                os.fsync(file.fileno())
        state = {"state": state, "metrics_bytes": metrics.stat().st_size if metrics.exists() else 0}
        content = io.BytesIO()
        torch.save(state, content)
        checkpoint = self.path / CHECKPOINT
        partial = _write_aside(checkpoint, content.getbuffer())
        if checkpoint.exists():
            checkpoint.replace(self.path / PREVIOUS)
        _replace(partial, checkpoint)

    def restore_checkpoint(
        self, device: torch.device | str, restore: Callable[[dict[str, Any]], None]
    ) -> bool:
        """Hand the last checkpoint's state to `restore` and cut metrics.jsonl back to it.

        False before the first checkpoint: metrics.jsonl is then empty. Raises ValueError, the
        folder unchanged, for a checkpoint that is damaged or that `restore` cannot take.
        """
        checkpoint, metrics = self.path / CHECKPOINT, self.path / "metrics.jsonl"
        if not checkpoint.exists():  # killed between two renamings
            checkpoint = self.path / PREVIOUS
        mend = "to run again from the start"
        if checkpoint.name == CHECKPOINT and (self.path / PREVIOUS).exists():
            mend = f"to go on from the one before it ({PREVIOUS})"
        size = 0
        if found := checkpoint.exists():
            saved = _load(checkpoint, device, mend)
            size = saved["metrics_bytes"]
            if (metrics.stat().st_size if metrics.exists() else 0) < size:
                raise ValueError(
                    f"{metrics} is shorter than its checkpoint says: rows were lost; "
                    f"delete {checkpoint} {mend}"
                )
            try:
                restore(saved["state"])
            except (KeyError, TypeError, RuntimeError, ValueError) as error:
                raise ValueError(
                    f"{checkpoint} does not fit its settings.json; delete it {mend}"
                ) from error
        if metrics.exists():
            os.truncate(metrics, size)
        return found

    def write_environment(self, device: torch.device | str) -> None:
        """Record versions, device, threads, and the wall time of this process."""
        device = torch.device(device)
        self.write_json(
            "environment.json",
            {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "platform": platform.platform(),
                "device": str(device),
                "device_name": device_name(device),
                "threads": torch.get_num_threads(),
                "processes": rank_and_size()[1],
                "wall_seconds_of_last_process": round(time.monotonic() - self.started, 1),
            },
        )


def device_name(device: torch.device) -> str:
    """Name of the GPU, or of the processor if the system has it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if PROCESSORS.is_file():
        found = re.search(r"^model name\s*: (.+)$", PROCESSORS.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file as a whole; non-finite numbers become null."""
    text = json.dumps(_jsonable(content), indent=1, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def read_json(path: Path) -> Any:
    """Content of a JSON file. Raises ValueError naming the file when it is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it or start a new run") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a run folder's metrics.jsonl; an incomplete last row, as after a kill, is left out.

    Raises ValueError naming a damaged line.
    """
    rows = []
    lines = (path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        damaged = f"{path / 'metrics.jsonl'}, line {number}, is damaged"
        try:
            row = json.loads(line)
        except ValueError as error:
            if not line.endswith(b"\n"):
                break
            raise ValueError(damaged) from error
        if not isinstance(row, dict):
            raise ValueError(f"{damaged}: it is not a row of names and numbers")
        rows.append(row)
    return rows


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content as a whole: a reader sees the old or the new, never a part.

    Raises ValueError for a device or pipe such as /dev/stdout, which a file would replace.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} is a device or a pipe; name a file")
    _replace(_write_aside(path, content), path)


def _write_aside(path: Path, content: bytes | memoryview) -> Path:
    """Write the content to a file beside the path and sync it to the disk; returns that file."""
    partial = path.with_name(path.name + TEMPORARY)
    with _explained(path), _removed_on_failure(partial), partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return partial


@contextmanager
def _removed_on_failure(file: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            file.unlink()
        raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors inside name the file that could not be written, and the remedy."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror}; what was written before is kept, so {mend(error)}"
        raise OSError(error.errno, reason, str(path)) from error


def mend(error: OSError) -> str:
    """The remedy for a file that could not be written."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "name a place that you may write to, or change its permissions"
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return "name another place, as something else has that name"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "make room and go on"
    return "check the disk and go on"


def _replace(partial: Path, path: Path) -> None:
    with _explained(path), _removed_on_failure(partial):
        partial.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _lock(path: Path) -> FileLock:
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"{path} is in use by another process; wait for it or stop it") from error
    return lock


def check_new(path: Path, *, resumable: bool = True) -> None:
    """Raise ValueError unless a run can be started in this folder; nothing is written to see.

    resumable: whether the error for the folder of an earlier run names --resume.
    """
    check_output_folder("--out", path)
    contents = sorted(p.name for p in path.iterdir() if not _is_scratch(p)) if path.exists() else ()
    if contents:
        resume = resumable and (path / "settings.json").is_file()
        raise ValueError(
            f"--out {path} is not empty (it has {contents[0]}); name another folder"
            + (f", or continue that run with --resume {path}" if resume else "")
        )


def _load(checkpoint: Path, device: torch.device | str, mend: str) -> dict[str, Any]:
    try:
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds, for each way in which a file is damaged
        raise ValueError(
            f"{checkpoint} cannot be read: it is damaged or no checkpoint; delete it {mend}"
        ) from error
    if not isinstance(saved, dict) or saved.keys() != {"state", "metrics_bytes"}:
        raise ValueError(
            f"{checkpoint} cannot be read: it is no checkpoint of a run; delete it {mend}"
        )
    return saved


def _is_scratch(path: Path) -> bool:
    return path.name == LOCK or path.name.endswith(TEMPORARY)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
