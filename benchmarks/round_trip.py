"""Reads all records of a stream's sources, exports them, reads the export, and checks that nothing has changed.

    ADAPT_INFINITY_REALDATA=/folder python benchmarks/round_trip.py --env realdata --formats llava,chat

Intake checks every record of every split and decodes its pictures. The accepted samples are exported in each format and
read again; ids, skills and content hashes (of text and pictures) of all rows must be the same.
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
    """Print one line per split: samples, rejects by reason, repairs, and whether the export of each format is equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="realdata")
    parser.add_argument("--formats", default="llava,chat")
    options = parser.parse_args()
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
    """Read one split and print its line; returns the number of accepted samples."""
    rows, rejects = read(source, pictures)
    repaired = Counter(repair for repairs in rows["repairs"] for repair in repairs)
    equal = {name: survives(rows, pictures, source.name, name) for name in names}
    print(f"{source.name} {split}: {len(rows):,} samples, rejects {dict(Counter(rejects['reason']))}, ", end="")
    print(f"repairs {dict(repaired)}, equal after export {equal}")
    return len(rows)


def survives(rows: pd.DataFrame, pictures: Pictures, name: str, format: str) -> bool:
    """Whether the rows are equal after export and intake."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "export"
        export_samples([rows], pictures, format, exported)
        file = exported / ("data.jsonl" if getattr(formats.module(format), "JSON_LINES", False) else "data.json")
        again, rejects = read(Source(name, format, Records(file), {}), Pictures({name: exported}, 10**8))
    return rejects.empty and again[SAME].equals(rows[SAME])


def read(source: Source, pictures: Pictures) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The accepted samples and the rejected records, as tables in memory."""
    arrivals, rejects = check_records(source, pictures, PARAMS)
    return to_dataframe(arrivals), to_dataframe(rejects)


if __name__ == "__main__":
    main()
