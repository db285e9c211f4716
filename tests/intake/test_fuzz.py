"""Fuzzing: of any broken file, each record is accepted or rejected, and no other error occurs.

A hundred thousand files are made from a few good ones by changing, deleting, repeating and truncating their bytes.
The quick suite reads the first two thousand. The signatures are not checked, because that would take most of the time.
Each source has the records of several files.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

INPUTS, FEW = 100_000, 2_000
PROCESSES = 2
FILES_PER_SOURCE = 20
EXPECTED_ERRORS = ("yields no usable sample", "more than intake.max_reject_share")

TOKENS = [
    b"<image>",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"null",
    b"NaN",
    b"-",
    b"1e999",
    b"\xff",
    b"\xef",
]
TOKENS += [
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\\u0000",
    b'"id"',
    b'"image"',
    b'"human"',
    b'"gpt"',
    b"../",
    b"9" * 4400,
]


def good_files() -> list[bytes]:
    """Two JSON files and two JSON Lines files: pictures, several turns, a system prompt, two scripts, nested values."""

    def said(*words: str) -> list[dict[str, str]]:
        return [{"from": ("human", "gpt")[index % 2], "value": one} for index, one in enumerate(words)]

    records = [
        {"id": "a", "conversations": said("Two plus two?", "Four.")},
        {"id": 2, "image": "p.png", "task": "t", "conversations": said("<image>\nWhat?", "Red.", "Sure?", "Yes.")},
        {"id": "c", "image": ["p.png", "p.png"], "conversations": said("<image> <image> 这是什么？", "红色 🙂")},
        {
            "id": "d",
            "conversations": [{"from": "system", "value": "Be kind."}, *said("Hi", "Hello")],
            "x": [[{}], None],
        },
    ]
    return [
        json.dumps(records, ensure_ascii=False).encode(),
        "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode(),
        json.dumps(records[1:3], indent=1).encode(),
        "\r\n".join(json.dumps(record) for record in records[:2]).encode(),
    ]


def mutated(draw: random.Random, good: list[bytes]) -> bytes:
    """A good file after one to six random changes."""
    content = bytearray(draw.choice(good))
    for _ in range(draw.choice((1, 1, 2, 3, 6))):
        start, end = sorted((draw.randrange(len(content) + 1), draw.randrange(len(content) + 1)))
        end = min(end, start + draw.choice((1, 4, 40, 400)))
        match draw.randrange(7):
            case 0:
                if start < len(content):
                    content[start] ^= 1 << draw.randrange(8)
            case 1:
                del content[start:end]
            case 2:
                content[start:start] = content[start:end]
            case 3:
                del content[end:]
            case 4:
                other = draw.choice(good)
                content[start:end] = other[draw.randrange(len(other)) :][:200]
            case 5:
                content[start:start] = draw.choice(TOKENS)
            case 6:
                content[start:end] = draw.randbytes(min(end - start, 8))
    return bytes(content)


def read_all(first: int, last: int) -> dict[str, int]:
    """Read the files with these numbers and count what became of their records. Other errors are raised."""
    from PIL import Image

    from adapt_infinity.data.pictures import Pictures
    from adapt_infinity.intake import reading
    from adapt_infinity.intake.conversation import check_conversation
    from adapt_infinity.intake.streaming_json import Unreadable, read_json, read_lines

    params = reading.IntakeParams(
        max_text=300, max_reject_share=0.75, near_bits=10, on_contamination="report", workers=1
    )
    good = good_files()
    readers = (read_json, read_lines)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        Image.new("RGB", (2, 2)).save(Path(folder) / "p.png")
        pictures = Pictures({"toy": Path(folder)}, 100)
        for begin in range(first, last, FILES_PER_SOURCE):
            records: list[object] = []
            for number in range(begin, min(begin + FILES_PER_SOURCE, last)):
                draw = random.Random(number)
                content = mutated(draw, good[number % 2 :: 2])
                reader = readers[(number + (draw.random() < 0.1)) % 2]  # a few are read as the wrong file type
                records += reader(BytesIO(content), size=len(content) * (begin // FILES_PER_SOURCE % 2))
                found["files"] += 1
            found["unreadable"] += sum(isinstance(record, Unreadable) for record in records)
            source = reading.Source("toy", "llava", records, {}, duplicate_ids="number")
            arrivals, rejects = reading.check_records(source, pictures, params)
            tables: list[Any] = []
            try:
                tables += arrivals
            except ValueError as error:
                if not any(end in str(error) for end in EXPECTED_ERRORS):
                    raise
                found["errors"] += 1
            arrived = [row for table in tables for row in table.to_pylist()]
            rejected = [row for table in rejects for row in table.to_pylist()]
            assert len(arrived) + len(rejected) == len(records), begin
            assert sorted(row["sample_id"] for row in arrived) == list(range(len(arrived))), begin
            assert len({row["source_id"] for row in arrived}) == len(arrived), begin
            for row in arrived:
                check_conversation(row["turns"], len(row["images"]), params.max_text)
            assert all(row["reason"] for row in rejected), begin
            found["arrived"] += len(arrived)
            found["rejected"] += len(rejected)
    return dict(found)


@pytest.mark.usefixtures("unchecked")
def test_two_thousand_broken_files() -> None:
    check_counts(Counter(read_all(0, FEW)), FEW)


@pytest.mark.slow
def test_a_hundred_thousand_broken_files() -> None:
    def run_part(number: int) -> dict[str, int]:
        bounds = [str(INPUTS * part // PROCESSES) for part in (number, number + 1)]
        environment = {**os.environ, "TQDM_DISABLE": "1"}
        done = subprocess.run(
            [sys.executable, __file__, *bounds], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, int] = json.loads(done.stdout)
        return found

    with ThreadPoolExecutor(PROCESSES) as pool:
        found = sum((Counter(one) for one in pool.map(run_part, range(PROCESSES))), Counter())
    check_counts(found, INPUTS)


def check_counts(found: Counter[str], inputs: int) -> None:
    assert found["files"] == inputs
    assert min(found["arrived"], found["rejected"], found["unreadable"]) > inputs // 10, found
    # some sources have enough good records, some have not
    assert 0 < found["errors"] < inputs // FILES_PER_SOURCE, found


if __name__ == "__main__":
    print(json.dumps(read_all(int(sys.argv[1]), int(sys.argv[2]))))
