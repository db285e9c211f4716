"""Samples out of the pool, into a folder that other tools train from: records in their format, pictures beside them.

    <folder>/data.json (or data.jsonl)    the records
    <folder>/images/3f/3f2a….png          each picture once, under the hash of its bytes

What is exported comes back through intake with the same content hashes. The folder appears when it is whole.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from adapt_infinity.data.pictures import Pictures, suffix
from adapt_infinity.data.sample import Sample, samples_of
from adapt_infinity.intake import formats


def export_samples(blocks: Iterable[pd.DataFrame], pictures: Pictures, format: str, folder: Path) -> int:
    """Write the samples of the blocks (rows of sample.ROWS) below `folder`, which must not exist; returns how many."""
    if format not in formats.exporters():
        raise ValueError(f"format {format!r} cannot be written; those that can: {', '.join(formats.exporters())}")
    if folder.exists():
        raise ValueError(f"{folder} is there already; give another folder, or remove it")
    form = formats.module(format)
    lines = getattr(form, "LINES", False)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    count, used = 0, set[str]()
    try:
        with (unfinished / ("data.jsonl" if lines else "data.json")).open("w", encoding="utf-8") as file:
            file.write("" if lines else "[\n")
            for block in tqdm(blocks, "exporting", unit="block", disable=None):
                for sample, hashes in zip(samples_of(block), block["picture_hashes"], strict=True):
                    own = _named(sample, used)
                    record = form.write(own, _copy(own, list(hashes), pictures, unfinished))
                    file.write("" if lines or not count else ",\n")
                    file.write(json.dumps(record, ensure_ascii=False) + ("\n" if lines else ""))
                    count += 1
            file.write("" if lines else "\n]\n")
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return count


def _named(sample: Sample, used: set[str]) -> Sample:
    """The sample, under `source/id` where another source's sample has its id already: ids are unique in a file."""
    name = sample.source_id if sample.source_id not in used else f"{sample.source}/{sample.source_id}"
    used.add(name)
    return Sample(sample.sample_id, sample.source, name, sample.skill, sample.images, sample.turns)


def _copy(sample: Sample, hashes: list[str], pictures: Pictures, folder: Path) -> list[str]:
    """The sample's pictures put below `folder`, and their paths there."""
    paths = []
    for name, digest in zip(sample.images, hashes, strict=True):
        content = pictures.read(sample.source, name)
        path = Path("images", digest[:2], digest + suffix(content))
        if not (folder / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        paths.append(path.as_posix())
    return paths
