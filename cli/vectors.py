"""Writes vectors row by row into a `.npy` file of unknown length, in constant memory.

The file appears under its name only when it is complete.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from engine.datatypes import DIMENSIONS, Vectors
from engine.errors import StorageError


class VectorFile:
    """An open `.npy` file that grows."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb+")
        self.rows = 0
        self._write_header()

    def append(self, vectors: Vectors) -> None:
        """Add rows at the end."""
        self._file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        self.rows += len(vectors)

    def close(self) -> None:
        """Write the true number of rows into the header; numpy leaves room there for its digits."""
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close without finishing."""
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, DIMENSIONS)}
        np.lib.format.write_array_header_1_0(self._file, header)


@contextmanager
def vector_file(target: Path) -> Iterator[VectorFile]:
    """Open a file that is moved to `target` when the block ends well, and removed when it does not."""
    if target.is_dir() or not target.parent.is_dir():
        raise StorageError(
            f"cannot write {target}: {'it is a folder' if target.is_dir() else f'there is no folder {target.parent}'}"
        )
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    file = VectorFile(part)
    try:
        yield file
        file.close()
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    finally:
        file.abandon()
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
