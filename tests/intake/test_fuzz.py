"""Fuzz: whatever has become of a file, each of its records arrives or is set aside, and nothing else happens.

A hundred thousand files are made from a few good ones by turning bytes over, leaving out, repeating and cutting off.
They are read in processes of their own, in which signatures are not checked: that would take most of the time. Some
files together are the records of one source.
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

INPUTS = 100_000
PROCESSES = 2
TOGETHER = 20  # files that make a source
ENDS = ("yields no usable sample", "more than intake.max_reject_share")  # what a source's end may say

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
    """Two lists and two files of lines: with pictures, several turns, a system prompt, several scripts, nested junk."""

    def said(*words: str) -> list[dict[str, str]]:
        return [{"from": ("human", "gpt")[place % 2], "value": one} for place, one in enumerate(words)]

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
    """One good file after one to six accidents."""
    content = bytearray(draw.choice(good))
    for _ in range(draw.choice((1, 1, 2, 3, 6))):
        at, end = sorted((draw.randrange(len(content) + 1), draw.randrange(len(content) + 1)))
        end = min(end, at + draw.choice((1, 4, 40, 400)))
        match draw.randrange(7):
            case 0:
                if at < len(content):
                    content[at] ^= 1 << draw.randrange(8)
            case 1:
                del content[at:end]
            case 2:
                content[at:at] = content[at:end]
            case 3:
                del content[end:]
            case 4:
                other = draw.choice(good)
                content[at:end] = other[draw.randrange(len(other)) :][:200]
            case 5:
                content[at:at] = draw.choice(TOKENS)
            case 6:
                content[at:end] = draw.randbytes(min(end - at, 8))
    return bytes(content)


def read_all(first: int, last: int) -> dict[str, int]:
    """Read the files numbered so; what became of their records. Anything but an expected end is an AssertionError."""
    from PIL import Image

    from adapt_infinity.data.pictures import Pictures
    from adapt_infinity.intake import reading as door
    from adapt_infinity.intake.conversation import check_conversation
    from adapt_infinity.intake.streaming_json import Unreadable, read_json, read_lines

    params = door.IntakeParams(max_text=300, max_reject_share=0.75, near_bits=10, on_contamination="report", workers=1)
    good = good_files()
    readers = (read_json, read_lines)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        Image.new("RGB", (2, 2)).save(Path(folder) / "p.png")
        pictures = Pictures({"toy": Path(folder)}, 100)
        for begin in range(first, last, TOGETHER):
            records: list[object] = []
            for number in range(begin, min(begin + TOGETHER, last)):
                draw = random.Random(number)
                content = mutated(draw, good[number % 2 :: 2])
                reader = readers[(number + (draw.random() < 0.1)) % 2]  # a few are taken for what they are not
                records += reader(BytesIO(content), size=len(content) * (begin // TOGETHER % 2))
                found["files"] += 1
            found["unreadable"] += sum(isinstance(record, Unreadable) for record in records)
            source = door.Source("toy", "llava", records, {}, duplicate_ids="number")
            arrivals, rejects = door.check_records(source, pictures, params)
            tables: list[Any] = []
            try:
                tables += arrivals
            except ValueError as error:
                if not any(end in str(error) for end in ENDS):
                    raise
                found["ends"] += 1
            arrived = [row for table in tables for row in table.to_pylist()]
            aside = [row for table in rejects for row in table.to_pylist()]
            assert len(arrived) + len(aside) == len(records), begin
            assert sorted(row["sample_id"] for row in arrived) == list(range(len(arrived))), begin
            assert len({row["source_id"] for row in arrived}) == len(arrived), begin
            for row in arrived:
                check_conversation(row["turns"], len(row["images"]), params.max_text)
            assert all(row["reason"] for row in aside), begin
            found["arrived"] += len(arrived)
            found["aside"] += len(aside)
    return dict(found)


def test_a_hundred_thousand_broken_files() -> None:
    def part(number: int) -> dict[str, int]:
        bounds = [str(INPUTS * place // PROCESSES) for place in (number, number + 1)]
        environment = {**os.environ, "TQDM_DISABLE": "1"}
        done = subprocess.run(
            [sys.executable, __file__, *bounds], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, int] = json.loads(done.stdout)
        return found

    with ThreadPoolExecutor(PROCESSES) as pool:
        found = sum((Counter(one) for one in pool.map(part, range(PROCESSES))), Counter())
    assert found["files"] == INPUTS
    assert min(found["arrived"], found["aside"], found["unreadable"]) > INPUTS // 10, found
    assert 0 < found["ends"] < INPUTS // TOGETHER, found  # some sources are good enough, some are not


if __name__ == "__main__":
    print(json.dumps(read_all(int(sys.argv[1]), int(sys.argv[2]))))
