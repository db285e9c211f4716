"""How a user names samples: by number, as source/id, or in a text file with one of these a line.

    17                     the sample with this number (42 and "42" are the same)
    charts/a-17            the sample that the source `charts` calls a-17
    @lists/keep.txt        every sample that the file names; its path is relative to the project and stays in it

A name means a sample that ever arrived, in the pool or not: whether one that has left matters is the caller's to say.
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

FILE = "@"


def resolve(
    pool: Pool, listed: Sequence[int | str], *, key: str = "", project: Path = Path()
) -> Int64[np.ndarray, " samples"]:
    """The ids of the samples that `listed` names, ascending, each once however often it is named.

    Of the pool only the identifiers of sources that are named are read. A name of no sample, a file that is not
    there and a path that leaves `project` are a `ValueError` of one line, which opens with `key` (the parameter that
    lists them).
    """
    try:
        return _ids(pool, list(_entries(listed, project)))
    except ValueError as error:
        raise ValueError(f"{key}: {error}" if key else str(error)) from None


def _entries(listed: Sequence[int | str], project: Path) -> Iterator[int | str]:
    """The list with each file's lines in its place."""
    for entry in listed:
        if isinstance(entry, str) and entry.startswith(FILE):
            yield from _lines(entry.removeprefix(FILE), project)
        else:
            yield entry


def _lines(place: str, project: Path) -> list[str]:
    """A file's lines, without blanks around them; empty ones are passed over."""
    root = project.resolve()
    path = (root / place).resolve()
    if not path.is_relative_to(root):
        raise ValueError(f"{FILE}{place} leaves the project; lists of samples are read from inside it only")
    if not path.is_file():
        raise ValueError(f"there is no file {place} in the project, which {FILE}{place} asks for")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{FILE}{place} is not UTF-8 text") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _ids(pool: Pool, entries: Sequence[int | str]) -> Int64[np.ndarray, " samples"]:
    numbers: list[int] = []
    wanted: dict[str, list[str]] = defaultdict(list)  # by source: what it calls them
    for entry in entries:
        if isinstance(entry, bool):  # YAML's `yes` and `on`; a bool is an int in Python
            raise ValueError(f"a sample is named by its number or as source/id, got {entry!r}")
        name = str(entry)
        if name.isdecimal():
            numbers.append(int(name))
            continue
        source, _, source_id = name.partition("/")
        if not (source and source_id):
            raise ValueError(f"there is no sample {name!r}; name it by its number, or as source/id")
        wanted[source].append(source_id)
    beyond = [number for number in numbers if number >= pool.size]
    if beyond:
        raise ValueError(f"there is no sample {beyond[0]}; ids run to {pool.size - 1}")
    found = [_named(pool, source, source_ids) for source, source_ids in wanted.items()]
    return np.unique(np.concatenate([np.array(numbers, dtype=np.int64), *found]))


def _named(pool: Pool, source: str, source_ids: list[str]) -> Int64[np.ndarray, " samples"]:
    """The ids of the samples that a source calls so; it calls no two alike."""
    columns, mine = ["sample_id", "source_id"], ds.field("source") == source
    tables = [part.rows.to_table(columns=columns, filter=mine) for part in pool.shards]
    brought = pa.concat_tables(tables) if tables else pa.table({name: [] for name in columns})
    names = brought["source_id"].cast(pa.string()).combine_chunks()
    places = pc.index_in(pa.array(source_ids, pa.string()), value_set=names)
    if places.null_count:
        missing = source_ids[places.is_null().index(True).as_py()]
        raise ValueError(f"there is no sample {f'{source}/{missing}'!r}; name it by its number, or as source/id")
    return brought["sample_id"].cast(pa.int64()).take(places).to_numpy()
