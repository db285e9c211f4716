"""Everything that a stream's sources hold, read, exported and read again: what comes back is what went out.

    ADAPT_INFINITY_REALDATA=/folder python benchmarks/round_trip.py --env realdata --formats llava,chat

Every record of every split is checked at intake, pictures decoded. What passes is exported in each format and taken in
again; ids, skills and content hashes (words and pictures) must be the same, row by row.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import pandas as pd

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.datasets import PicturesDataset, SourcesDataset
from adapt_infinity.export import export_samples
from adapt_infinity.intake import formats
from adapt_infinity.intake.reading import IntakeParams, Source, check_records, to_dataframe
from adapt_infinity.intake.records import Records
from adapt_infinity.session import open_session

PROJECT = Path(__file__).parents[1]
PARAMS = IntakeParams(max_text=10**6, max_reject_share=1.0, near_bits=10, on_contamination="report", workers=2)
SAME = ["source_id", "skill", "content_hash"]


def main() -> None:
    """A line a split: samples, rejects by reason, repairs, and whether each format gave all of it back."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--env", default="realdata")
    asked.add_argument("--formats", default="llava,chat")
    options = asked.parse_args()
    root, sources = open_session(PROJECT, options.env).sources()
    pictures = PicturesDataset(filepath=str(root), sources=sources, max_pixels=10**8).load()
    samples = 0
    for entry in sources:
        entry.pop("limit", None)
        for split in ("train", "test"):
            for source in SourcesDataset(filepath=str(root), sources=[entry], split=split).load():
                samples += report(source, split, pictures, options.formats.split(","))
    print(f"{samples:,} samples")


def report(source: Source, split: str, pictures: Pictures, names: list[str]) -> int:
    """Read one split, print its line, and say how many samples passed."""
    rows, rejects = read(source, pictures)
    mended = Counter(repair for repairs in rows["repairs"] for repair in repairs)
    back = {name: comes_back(rows, pictures, source.name, name) for name in names}
    print(f"{source.name} {split}: {len(rows):,} samples, rejects {dict(Counter(rejects['reason']))}, ", end="")
    print(f"mended {dict(mended)}, the same from {back}")
    return len(rows)


def comes_back(rows: pd.DataFrame, pictures: Pictures, name: str, format: str) -> bool:
    """Whether the rows are the same after export and intake."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "export"
        export_samples([rows], pictures, format, there)
        file = there / ("data.jsonl" if getattr(formats.module(format), "JSON_LINES", False) else "data.json")
        again, rejects = read(Source(name, format, Records(file), {}), Pictures({name: there}, 10**8))
    return rejects.empty and again[SAME].equals(rows[SAME])


def read(source: Source, pictures: Pictures) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What arrives and what is rejected, in memory."""
    arrivals, rejects = check_records(source, pictures, PARAMS)
    return to_dataframe(arrivals), to_dataframe(rejects)


if __name__ == "__main__":
    main()
