"""Export: samples are written to a folder in the record format of another training tool, with their pictures.

    <folder>/data.json (or data.jsonl)    the records
    <folder>/images/3f/3f2a….png          each picture once, named by the SHA-256 of its bytes

Intake reads an exported folder back with the same content hashes. The folder is written under a temporary name and
renamed when it is complete.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from adapt_infinity.data.pictures import Pictures, file_extension
from adapt_infinity.data.sample import Sample, samples_of
from adapt_infinity.intake import formats


def export_samples(blocks: Iterable[pd.DataFrame], pictures: Pictures, format: str, folder: Path) -> int:
    """Write the samples of all blocks (tables with the columns of `SAMPLE_SCHEMA`) to `folder`; returns their number.

    `ValueError` when the format has no `write` function, when `folder` exists, or when a picture cannot be read.
    """
    if format not in formats.exporters():
        raise ValueError(f"format {format!r} cannot be written; formats that can: {', '.join(formats.exporters())}")
    if folder.exists():
        raise ValueError(f"{folder} exists already; name another folder, or remove it")
    module = formats.module(format)
    lines = getattr(module, "JSON_LINES", False)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    count, used_ids = 0, set[str]()
    try:
        with (unfinished / ("data.jsonl" if lines else "data.json")).open("w", encoding="utf-8") as file:
            file.write("" if lines else "[\n")
            for block in tqdm(blocks, "exporting", unit="block", disable=None):
                for sample, hashes in zip(samples_of(block), block["picture_hashes"], strict=True):
                    renamed = _with_unique_id(sample, used_ids)
                    record = module.write(renamed, _copy_pictures(sample, list(hashes), pictures, unfinished))
                    file.write("" if lines or not count else ",\n")
                    file.write(json.dumps(record, ensure_ascii=False) + ("\n" if lines else ""))
                    count += 1
            file.write("" if lines else "\n]\n")
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return count


def _with_unique_id(sample: Sample, used_ids: set[str]) -> Sample:
    """The sample, with the id `source/id` when another source's sample in the file has the same id."""
    name = sample.source_id if sample.source_id not in used_ids else f"{sample.source}/{sample.source_id}"
    used_ids.add(name)
    return replace(sample, source_id=name)


def _copy_pictures(sample: Sample, hashes: list[str], pictures: Pictures, folder: Path) -> list[str]:
    """Write the sample's pictures below `folder`, and return their paths relative to it."""
    paths = []
    for name, digest in zip(sample.images, hashes, strict=True):
        content = pictures.read(sample.source, name)
        path = Path("images", digest[:2], digest + file_extension(content))
        if not (folder / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        paths.append(path.as_posix())
    return paths
