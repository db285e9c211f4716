"""The base class of this project's datasets: each version on disk is complete or does not exist.

Data are written under a temporary name in the same folder, flushed to disk, and renamed. Kedro loads the newest version
that exists; without the rename this could be a file that a full disk or a killed run left incomplete.
"""

import os
import shutil
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io.core import AbstractVersionedDataset, Version

from adapt_infinity.kedro_internals import load_path


class AtomicDataset(AbstractVersionedDataset[Any, Any]):
    """A versioned dataset with atomic writes; a subclass reads and writes one path, a file or a folder."""

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(PurePosixPath(filepath), version)
        self.metadata = metadata

    @abstractmethod
    def read(self, path: Path) -> Any:
        """Load the data at `path`."""

    @abstractmethod
    def write(self, data: Any, path: Path) -> None:
        """Write `data` to `path`, which does not exist yet."""

    def load(self) -> Any:
        return self.read(load_path(self))

    def save(self, data: Any) -> None:
        entry, path = Path(self._filepath), Path(self._get_save_path())
        _remove_leftovers(entry.glob(f"*/.{entry.name}.*.tmp"))  # of killed runs, which will not write them again
        with replacing(path) as temporary:
            self.write(data, temporary)

    def _exists(self) -> bool:
        return load_path(self).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; what is written there replaces `path` if the block ends without an exception."""
    with temporary_path(path) as temporary:
        yield temporary
        put_in_place(temporary, path)


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it is removed when the block ends, as are those of dead processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent.glob(f".{path.name}.*.tmp"))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a file or folder to disk and rename it to `path`, so that `path` is complete even after a power failure."""
    for file in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
        if file.is_file():
            _sync(file)
    os.replace(temporary, path)
    for folder in (path.parent, *list(path.parents)[1:4]):  # the version's, the entry's and the round's folder
        _sync(folder)


def _remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove temporary paths whose process, named in the path, does not run any more."""
    for path in list(paths):
        if not _is_running(int(path.name.split(".")[-2])):
            _remove(path)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
