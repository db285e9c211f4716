"""Reading records from files: of any file, what can be read is read, and what cannot be read is reported."""

import gzip
import io
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.intake import streaming_json
from adapt_infinity.intake.records import Records, file_type, files, join_records, read_file
from adapt_infinity.intake.streaming_json import Unreadable, read_json, read_lines

DEEP = "[" * 100_000
THREE = [{"id": 1, "says": 'a "quoted" word, a \\ and a ]'}, {"id": 2, "in": [[], {}, [None, True]]}, {"id": 3.5e-7}]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
SPACES = st.sampled_from([None, 0, 3])


def as_json(content: bytes | str, list_key: str = "", by_key: bool = False) -> list[Any]:
    encoded = content.encode() if isinstance(content, str) else content
    return list(read_json(io.BytesIO(encoded), list_key, by_key, len(encoded)))


def as_lines(content: bytes | str) -> list[Any]:
    return list(read_lines(io.BytesIO(content.encode() if isinstance(content, str) else content)))


@pytest.fixture(params=[1, 3, 7, 64, 1 << 18])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Windows smaller than a record, a word and a character, and one larger than the file."""
    monkeypatch.setattr(streaming_json, "CHUNK", request.param)
    return int(request.param)


# ---- JSON ------------------------------------------------------------------------------------------------------------


@given(st.lists(ANYTHING, max_size=5), SPACES, st.booleans(), st.sampled_from([1, 2, 5, 40, 1000]))
def test_written_records_are_read_back_through_any_window(
    written: list[Any], indent: int | None, escaped: bool, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming_json, "CHUNK", chunk)
        assert as_json(json.dumps(written, indent=indent, ensure_ascii=escaped)) == written
        entries = {str(index): value for index, value in enumerate(written)}
        keyed = [{"key": key, "value": value} for key, value in entries.items()]
        assert as_json(json.dumps(entries, indent=indent), by_key=True) == keyed
        wrapped = {"info": {"data": [0]}, "n": 12, "data": written, "after": 1}
        assert as_json(json.dumps(wrapped, indent=indent), list_key="data") == written


@pytest.mark.parametrize("indent", [None, 1])
def test_a_truncated_list_gives_its_beginning_and_one_unreadable_record(chunk: int, indent: int | None) -> None:
    whole = json.dumps(THREE, indent=indent, ensure_ascii=False).encode()
    for length in range(len(whole)):
        *read, last = as_json(whole[:length])
        assert read == THREE[: len(read)]
        assert isinstance(last, Unreadable)
        assert 0 <= last.lost_share <= 1
    assert as_json(whole) == THREE


def test_a_syntax_error_reports_the_share_of_the_file_that_is_lost(chunk: int) -> None:
    """Here the error is in the middle of the file."""
    half = json.dumps([{"n": number} for number in range(5000)])
    *read, last = as_json(half[:-1] + ", !" + " " * (len(half) - 2))
    assert len(read) == 5000
    assert last.lost_share == pytest.approx(0.5, abs=0.01)
    assert last.reason == "not JSON: Expecting value"
    assert last.raw.startswith("!")


def test_a_byte_order_mark_is_skipped(tmp_path: Path, chunk: int) -> None:
    marked = b"\xef\xbb\xbf" + json.dumps(THREE).encode()
    assert as_json(marked) == THREE
    assert as_lines(b"\xef\xbb\xbf" + b'{"id": 1}\n2') == [{"id": 1}, 2]
    (tmp_path / "a.json").write_bytes(marked)
    (tmp_path / "b.json").write_bytes(marked[3:])
    assert [Records(tmp_path / name).has_byte_order_mark for name in ("a.json", "b.json")] == [True, False]
    assert Records(tmp_path).has_byte_order_mark


def test_bytes_that_are_not_utf8_spoil_only_their_own_record(chunk: int) -> None:
    one, two, three = as_json(b'["one", "t\xff\xfew\xc3", "three"]')
    assert (one, three) == ("one", "three")
    with pytest.raises(UnicodeEncodeError):
        two.encode()
    _, bad, _ = as_lines(b'"one"\n"t\xffo"\n"three"')
    assert bad.reason == "the line is not UTF-8: invalid start byte"
    assert bad.raw == '"t\ufffdo"\n'


def test_nan_and_infinity_are_read(chunk: int) -> None:
    """The record's format decides whether it may hold them."""
    assert pd.isna(as_json("[NaN]")[0])
    assert as_json("[Infinity, -Infinity, 1]") == [float("inf"), float("-inf"), 1]


def test_numbers_are_read_with_all_digits(chunk: int) -> None:
    assert as_json("[12345678901234567890, -1.25e-7, 0, 1E5]") == [12345678901234567890, -1.25e-7, 0, 1e5]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (DEEP, "not JSON: maximum recursion depth exceeded"),
        ('{"a":' * 100_000, "not JSON: maximum recursion depth exceeded"),
        ("9" * 5000, "not JSON: Exceeds the limit"),
        ("{'a': 1}", "not JSON: Expecting property name"),
        ("1 2", "expected ',', found '2'"),
        ('"a\nb"', "not JSON: Invalid control character"),
        ("tru", "Expecting value"),
        ("", "Expecting value"),
    ],
)
def test_a_syntax_error_ends_the_list_with_its_reason(bad: str, reason: str) -> None:
    first, last = [one for one in as_json(f'["first", {bad}, "the last of them"]') if one != 1]
    assert first == "first"
    assert reason in last.reason
    assert len(last.raw) <= streaming_json.MAX_RAW


@pytest.mark.parametrize(
    ("content", "list_key", "by_key", "reason"),
    [
        ("", "", False, "the file is not a list of records"),
        ("  \n", "", False, "the file is not a list of records"),
        ("{}", "", False, "the file is not a list of records"),
        ("[]", "", True, "the file is not an object of records"),
        ("7", "data", False, "the file is not an object with 'data'"),
        ("{}", "data", False, "the file has no list under 'data'"),
        ('{"other": [1], "data": 2}', "data", False, "the file has no list under 'data'"),
        ("{1: 2}", "", True, "a key is not text"),
        ('{"a" 2}', "", True, "expected ':', found '2'"),
    ],
)
def test_a_document_of_another_kind_is_reported(
    content: str, list_key: str, by_key: bool, reason: str, chunk: int
) -> None:
    (last,) = as_json(content, list_key, by_key)
    assert last.reason == reason


def test_a_long_record_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "word " * 2_000_000
    assert as_json(json.dumps(["first", long, "last"])) == ["first", long, "last"]
    assert as_lines(json.dumps(long) + "\n1") == [long, 1]
    monkeypatch.setattr(streaming_json, "MAX_RECORD", 1 << 20)
    first, last = as_json(json.dumps(["first", long, "last"]))
    assert first == "first"
    assert last.reason == "a record is longer than 1048576 characters"


# ---- JSON Lines ------------------------------------------------------------------------------------------------------


def test_a_bad_line_is_one_unreadable_record_and_the_next_line_is_read() -> None:
    lines = ['{"id": 1}', "", "not json", "   ", '{"id": 2', DEEP, "9" * 5000, '{"id": 3}']
    for ending in ("\n", "\r\n"):
        first, words, incomplete, deep, long, last = as_lines(ending.join(lines))
        assert (first, last) == ({"id": 1}, {"id": 3})
        assert words == Unreadable(
            "the line is not JSON: Expecting value: line 1 column 1 (char 0)", "not json" + ending
        )
        assert incomplete.reason.startswith("the line is not JSON: Expecting ',' delimiter")
        assert deep.reason.startswith("the line is not JSON: maximum recursion depth exceeded")
        assert "Exceeds the limit" in long.reason
        assert {one.lost_share for one in (words, incomplete, deep, long)} == {0}


@given(st.lists(ANYTHING, max_size=6))
def test_lines_are_read_back(written: list[Any]) -> None:
    assert as_lines("\n".join(json.dumps(one) for one in written)) == written


# ---- compressed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json.gz", ".jsonl.gz"])
def test_a_damaged_compressed_file_gives_its_beginning(tmp_path: Path, suffix: str) -> None:
    draw = random.Random(0)
    written = [{"n": number, "noise": draw.getrandbits(400)} for number in range(2000)]
    content = json.dumps(written) if suffix == ".json.gz" else "\n".join(map(json.dumps, written))
    whole = gzip.compress(content.encode())
    file = tmp_path / f"a{suffix}"
    file.write_bytes(whole)
    assert list(read_file(file)) == written
    no_block = whole[:10] + b"\x07" + whole[11:]
    with pytest.raises(zlib.error):
        gzip.decompress(no_block)
    for broken in (whole[: len(whole) // 2], whole[:-4], no_block, b"no gzip", whole[:5]):
        file.write_bytes(broken)
        *read, last = read_file(file)
        good = [one for one in read if not isinstance(one, Unreadable)]
        assert good == written[: len(good)]
        assert len(good) >= len(read) - 1  # the line at the damaged place is a second unreadable record
        assert isinstance(last, Unreadable)
    for seed in range(30):
        corrupted = bytearray(whole)
        corrupted[random.Random(seed).randrange(20, len(whole) - 8)] ^= 0x55
        file.write_bytes(corrupted)
        assert any(isinstance(one, Unreadable) for one in read_file(file)), seed


def test_the_lost_share_of_a_compressed_file_is_of_its_compressed_size(tmp_path: Path) -> None:
    draw = random.Random(0)
    halves = [",".join(str(draw.getrandbits(300)) for _ in range(20_000)) for _ in range(2)]
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(f"[{halves[0]} ! {halves[1]}]".encode()))
    *read, last = read_file(tmp_path / "a.json.gz")
    assert len(read) == 20_000
    assert last.lost_share == pytest.approx(0.5, abs=0.05)


# ---- Parquet and Arrow -----------------------------------------------------------------------------------------------

ROWS = [
    {"id": number, "image": {"bytes": b"\x89", "path": None}, "said": ["a", "b"][: number % 3]} for number in range(600)
]


def to_parquet(file: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), file, row_group_size=250)


def to_stream(file: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(str(file), table.schema) as writer:
        writer.write_table(table, max_chunksize=300)


def to_file(file: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table, max_chunksize=300)


@pytest.mark.parametrize(("name", "write"), [("a.parquet", to_parquet), ("a.arrow", to_stream), ("b.arrow", to_file)])
def test_rows_of_parquet_and_arrow_files_are_records(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    file = tmp_path / name
    write(file)
    assert list(read_file(file)) == ROWS
    whole = file.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        read = list(read_file(file))
        good = [one for one in read if not isinstance(one, Unreadable)]
        assert good == ROWS[: len(good)]
        if len(good) < len(ROWS):
            assert read[-1].lost_share == 1
            assert "is truncated" in read[-1].reason


# ---- where the files are ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "b.jsonl").write_text("3\n4")
    (tmp_path / "a.json").write_text("[1, 2]")
    (tmp_path / "in/c.json.gz").write_bytes(gzip.compress(b"[5]"))
    (tmp_path / "in/d.ndjson").write_text("6")
    (tmp_path / "README.md").write_text("no records")
    (tmp_path / "z.json").mkdir()
    return tmp_path


def test_a_folder_and_a_glob_are_read_in_the_order_of_file_names(folder: Path) -> None:
    assert list(Records(folder)) == [1, 2, 3, 4, 5, 6]
    assert list(Records(folder / "*.json*")) == [1, 2, 3, 4]
    assert list(Records(folder / "in" / "?.json.gz")) == [5]
    assert list(Records(folder / "a.json")) == [1, 2]
    assert [file.name for file in files(folder)] == ["a.json", "b.jsonl", "c.json.gz", "d.ndjson"]
    assert [file_type(Path(name)) for name in ("a.json.gz", "b.parquet", "c")] == [".json", ".parquet", ""]


def test_a_missing_file_is_an_error_that_names_it(folder: Path) -> None:
    for name in ("gone.json", "*.arrow", "z.json"):
        with pytest.raises(ValueError, match="there is no file"):
            list(Records(folder / name))


def test_records_can_be_read_several_times_and_up_to_a_limit(folder: Path) -> None:
    some = Records(folder, limit=3)
    assert list(some) == list(some) == [1, 2, 3]
    assert list(Records(folder, limit=0)) == []


def test_a_broken_file_does_not_affect_the_others(folder: Path) -> None:
    (folder / "a.json").write_text("[1, 2")
    one, broken, *others = Records(folder)
    assert one == 1
    assert isinstance(broken, Unreadable) or broken == 2
    assert others[-4:] == [3, 4, 5, 6]


def test_joined_records_keep_their_own_fields(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"id": 1, "x": "own"}, {"id": 2}, {"id": 3}, {"id": [1]}, {}, "word"]')
    (tmp_path / "b.json").write_text(
        '{"info": 0, "rows": [{"id": 1, "x": 0, "y": 1}, {"id": 2, "y": 2}, {"id": []}, 7, {}]}'
    )
    both = Records(tmp_path / "a.json", join=tmp_path / "b.json", join_list_key="rows", join_on="id")
    assert list(both) == [{"id": 1, "x": "own", "y": 1}, {"id": 2, "y": 2}, {"id": 3}, {"id": [1]}, {}, "word"]
    unreadable = Unreadable("why", "raw")
    assert list(join_records(iter([unreadable]), iter([unreadable]), "id")) == [unreadable]


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.json", "a.jsonl", *(pytest.param(n, marks=pytest.mark.slow) for n in ("a.json.gz", "keyed.json"))]
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    """40 MB of records are read with less than 8 MB of memory."""
    count, words = 2000, "x" * 20_000
    one = json.dumps({"words": words})
    match name:
        case "a.jsonl":
            content = "\n".join([one] * count)
        case "keyed.json":
            content = "{" + ",".join(f'"{number}": {one}' for number in range(count)) + "}"
        case _:
            content = "[" + ",".join([one] * count) + "]"
    encoded = content.encode()
    assert len(encoded) > 40e6
    file = tmp_path / name
    file.write_bytes(gzip.compress(encoded, 1) if name.endswith("gz") else encoded)
    del content, encoded
    tracemalloc.start()
    try:
        read = sum(1 for _ in read_file(file, by_key=name == "keyed.json"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read == count
    assert peak < 8e6, f"{peak / 1e6:.1f} MB"
