"""References to samples: three notations for the same samples, and one line of error that names each mistake."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.pool.pool import Pool, join_pool, remove
from adapt_infinity.pool.references import resolve
from tests.conftest import unread
from tests.pool.test_pool import arrivals, pool_of, removals

POOL = pool_of(4, 3)  # samples 0 to 3 are d1/d10 to d1/d13, 4 to 6 are d2/d20 to d2/d22


def test_a_number_and_a_source_id_refer_to_the_same_sample() -> None:
    ids = resolve(POOL, [5, "5", "d2/d21", "d1/d10"])
    assert ids.tolist() == [0, 5]
    assert ids.dtype == np.int64


def test_an_empty_list_refers_to_no_sample() -> None:
    for pool in (POOL, Pool()):
        assert resolve(pool, []).tolist() == []


def test_a_file_has_one_reference_per_line(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/keep.txt").write_text("\ufeffd1/d13\n\n  6 \r\nd2/d20", encoding="utf-8")
    assert resolve(POOL, ["@lists/keep.txt", 1], project=tmp_path).tolist() == [1, 3, 4, 6]


def test_a_removed_sample_can_still_be_named() -> None:
    assert resolve(remove(POOL, removals([2]), 2), ["d1/d12", 2]).tolist() == [2]


def test_a_source_id_may_contain_slashes() -> None:
    rows = arrivals("a", 2).assign(source_id=["train/1", "7"])
    pool = join_pool(Pool(), unread(rows), 1)
    assert resolve(pool, ["a/train/1", "a/7"]).tolist() == [0, 1]


@given(st.lists(st.integers(0, 6)), st.randoms(use_true_random=False))
def test_notations_can_be_mixed(ids: list[int], random: object) -> None:
    names = [f"d1/d1{i}" if i < 4 else f"d2/d2{i - 4}" for i in range(7)]
    listed = [random.choice([i, str(i), names[i]]) for i in ids]  # type: ignore[attr-defined]
    assert resolve(POOL, listed).tolist() == sorted(set(ids))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (7, "there is no sample 7; ids run to 6"),
        ("99", "there is no sample 99"),
        (-1, "there is no sample '-1'"),
        ("d1/nobody", "there is no sample 'd1/nobody'"),
        ("d3/d10", "there is no sample 'd3/d10'"),
        ("nobody", "there is no sample 'nobody'"),
        ("/d10", "there is no sample '/d10'"),
        ("", "there is no sample ''"),
        (True, "by its number or as source/id, got True"),
        ("@no.txt", "there is no file no.txt in the project"),
        ("@../outside.txt", "is outside the project"),
        ("@/etc/hostname", "is outside the project"),
        ("@link.txt", "is outside the project"),
        ("@nested.txt", "there is no sample '@keep.txt'"),
        ("@latin.txt", "@latin.txt is not UTF-8 text"),
    ],
)
def test_an_error_is_one_line_that_names_the_reference(tmp_path: Path, name: int | str, message: str) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "outside.txt").write_text("1")
    (project / "link.txt").symlink_to(tmp_path / "outside.txt")
    (project / "nested.txt").write_text("@keep.txt")
    (project / "latin.txt").write_bytes(b"caf\xe9/1")
    with pytest.raises(ValueError, match=rf"^subset\.must_include: .*{message}") as error:
        resolve(POOL, [0, name], key="subset.must_include", project=project)
    assert "\n" not in str(error.value)
