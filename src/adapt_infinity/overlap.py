"""What arrives and was there before: duplicates of the pool, and, worse, of the benchmarks.

Compared are content (words and pictures, by hash), the questions' words (less case, space and punctuation), and
pictures: by hash, and by a perceptual mark of 240 bits of which near pictures differ in a few. Every arriving sample
has at most one row a scope, its strongest overlap:

    scope      kind            the sample …
    pool       duplicate       … says and shows what an earlier one does
               near duplicate  … asks what an earlier one asks, about pictures that look alike
    benchmark  item            … asks what a test item asks, about the same pictures or about none: the answer leaks
               near item       … asks what a test item asks, about pictures that look alike
               picture         … shows a test item's picture, and asks something else
               near picture    … shows a picture that looks like a test item's

Likeness is to the first picture of its kind (a leader): every picture within `near_bits` of a leader belongs to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from adapt_infinity.pool import Pool

KINDS = {
    "pool": ("duplicate", "near duplicate"),
    "benchmark": ("item", "near item", "picture", "near picture"),
}
LEAKS = ("item",)  # kinds that put a test item's answer among the training data
COLUMNS = ["sample_id", "source_id", "scope", "kind", "other", "bits"]
COMPARED = ["sample_id", "source_id", "content_hash", "question_hash", "picture_hashes", "picture_marks"]
BITS = 240


@dataclass
class Likeness:
    """Pictures by their marks: which of the earlier ones a picture looks like.

    Two marks that differ in at most `near_bits` bits agree in at least one of `near_bits` + 1 bands of bits, so only
    those that share a band are compared. Bits are shuffled over the bands: a flat corner fills none by itself.
    """

    near_bits: int
    leaders: list[int] = field(default_factory=list)
    bands: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    known: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        order = np.random.Generator(np.random.Philox(0)).permutation(BITS)
        self._parts = np.array_split(order, self.near_bits + 1)

    def find(self, mark: bytes) -> tuple[int, int] | None:
        """The number of the nearest leader within reach, and in how many bits it differs."""
        if mark in self.known:
            return self.known[mark]
        number = int.from_bytes(mark, "big")
        nearest: tuple[int, int] | None = None
        for leader in {leader for key in self._keys(mark) for leader in self.bands.get(key, ())}:
            bits = (number ^ self.leaders[leader]).bit_count()
            if bits <= self.near_bits and (nearest is None or (bits, leader) < (nearest[1], nearest[0])):
                nearest = (leader, bits)
        return nearest

    def add(self, mark: bytes) -> tuple[int, int]:
        """The same, and a picture that looks like none becomes a leader itself."""
        found = self.find(mark)
        if found is None:
            found = (len(self.leaders), 0)
            self.leaders.append(int.from_bytes(mark, "big"))
            for key in self._keys(mark):
                self.bands.setdefault(key, []).append(found[0])
        self.known[mark] = found
        return found

    def _keys(self, mark: bytes) -> list[tuple[int, int]]:
        bits = np.unpackbits(np.frombuffer(mark, np.uint8))
        packed = [int.from_bytes(np.packbits(bits[part]).tobytes(), "big") for part in self._parts]
        return list(enumerate(packed))


def find_overlaps(arrivals: ds.Dataset, pool: Pool, items: pd.DataFrame, near_bits: int) -> pd.DataFrame:
    """The rows that this file's head describes: sample_id, source_id, scope, kind, other, bits.

    `other` is the sample_id of the earlier sample, or the number of the test item; `bits` the most in which a picture
    differs from its like. `pool` is all that ever arrived before, pruned or not.
    """
    arriving = arrivals.to_table(columns=COMPARED)
    before = [part.rows.to_table(columns=COMPARED) for part in pool.shards]
    everything = pa.concat_tables([*before, arriving])
    first_new = len(everything) - len(arriving)
    found = [_duplicates(everything, first_new), _near_duplicates(everything, first_new, near_bits)]
    found.append(_leaks(arriving, items, near_bits))
    rows = pd.concat(found, ignore_index=True)
    order = {kind: rank for kinds in KINDS.values() for rank, kind in enumerate(kinds)}
    rows = rows.sort_values(["sample_id", "scope", "kind"], key=lambda c: c.map(order) if c.name == "kind" else c)
    return rows.drop_duplicates(["sample_id", "scope"]).reset_index(drop=True)[COLUMNS]


def summarise(overlaps: pd.DataFrame) -> dict[str, int]:
    """How many arriving samples overlap, by scope and kind; kinds that do not occur are left out."""
    counts = overlaps.groupby(["scope", "kind"]).size()
    return {
        f"{scope}: {kind}": int(counts[scope, kind])
        for scope, kinds in KINDS.items()
        for kind in kinds
        if (scope, kind) in counts.index
    }


def _duplicates(everything: pa.Table, first_new: int) -> pd.DataFrame:
    """Samples whose content an earlier one has."""
    codes = everything["content_hash"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    earliest = first[codes]  # codes are given in order of appearance, so each code's first row is its earliest
    later = np.flatnonzero(earliest < np.arange(len(codes)))
    later = later[later >= first_new]
    return _rows(everything, later, "pool", "duplicate", everything["sample_id"].to_numpy()[earliest[later]])


def _near_duplicates(everything: pa.Table, first_new: int, near_bits: int) -> pd.DataFrame:
    """Samples with pictures that ask what an earlier one asks, about pictures that look alike."""
    likeness = Likeness(near_bits)
    first: dict[tuple[int, ...], int] = {}
    later, others, bits = [], [], []
    ids = everything["sample_id"].to_numpy()
    for place, question, marks in _with_pictures(everything):
        like = [likeness.add(mark) for mark in marks]
        key = (question, *(leader for leader, _ in like))
        other = first.setdefault(key, place)
        if other != place and place >= first_new:
            later.append(place)
            others.append(int(ids[other]))
            bits.append(max(differing for _, differing in like))
    return _rows(everything, np.array(later, np.int64), "pool", "near duplicate", np.array(others, np.int64), bits)


class _Items:
    """The test items, looked up by question and by picture; of several the first is named."""

    def __init__(self, items: pd.DataFrame, near_bits: int) -> None:
        self.likeness = Likeness(near_bits)
        self.same: dict[tuple[int | str, ...], int] = {}  # question and hashes of the pictures
        self.alike: dict[tuple[int, ...], int] = {}  # question and leaders of the pictures
        self.by_hash: dict[str, int] = {}
        self.by_leader: dict[int, int] = {}
        columns = ("sample_id", "question_hash", "picture_hashes", "picture_marks")
        for number, question, hashes, marks in zip(*(items[column] for column in columns), strict=True):
            leaders = [self.likeness.add(mark)[0] for mark in marks]
            self.same.setdefault((question, *hashes), number)
            self.alike.setdefault((question, *leaders), number)
            for digest, leader in zip(hashes, leaders, strict=True):
                self.by_hash.setdefault(digest, number)
                self.by_leader.setdefault(leader, number)

    def overlap(self, question: int, hashes: list[str], marks: list[bytes]) -> tuple[str, int, int] | None:
        """The strongest overlap of a sample that has pictures: kind, item, bits."""
        if (question, *hashes) in self.same:
            return "item", self.same[question, *hashes], 0
        near = [found for mark in marks if (found := self.likeness.find(mark)) is not None]
        key = (question, *(leader for leader, _ in near))
        if len(near) == len(marks) and key in self.alike:
            return "near item", self.alike[key], max(bits for _, bits in near)
        for digest in hashes:
            if digest in self.by_hash:
                return "picture", self.by_hash[digest], 0
        if near:
            leader, bits = min(near, key=lambda found: found[1])
            return "near picture", self.by_leader[leader], bits
        return None


def _leaks(arriving: pa.Table, items: pd.DataFrame, near_bits: int) -> pd.DataFrame:
    """Samples that share questions or pictures with test items."""
    known = _Items(items, near_bits)
    questions = arriving["question_hash"].to_numpy()
    bare = pc.equal(pc.list_value_length(arriving["picture_hashes"]), 0).to_numpy()
    alone = {key[0]: number for key, number in known.same.items() if len(key) == 1}
    leaking = np.flatnonzero(bare & np.isin(questions, np.array(list(alone), np.int64)))
    others = np.array([alone[question] for question in questions[leaking].tolist()], np.int64)
    found: dict[str, list[tuple[int, int, int]]] = {kind: [] for kind in KINDS["benchmark"]}
    for place, question, marks in _with_pictures(arriving):
        overlap = known.overlap(question, arriving["picture_hashes"][place].as_py(), marks)
        if overlap is not None:
            kind, other, bits = overlap
            found[kind].append((place, other, bits))
    rows = [_rows(arriving, leaking, "benchmark", "item", others)]
    for kind, those in found.items():
        columns = np.array(those, np.int64).reshape(-1, 3).T
        rows.append(_rows(arriving, columns[0], "benchmark", kind, columns[1], columns[2]))
    return pd.concat(rows, ignore_index=True)


def _with_pictures(table: pa.Table) -> Iterator[tuple[int, int, list[bytes]]]:
    """Place, question hash and marks of every sample that has pictures."""
    place = 0
    for batch in table.select(["question_hash", "picture_marks"]).to_batches():
        lengths = batch["picture_marks"].value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(lengths):
            yield place + int(row), batch["question_hash"][row].as_py(), batch["picture_marks"][row].as_py()
        place += batch.num_rows


def _rows(
    table: pa.Table,
    places: np.ndarray,
    scope: str,
    kind: str,
    others: np.ndarray,
    bits: list[int] | np.ndarray | None = None,
) -> pd.DataFrame:
    named = table.select(["sample_id", "source_id"]).take(pa.array(places, pa.int64())).to_pandas()
    return named.assign(
        scope=scope, kind=kind, other=others.astype(np.int64), bits=np.zeros(len(places), int) if bits is None else bits
    )
