"""References: a user names samples by number, as source/id, or in a text file with one of these per line.

    17                     the sample with this number (42 and "42" are the same)
    charts/a-17            the sample with the id a-17 in the source `charts`
    @lists/keep.txt        every sample that the file names; its path is relative to the project folder and stays in it

A reference may name any sample that ever arrived, also one that is not in the pool now: the caller decides what to do
with these.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from jaxtyping import Int64

from adapt_infinity.pool.pool import Pool

FILE_PREFIX = "@"


def resolve(
    pool: Pool, listed: Sequence[int | str], *, key: str = "", project: Path = Path()
) -> Int64[np.ndarray, " samples"]:
    """The ids of the samples that `listed` names, ascending and without repetition.

    Only the ids of the sources that are named are read from the pool. `ValueError` of one line for a reference to no
    sample, a missing file, and a file outside `project`; it begins with `key`, the parameter that holds the list.
    """
    try:
        return _ids(pool, list(_entries(listed, project)))
    except ValueError as error:
        raise ValueError(f"{key}: {error}" if key else str(error)) from None


def _entries(listed: Sequence[int | str], project: Path) -> Iterator[int | str]:
    """The listed references, each file replaced by its lines."""
    for entry in listed:
        if isinstance(entry, str) and entry.startswith(FILE_PREFIX):
            yield from _lines(entry.removeprefix(FILE_PREFIX), project)
        else:
            yield entry


def _lines(name: str, project: Path) -> list[str]:
    """The lines of a file, stripped of white space; empty lines are skipped."""
    root = project.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ValueError(f"{FILE_PREFIX}{name} is outside the project; lists of samples must lie inside it")
    if not path.is_file():
        raise ValueError(f"there is no file {name} in the project, which {FILE_PREFIX}{name} refers to")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{FILE_PREFIX}{name} is not UTF-8 text") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _ids(pool: Pool, entries: Sequence[int | str]) -> Int64[np.ndarray, " samples"]:
    numbers: list[int] = []
    ids_by_source: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if isinstance(entry, bool):  # YAML's `yes` and `on`; a bool is an int in Python
            raise ValueError(f"a sample must be named by its number or as source/id, got {entry!r}")
        name = str(entry)
        if name.isdecimal():
            numbers.append(int(name))
            continue
        source, _, source_id = name.partition("/")
        if not (source and source_id):
            raise ValueError(f"there is no sample {name!r}; name it by its number, or as source/id")
        ids_by_source[source].append(source_id)
    beyond = [number for number in numbers if number >= pool.size]
    if beyond:
        raise ValueError(f"there is no sample {beyond[0]}; ids run to {pool.size - 1}")
    found = [_ids_in_source(pool, source, source_ids) for source, source_ids in ids_by_source.items()]
    return np.unique(np.concatenate([np.array(numbers, dtype=np.int64), *found]))


def _ids_in_source(pool: Pool, source: str, source_ids: list[str]) -> Int64[np.ndarray, " samples"]:
    """The sample ids of one source's samples; a source_id is unique within its source."""
    columns, of_source = ["sample_id", "source_id"], ds.field("source") == source
    tables = [part.rows.to_table(columns=columns, filter=of_source) for part in pool.shards]
    samples = pa.concat_tables(tables) if tables else pa.table({name: [] for name in columns})
    known = samples["source_id"].cast(pa.string()).combine_chunks()
    rows = pc.index_in(pa.array(source_ids, pa.string()), value_set=known)
    if rows.null_count:
        missing = source_ids[rows.is_null().index(True).as_py()]
        raise ValueError(f"there is no sample {f'{source}/{missing}'!r}; name it by its number, or as source/id")
    return samples["sample_id"].cast(pa.int64()).take(rows).to_numpy()
