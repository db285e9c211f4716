"""The pool: no sample that ever arrived is lost, and a sample id is never reused; in memory and on disk."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from kedro.io.core import DatasetError, Version

from adapt_infinity.data import parquet
from adapt_infinity.datasets import PoolDataset, atomic
from adapt_infinity.datasets import pool as on_disk
from adapt_infinity.datasets.pool import faults, quick_fault
from adapt_infinity.kedro_internals import load_path
from adapt_infinity.pool.pool import Pool, join_pool, known_ids, remove, removed_in_round, restore
from tests.conftest import examples, unread


def arrivals(source: str, count: int, first_id: int = 0, round: int = 1) -> pd.DataFrame:
    """Arrivals as intake writes them, each with a different text."""
    ids = range(first_id, first_id + count)
    return pd.DataFrame(
        {
            "sample_id": np.arange(first_id, first_id + count),
            "round": round,
            "source": source,
            "source_id": [f"{source}{number}" for number in range(count)],
            "skill": "s",
            "images": [[f"p{number}.png"] * (number % 3) for number in ids],
            "turns": [
                [{"role": "user", "text": f"{number}?"}, {"role": "assistant", "text": str(number)}] for number in ids
            ],
            "references": [[] for _ in ids],
            "content_hash": [f"{number:064x}" for number in ids],
            "question_hash": np.arange(first_id, first_id + count),
            "picture_hashes": [[f"{number:064x}"] * (number % 3) for number in ids],
            "picture_marks": [[bytes(30)] * (number % 3) for number in ids],
            "repairs": [[] for _ in ids],
        }
    )


def removals(ids: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"sample_id": pd.Series(ids, dtype="int64"), "reason": "duplicate"})


def pool_of(*counts: int) -> Pool:
    """A pool of several arrivals with the given numbers of rows."""
    pool = Pool()
    for number, count in enumerate(counts, start=1):
        pool = join_pool(pool, unread(arrivals(f"d{number}", count, pool.size, number)), number)
    return pool


@examples(40)
@given(st.lists(st.tuples(st.integers(0, 6), st.sets(st.integers(0, 40))), min_size=1, max_size=6))
def test_pool_and_ledger_together_hold_all_arrivals(rounds: list[tuple[int, set[int]]]) -> None:
    pool = Pool()
    for number, (count, removed) in enumerate(rounds, start=1):
        before = pool
        pool = join_pool(pool, unread(arrivals(f"d{number}", count, pool.size, number)), number)
        assert pool.size == before.size + count
        joined = pool
        pool = remove(pool, removals(sorted(removed & set(pool.index["sample_id"]))), number)
        assert pool.shards == joined.shards  # shards are never changed
    everything = [*pool.index["sample_id"], *pool.ledger_table["sample_id"]]
    assert sorted(everything) == list(range(sum(count for count, _ in rounds)))


def test_a_source_id_that_arrives_twice_is_refused() -> None:
    pool = pool_of(2)
    with pytest.raises(ValueError, match="2 arriving ids were already used by their source in an earlier round"):
        join_pool(pool, unread(arrivals("d1", 2, first_id=2)), 2)


def test_missing_and_unknown_columns_are_named() -> None:
    lacking = unread(arrivals("d1", 2)).to_table().drop_columns(["skill", "turns"])
    with pytest.raises(ValueError, match="the table of arrivals lacks columns: skill, turns"):
        join_pool(Pool(), ds.InMemoryDataset(lacking), 1)
    with pytest.raises(ValueError, match="the table of removed samples lacks columns: sample_id"):
        remove(pool_of(2), pd.DataFrame({"id": [0]}), 1)
    with pytest.raises(ValueError, match="the pool has no column 'kind'; its columns: sample_id, "):
        pool_of(2).fetch([0], ["kind", "skill"])


def test_two_sources_may_use_the_same_ids() -> None:
    other = arrivals("d1", 2, first_id=2).assign(source="d2")
    pool = join_pool(pool_of(2), unread(other), 2)
    assert known_ids(pool, "d1").to_pylist() == known_ids(pool, "d2").to_pylist() == ["d10", "d11"]


@pytest.mark.parametrize("first_id", [0, 1, 3])
def test_sample_ids_must_continue_those_of_the_pool(first_id: int) -> None:
    with pytest.raises(AssertionError, match="sample ids count arrivals"):
        join_pool(pool_of(2), unread(arrivals("d2", 2, first_id)), 2)


def test_only_present_samples_can_be_removed_and_only_removed_ones_restored() -> None:
    pool = remove(pool_of(3), removals([1]), 1)
    for wrong in ([1], [3], [-1]):
        with pytest.raises(ValueError, match=rf"not in the pool: \[{wrong[0]}\]"):
            remove(pool, removals(wrong), 2)
    for wrong in ([0], [3], [-1]):
        with pytest.raises(ValueError, match=rf"in the pool already, or never arrived: \[{wrong[0]}\]"):
            restore(pool, wrong, 2, "a mistake")
    with pytest.raises(ValueError, match="a sample is listed twice among those to be removed"):
        remove(pool, removals([0, 0]), 2)


def test_restorations_are_recorded_in_the_ledger() -> None:
    pool = remove(pool_of(4), removals([1, 2]), 1)
    assert removed_in_round(pool, 1).tolist() == [1, 2]
    pool = restore(pool, [2], 2, "a mistake")
    assert pool.index["sample_id"].tolist() == [0, 2, 3]
    assert removed_in_round(pool, 1).tolist() == [1]
    pool = remove(pool, removals([2]), 3)
    assert pool.index["sample_id"].tolist() == [0, 3]
    assert pool.ledger_table[["sample_id", "round", "action"]].values.tolist() == [
        [1, 1, "removed"],
        [2, 1, "removed"],
        [2, 2, "restored"],
        [2, 3, "removed"],
    ]


@examples(40)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=4), st.data())
def test_rows_are_fetched_in_any_order(counts: list[int], data: st.DataObject) -> None:
    pool = pool_of(*counts)
    asked = data.draw(st.lists(st.integers(0, pool.size - 1), max_size=30)) if pool.size else []
    fetched = pool.fetch(asked)
    assert fetched["sample_id"].to_pylist() == asked
    assert [turns[1]["text"] for turns in fetched["turns"].to_pylist()] == [str(number) for number in asked]
    some = pool.fetch(asked, ["skill", "content_hash"])
    assert some == fetched.select(["skill", "content_hash"])


@pytest.mark.parametrize("wrong", [-1, 5])
def test_an_unknown_sample_id_cannot_be_fetched(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"there is no sample {wrong}; ids run to 4"):
        pool_of(2, 3).fetch([0, wrong])


@examples(40)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.sets(st.integers(0, 36)), st.integers(1, 11))
def test_the_windows_together_are_the_rows_of_the_pool(counts: list[int], removed: set[int], size: int) -> None:
    pool = pool_of(*counts)
    pool = remove(pool, removals(sorted(removed & set(range(pool.size)))), 9)
    windows = list(pool.windows(size))
    assert all(len(window) == size for window in windows[:-1])
    found = [row for window in windows for row in window["sample_id"].tolist()]
    assert found == pool.rows()["sample_id"].tolist() == pool.index["sample_id"].tolist()
    said = [turns[1]["text"] for window in windows for turns in window["turns"]]
    assert said == [str(number) for number in found]


# ---- on disk ---------------------------------------------------------------------------------------------------------


def dataset(folder: Path, round: int, version: str | None = "now") -> PoolDataset:
    return PoolDataset(filepath=str(folder / f"round_{round}/kept_pool.json"), version=Version(version, version))


def saved(folder: Path, pool: Pool, round: int = 1) -> tuple[Path, dict[str, Any]]:
    """The folder of the pool's parts, and the version that was written."""
    made = dataset(folder, round)
    made.save(pool)
    version: dict[str, Any] = json.loads(load_path(made).read_text())
    return folder / "pool", version


def test_a_version_saved_by_another_round_is_found(tmp_path: Path) -> None:
    saved(tmp_path, pool_of(3), 1)
    assert dataset(tmp_path, 7).load().size == 3


def test_arrivals_that_have_a_file_are_linked_and_not_written_again(tmp_path: Path) -> None:
    """The file that intake wrote gets a second name among the pool's parts."""
    rows = tmp_path / "arrivals.parquet"
    parquet.write(rows, [unread(arrivals("a", 3)).to_table()])
    store, version = saved(tmp_path, join_pool(Pool(), parquet.open_table(rows), 1))
    assert (store / version["shards"][0]["file"]).samefile(rows)


def test_missing_and_altered_parts_are_found(tmp_path: Path) -> None:
    pool = remove(pool_of(40, 30), removals([1]), 2)
    store, version = saved(tmp_path, pool)
    assert list(faults(store, version)) == []
    parts = [*version["shards"], *version["ledger"]]
    assert len(parts) == 3
    for entry in parts:
        path = store / entry["file"]
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        assert "has been altered" in quick_fault(path, entry)
        with pytest.raises(Exception, match=r"pool part .* has been altered.*kedro pool verify"):
            dataset(tmp_path, 1).load()
        path.unlink()
        assert quick_fault(path, entry) == f"{entry['file']} is missing"
        with pytest.raises(Exception, match=r"pool part .* is missing"):
            dataset(tmp_path, 1).load()
        flipped = bytearray(content)
        flipped[len(content) // 3] ^= 1
        path.write_bytes(flipped)
        assert quick_fault(path, entry) == ""  # the size is right, so only reading the file finds it
        assert list(faults(store, version)) == [f"{entry['file']} has been altered: its hash is not the recorded one"]
        path.write_bytes(content)
    assert list(faults(store, version)) == []


def test_reading_a_corrupted_page_is_an_error(tmp_path: Path) -> None:
    pool = pool_of(200)
    store, version = saved(tmp_path, pool)
    (entry,) = version["shards"]
    path = store / entry["file"]
    content = path.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    expected = pool.fetch(np.arange(200))
    found = 0
    for at in range(4, len(content) - footer, 211):
        corrupted = bytearray(content)
        corrupted[at] ^= 0x10
        path.write_bytes(corrupted)
        try:
            read = dataset(tmp_path, 1).load().fetch(np.arange(200))
        except (OSError, pa.ArrowException):
            found += 1
        else:
            assert read == expected, f"byte {at} changed what is read"  # an unused byte of a page's header
    assert found > 10


class Broken(Exception):  # noqa: N818
    """Raised in the middle of a write."""


@dataclass
class Model:
    """The pool in plain Python: the ids that arrived, in order, and whether each is in the pool."""

    arrived: list[str] = field(default_factory=list)
    present: list[bool] = field(default_factory=list)
    ledger: int = 0

    def copy(self) -> "Model":
        return Model(list(self.arrived), list(self.present), self.ledger)


class PoolMachine(RuleBasedStateMachine):
    """Arrivals, removals, restorations, loads and crashes in any order never change a saved version."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp())
        self.pool, self.model = Pool(), Model()
        self.versions: list[tuple[Model, pa.Table]] = []

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def _at(self, number: int) -> PoolDataset:
        return dataset(self.folder, number + 1, f"v{number:04d}")

    def _adopt(self, pool: Pool, model: Model) -> None:
        self.pool, self.model = pool, model

    @rule(count=st.integers(0, 5))
    def join(self, count: int) -> None:
        number = len(self.pool.shards) + 1
        rows = arrivals(f"d{number}", count, self.pool.size, number)
        model = self.model.copy()
        model.arrived += rows["source_id"].tolist()
        model.present += [True] * count
        self._adopt(join_pool(self.pool, unread(rows), number), model)

    @rule(draw=st.data())
    def prune(self, draw: st.DataObject) -> None:
        self._move(draw, True)

    @rule(draw=st.data())
    def restore_samples(self, draw: st.DataObject) -> None:
        self._move(draw, False)

    def _move(self, draw: st.DataObject, removing: bool) -> None:
        candidates = [number for number, present in enumerate(self.model.present) if present == removing]
        ids = sorted(draw.draw(st.sets(st.sampled_from(candidates)))) if candidates else []
        model = self.model.copy()
        for number in ids:
            model.present[number] = not removing
        model.ledger += len(ids)
        round = len(self.pool.shards)
        moved = remove(self.pool, removals(ids), round) if removing else restore(self.pool, ids, round, "why not")
        self._adopt(moved, model)

    @rule()
    def save(self) -> None:
        self._at(len(self.versions)).save(self.pool)
        self.versions.append((self.model, self.pool.fetch(np.arange(self.pool.size))))

    @rule(after=st.integers(0, 4))
    def save_and_break(self, after: int) -> None:
        """A write that fails in the middle leaves no version, and earlier versions stay as they were."""
        patch = pytest.MonkeyPatch()
        left = [after]

        def failing(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Broken
            return original(*arguments, **options)

        original = atomic.put_in_place
        patch.setattr(on_disk, "put_in_place", failing)
        at = self._at(len(self.versions))
        try:
            at.save(self.pool)
        except (Broken, DatasetError):
            assert not at._exists()
        else:
            self.versions.append((self.model, self.pool.fetch(np.arange(self.pool.size))))
        finally:
            patch.undo()

    @precondition(lambda self: self.versions)
    @rule(draw=st.data())
    def load(self, draw: st.DataObject) -> None:
        """Continue from any version, as a new round does; an old version starts a different history."""
        number = draw.draw(st.integers(0, len(self.versions) - 1))
        self._adopt(self._at(number).load(), self.versions[number][0].copy())

    @invariant()
    def the_pool_equals_the_model(self) -> None:
        pool, model = self.pool, self.model
        assert pool.arrived["sample_id"].tolist() == list(range(len(model.arrived)))
        assert pool.present.tolist() == model.present
        assert len(pool) == sum(model.present) == len(pool.index)
        assert len(pool.ledger_table) == model.ledger
        last = pool.ledger_table.groupby("sample_id")["action"].last()
        gone = set(last.index[last == "removed"])
        assert sorted([*pool.index["sample_id"], *gone]) == list(range(len(model.arrived)))

    @invariant()
    def saved_versions_do_not_change(self) -> None:
        for number in {len(self.versions) - 1, len(self.versions) // 2, 0} if self.versions else ():
            model, rows = self.versions[number]
            loaded = self._at(number).load()
            assert loaded.fetch(np.arange(loaded.size)) == rows
            assert rows["source_id"].to_pylist() == model.arrived
            assert loaded.present.tolist() == model.present

    @invariant()
    def no_temporary_file_remains(self) -> None:
        assert not list(self.folder.rglob("*.tmp"))


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = examples(20, stateful_step_count=12)


def test_the_head_of_a_table_is_its_first_rows(tmp_path: Path) -> None:
    """From a file and from memory; the whole table when it is shorter."""
    table = pa.table({"number": range(50_000)})
    parquet.write(tmp_path / "numbers.parquet", [table])
    for opened in (parquet.open_table(tmp_path / "numbers.parquet"), ds.InMemoryDataset(table)):
        for rows in (1, 100, parquet.ROW_GROUP + 1, 60_000):
            assert parquet.head(opened, rows).equals(table.slice(0, rows))
