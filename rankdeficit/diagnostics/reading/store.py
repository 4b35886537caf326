"""Rows that are kept for later: in memory while they are few, in files of a temporary folder beyond."""

import tempfile
from pathlib import Path
from types import TracebackType

import torch
from jaxtyping import Float
from torch import Tensor

MEMORY = 2 * 2**30
"""Bytes that all matrices of a store take in memory before they are moved to files."""


class RowStore:
    """Matrices that grow by rows, by name; read back as one tensor each, memory-mapped if in files.

    Rows keep their precision, half precision becomes float32. Use it as a context: the files go at
    its end, and tensors read from them must not be used after that.
    """

    def __init__(self, memory: int = MEMORY, folder: Path | None = None) -> None:
        self._memory, self._folder = memory, folder
        self._held = 0
        self._parts: dict[str, list[Tensor]] = {}
        self._shapes: dict[str, tuple[int, torch.dtype]] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def append(self, name: str, rows: Float[Tensor, "n width"]) -> None:
        """Add rows to the matrix of that name."""
        rows = rows.detach().cpu()
        if rows.dtype not in (torch.float32, torch.float64):
            rows = rows.float()
        width, dtype = self._shapes.setdefault(name, (rows.shape[1], rows.dtype))
        if (rows.shape[1], rows.dtype) != (width, dtype):
            raise ValueError(
                f"{name} has rows of {rows.shape[1]} values ({rows.dtype}) after rows of {width} "
                f"({dtype}); all batches must agree"
            )
        self._parts.setdefault(name, []).append(rows.clone())
        self._held += rows.numel() * rows.element_size()
        if self._held > self._memory:
            self._spill()

    def read(self, name: str) -> Float[Tensor, "n width"]:
        """All rows of that name, in the order of their arrival."""
        if self._directory is None:
            joined = torch.cat(self._parts[name])
            self._parts[name] = [joined]
            return joined
        self._spill()
        width, dtype = self._shapes[name]
        path = self._path(name)
        count = path.stat().st_size // dtype.itemsize
        return torch.from_file(str(path), False, count, dtype=dtype).reshape(-1, width)

    def __enter__(self) -> "RowStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._parts.clear()
        if self._directory is not None:
            self._directory.cleanup()

    def _spill(self) -> None:
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="rankdeficit-", dir=self._folder)
        for name, parts in self._parts.items():
            with self._path(name).open("ab") as file:
                for rows in parts:
                    rows.contiguous().numpy().tofile(file)
            parts.clear()
        self._held = 0

    def _path(self, name: str) -> Path:
        assert self._directory is not None
        number = list(self._shapes).index(name)
        return Path(self._directory.name) / f"{number}.bin"
