"""A versioned dataset whose versions are either whole or not there.

What is saved is written under a temporary name beside its place, forced to disk, and renamed. Kedro takes the newest
version that exists; without the rename, a file cut short by a full disk or a killed run would be that version.
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
    """Base of this project's datasets; a subclass reads and writes one path, a file or a folder."""

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(PurePosixPath(filepath), version)
        self.metadata = metadata

    @abstractmethod
    def read(self, path: Path) -> Any:
        """What is at `path`."""

    @abstractmethod
    def write(self, data: Any, path: Path) -> None:
        """Put `data` at `path`, which does not exist yet."""

    def load(self) -> Any:
        return self.read(load_path(self))

    def save(self, data: Any) -> None:
        place, path = Path(self._filepath), Path(self._get_save_path())
        _clear_left(place.glob(f"*/.{place.name}.*.tmp"))  # by killed runs, whose versions nobody will write again
        with replacing(path) as temporary:
            self.write(data, temporary)

    def _exists(self) -> bool:
        return load_path(self).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path whose content takes the place of `path`, durably, when the block ends well."""
    with unfinished(path) as temporary:
        yield temporary
        put(temporary, path)


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, gone when the block ends. What killed processes left there is cleared away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_left(path.parent.glob(f".{path.name}.*.tmp"))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _clear(temporary)
    try:
        yield temporary
    finally:
        _clear(temporary)


def put(temporary: Path, path: Path) -> None:
    """Force what is at `temporary` to disk and give it its name: there whole, or not at all, whatever happens."""
    for file in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
        if file.is_file():
            _sync(file)
    os.replace(temporary, path)
    for folder in (path.parent, *list(path.parents)[1:4]):  # the version's, the entry's and the round's folder
        _sync(folder)


def _clear_left(unfinished: Iterable[Path]) -> None:
    """Remove what belongs to processes that are no more."""
    for left in list(unfinished):
        if not _alive(int(left.name.split(".")[-2])):
            _clear(left)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _clear(path: Path) -> None:
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
