"""Shards: the same rows give the same bytes, rows are found by key, and other models' shards are refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from adapt_infinity.features.drift import drift
from adapt_infinity.features.shards import (
    KEY_TYPE,
    RowIndex,
    ShardRows,
    keys_of,
    read_shard,
    shard_name,
    stored_keys,
    write_shard,
)


def rows(count: int, seed: int = 0) -> ShardRows:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 8)).astype(np.float16)
    scores = {"nll": rng.random(count), "grand": rng.random(count)}
    return ShardRows(keys_of([f"{n:064x}"[::-1] for n in range(count)]), features, features[:, :3], scores)


def test_a_shard_is_read_as_it_was_written_and_always_has_the_same_bytes(tmp_path: Path) -> None:
    written = rows(5)
    for name in ("a", "b"):
        write_shard(tmp_path / name, written, "fingerprint")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    read = read_shard(tmp_path / "a", "fingerprint")
    assert read.keys.equals(written.keys)
    assert (read.features == written.features).all()
    assert (read.scores["nll"] == written.scores["nll"]).all()
    assert shard_name(written.keys) != shard_name(written.keys.slice(1))


def test_shards_of_another_model_and_damaged_shards_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", rows(3), "fingerprint")
    with pytest.raises(ValueError, match="was made by fingerprint, not by other"):
        read_shard(tmp_path / "a", "other")
    assert stored_keys(tmp_path / "a", "other") is None
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-4])
    with pytest.raises(ValueError, match="damaged"):
        read_shard(tmp_path / "a", "fingerprint")
    assert stored_keys(tmp_path / "a", "fingerprint") is None


def test_keys_are_found_in_the_first_table_that_has_them() -> None:
    a, b, c, d = (bytes([n]) * 16 for n in range(4))
    tables = [pa.array([a, b], KEY_TYPE), pa.array([], KEY_TYPE), pa.array([b, c], KEY_TYPE)]
    table, row = RowIndex(tables).find(pa.array([c, d, b, a], KEY_TYPE))
    assert table.tolist() == [2, -1, 0, 0]
    assert row.tolist() == [1, -1, 1, 0]
    assert RowIndex([]).find(pa.array([a], KEY_TYPE))[0].tolist() == [-1]


def test_drift_needs_rows_of_the_same_samples() -> None:
    with pytest.raises(ValueError, match="got 3 rows and 2 rows"):
        drift(rows(3), rows(2))


def test_drift_by_hand() -> None:
    keys = keys_of(["00" * 32, "11" * 32, "22" * 32])
    one = np.array([[1, 0], [1, 0], [1, 0]], np.float16)
    other = np.array([[1, 0], [0, 1], [-1, 0]], np.float16)
    now = ShardRows(keys, one, one, {"nll": np.array([1.0, 2.0, 3.0]), "flat": np.ones(3)})
    before = ShardRows(keys, other, one, {"nll": np.array([3.0, 2.0, 1.0]), "flat": np.ones(3)})
    assert drift(now, before) == {
        "rows": 3,
        "features, median cosine": 0,
        "features, 5th percentile of cosines": pytest.approx(-0.9),
        "embeddings, median cosine": 1,
        "embeddings, 5th percentile of cosines": 1,
        "nll, rank correlation": pytest.approx(-1),
    }
