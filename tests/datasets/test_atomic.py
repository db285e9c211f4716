"""Saved datasets are whole or not there."""

from pathlib import Path
from typing import Any

import pytest
from kedro.io.core import Version

from adapt_infinity.datasets.atomic import AtomicDataset, replacing


class TextDataset(AtomicDataset):
    """A file of text, which breaks half-way when told to."""

    def read(self, path: Path) -> str:
        return path.read_text()

    def write(self, data: Any, path: Path) -> None:
        path.write_text(data[:2])
        if data == "broken":
            raise RuntimeError("the disk is full")
        path.write_text(data)


def test_a_broken_write_leaves_no_version(tmp_path: Path) -> None:
    def at(version: str) -> TextDataset:
        return TextDataset(filepath=str(tmp_path / "words.txt"), version=Version(None, version))

    at("1").save("whole")
    with pytest.raises(Exception, match="the disk is full"):
        at("2").save("broken")
    assert TextDataset(filepath=str(tmp_path / "words.txt"), version=Version(None, None)).load() == "whole"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["words.txt"]


def test_a_version_is_never_written_twice(tmp_path: Path) -> None:
    dataset = TextDataset(filepath=str(tmp_path / "words.txt"), version=Version(None, "1"))
    dataset.save("whole")
    with pytest.raises(Exception, match="must not exist"):
        TextDataset(filepath=str(tmp_path / "words.txt"), version=Version(None, "1")).save("other")


def test_a_folder_is_replaced_as_one(tmp_path: Path) -> None:
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("a")
        assert not (tmp_path / "folder").exists()
    assert (tmp_path / "folder/a").read_text() == "a"
