"""A saved dataset is complete or does not exist."""

from pathlib import Path
from typing import Any

import pytest
from kedro.io.core import Version

from adapt_infinity.datasets.atomic import AtomicDataset, replacing


class TextDataset(AtomicDataset):
    """A text file; saving the text "broken" fails after two characters."""

    def read(self, path: Path) -> str:
        return path.read_text()

    def write(self, data: Any, path: Path) -> None:
        path.write_text(data[:2])
        if data == "broken":
            raise RuntimeError("the disk is full")
        path.write_text(data)


def test_failed_write_leaves_no_version(tmp_path: Path) -> None:
    def dataset(version: str) -> TextDataset:
        return TextDataset(filepath=str(tmp_path / "words.txt"), version=Version(None, version))

    dataset("1").save("whole")
    with pytest.raises(Exception, match="the disk is full"):
        dataset("2").save("broken")
    assert TextDataset(filepath=str(tmp_path / "words.txt"), version=Version(None, None)).load() == "whole"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["words.txt"]


def test_version_cannot_be_overwritten(tmp_path: Path) -> None:
    dataset = TextDataset(filepath=str(tmp_path / "words.txt"), version=Version(None, "1"))
    dataset.save("whole")
    with pytest.raises(Exception, match="must not exist"):
        TextDataset(filepath=str(tmp_path / "words.txt"), version=Version(None, "1")).save("other")


def test_folder_is_replaced_at_once(tmp_path: Path) -> None:
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("a")
        assert not (tmp_path / "folder").exists()
    assert (tmp_path / "folder/a").read_text() == "a"
