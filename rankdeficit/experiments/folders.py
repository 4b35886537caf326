"""Folders that are written completely or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankdeficit.experiments.runs import mend


@contextmanager
def whole_or_nothing(target: Path, name: str) -> Iterator[None]:
    """Delete the folder if the block fails. Raises ValueError for errors of writing.

    name: kind of folder, for the message.
    target: a new or empty folder; its content is deleted on failure.
    """
    existed = target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        if target.is_dir():
            clear(target)
        if target.is_dir() and not existed:
            target.rmdir()
        if not isinstance(error, OSError):
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ValueError(
            f"{name} {target} failed at {error.filename2 or error.filename} ({reason}) and was "
            f"deleted; {mend(error)}"
        ) from error


def clear(folder: Path) -> None:
    """Delete the content of a folder."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
