"""Export: intake reads an exported folder back unchanged, and a failed export leaves no files."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.export import export_samples
from adapt_infinity.intake import formats
from adapt_infinity.intake.reading import Source
from adapt_infinity.intake.records import Records
from tests.conftest import checked


@pytest.mark.parametrize("format", formats.exporters())
def test_intake_reads_every_exported_sample_back(
    format: str, toy_source: Source, pictures: Pictures, tmp_path: Path
) -> None:
    rows, _ = checked(toy_source, pictures)
    assert export_samples([rows.head(3), rows.tail(-3)], pictures, format, tmp_path / "out") == len(rows)
    (file,) = (tmp_path / "out").glob("data.json*")
    again, rejects = checked(Source("toy", format, Records(file), {}), Pictures({"toy": tmp_path / "out"}, 10_000))
    assert rejects.empty
    unchanged = ["source_id", "skill", "content_hash", "turns"]
    pd.testing.assert_frame_equal(again[unchanged].map(repr), rows[unchanged].map(repr))
    stored = list((tmp_path / "out/images").rglob("*.png"))
    assert len(stored) == len({digest for hashes in rows["picture_hashes"] for digest in hashes})


def test_ids_are_made_unique_where_two_sources_use_the_same(
    toy_source: Source, pictures: Pictures, root: Path, tmp_path: Path
) -> None:
    both = Pictures({"toy": root, "other": root}, 10_000)
    rows = [checked(replace(toy_source, name=name), both)[0].head(1) for name in ("toy", "other")]
    export_samples(rows, both, "llava", tmp_path / "out")
    again, _ = checked(Source("toy", "llava", Records(tmp_path / "out/data.json"), {}), Pictures({}, 1))
    assert again["source_id"].tolist() == ["text", "other/text"]


def test_unknown_formats_and_existing_folders_are_refused(
    toy_source: Source, pictures: Pictures, tmp_path: Path
) -> None:
    rows, _ = checked(toy_source, pictures)
    with pytest.raises(ValueError, match=r"'gqa' cannot be written; formats that can: chat, llava"):
        export_samples([rows], pictures, "gqa", tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        export_samples([rows], pictures, "llava", tmp_path / "out")


def test_a_failed_export_leaves_no_files(toy_source: Source, pictures: Pictures, tmp_path: Path) -> None:
    rows, _ = checked(toy_source, pictures)
    with pytest.raises(ValueError, match="no picture root"):
        export_samples([rows], Pictures({}, 1), "llava", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
