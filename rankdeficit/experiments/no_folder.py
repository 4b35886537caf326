"""Replacement for a run folder in processes that write nothing."""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class NoFolder:
    """The run folder of a process that has none: what `RunFolder` writes is dropped.

    Only the first of several processes opens the folder of their common run.
    """

    def close(self) -> None:
        """There is no lock to release."""

    def write_json(self, name: str, content: Any) -> None:
        """Nothing is written."""

    def append_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Nothing is written."""

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Nothing is written."""

    def restore_checkpoint(
        self, device: torch.device | str, restore: Callable[[dict[str, Any]], None]
    ) -> bool:
        """There is no checkpoint."""
        return False

    def write_environment(self, device: torch.device | str) -> None:
        """Nothing is written."""
