"""Samples: the content hash, samples without their pictures, and tables of samples."""

import pandas as pd
import pytest

from adapt_infinity.data.sample import Sample, Turn, content_hash, samples_of


def test_without_images_the_text_is_kept() -> None:
    sample = Sample(
        7, "s", "a", "k", ("p.png", "q.png"), (Turn("user", "<image>\n<image>\nWhich?"), Turn("assistant", "one"))
    )
    text_only = sample.without_images()
    assert text_only.images == ()
    assert [turn.text for turn in text_only.turns] == ["Which?", "one"]
    assert text_only.sample_id == 7


def test_the_content_hash_depends_on_text_pictures_and_where_a_text_ends() -> None:
    turns = [{"role": "user", "text": "ab"}, {"role": "assistant", "text": "c"}]
    moved = [{"role": "user", "text": "a"}, {"role": "assistant", "text": "bc"}]
    assert content_hash(turns, []) == content_hash([dict(turn) for turn in turns], [])
    assert content_hash(turns, []) != content_hash(moved, [])
    assert content_hash(turns, []) != content_hash(turns, ["00" * 32])


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"a table of samples lacks columns: images, turns; it has sample_id"):
        samples_of(pd.DataFrame({name: [] for name in ("sample_id", "source", "source_id", "skill")}))
