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

Rows are read once, block by block. Kept of each are 8 bytes of its content's hash, and of pictures the marks; what
these 8 bytes make look equal is fetched and compared whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from adapt_infinity.data import parquet
from adapt_infinity.pool.pool import Part, Pool

KINDS = {
    "pool": ("duplicate", "near duplicate"),
    "benchmark": ("item", "near item", "picture", "near picture"),
}
SCOPE = {kind: scope for scope, kinds in KINDS.items() for kind in kinds}
RANK = {kind: rank for rank, kind in enumerate([kind for kinds in KINDS.values() for kind in kinds])}
LEAKS = ("item",)  # kinds that put a test item's answer among the training data
COLUMNS = ["sample_id", "source_id", "scope", "kind", "other", "bits"]
COMPARED = ["content_hash", "question_hash", "picture_hashes", "perceptual_hashes"]
BITS = 240
NONE = np.empty(0, np.int64)


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
    everything = Pool((*pool.shards, Part(0, arrivals)))  # a sample's id is its place in it
    digests = np.empty(everything.size, np.uint64)
    asked, known = _Asked(near_bits), _Items(items, near_bits)
    found = [_rows(kind) for kind in RANK]
    for first, batch in _blocks(everything):
        digests[first : first + len(batch)] = _digests(batch["content_hash"])
        arriving = first >= pool.size
        near = asked.again(first, batch)
        if arriving:
            found += [near, *known.leaks(first, batch)]
    found.append(_duplicates(everything, digests, pool.size))
    rows = pd.concat(found, ignore_index=True)
    rows = rows.sort_values(["sample_id", "scope", "kind"], key=lambda c: c.map(RANK) if c.name == "kind" else c)
    rows = rows.drop_duplicates(["sample_id", "scope"]).reset_index(drop=True)
    names = everything.fetch(rows["sample_id"].to_numpy(), ["source_id"]).to_pandas()
    return rows.assign(source_id=names["source_id"])[COLUMNS]


def summarise(overlaps: pd.DataFrame) -> dict[str, int]:
    """How many arriving samples overlap, by scope and kind; kinds that do not occur are left out."""
    counts = overlaps.groupby(["scope", "kind"]).size()
    return {
        f"{scope}: {kind}": int(counts[scope, kind])
        for scope, kinds in KINDS.items()
        for kind in kinds
        if (scope, kind) in counts.index
    }


def _blocks(everything: Pool) -> Iterator[tuple[int, pa.RecordBatch]]:
    """What is compared of all rows, in their order, each block with the place of its first row."""
    first = 0
    for part in everything.shards:
        for batch in part.rows.to_batches(columns=COMPARED, batch_readahead=parquet.READAHEAD, fragment_readahead=1):
            yield first, batch
            first += len(batch)


def _digests(contents: pa.Array) -> np.ndarray:
    """8 bytes (uint64) of each content's hash: equal for equal contents."""
    return pd.util.hash_array(contents.to_numpy(zero_copy_only=False), categorize=False)


def _duplicates(everything: Pool, digests: np.ndarray, first_new: int) -> pd.DataFrame:
    """Samples whose content an earlier one has."""
    ordered = np.sort(digests)
    alike = np.flatnonzero(np.isin(digests, ordered[1:][ordered[1:] == ordered[:-1]]))
    alike = alike[np.isin(digests[alike], digests[alike[alike >= first_new]])]
    contents = everything.fetch(alike, ["content_hash"])["content_hash"]
    codes = contents.combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    earliest = alike[first[codes]]
    later = (earliest < alike) & (alike >= first_new)
    return _rows("duplicate", alike[later], earliest[later])


class _Asked:
    """What was asked about which pictures, and where first."""

    def __init__(self, near_bits: int) -> None:
        self.likeness = Likeness(near_bits)
        self.first: dict[tuple[int, ...], int] = {}  # question and leaders of the pictures

    def again(self, first: int, batch: pa.RecordBatch) -> pd.DataFrame:
        """Samples that ask what an earlier one asks, about pictures that look alike; they are remembered."""
        found = []
        for row, question, marks in _with_pictures(batch):
            like = [self.likeness.add(mark) for mark in marks]
            place = first + row
            other = self.first.setdefault((question, *(leader for leader, _ in like)), place)
            if other != place:
                found.append((place, other, max(bits for _, bits in like)))
        return _rows("near duplicate", *_columns(found))


class _Items:
    """The test items, looked up by question and by picture; of several the first is named."""

    def __init__(self, items: pd.DataFrame, near_bits: int) -> None:
        self.likeness = Likeness(near_bits)
        self.same: dict[tuple[int | str, ...], int] = {}  # question and hashes of the pictures
        self.alike: dict[tuple[int, ...], int] = {}  # question and leaders of the pictures
        self.by_hash: dict[str, int] = {}
        self.by_leader: dict[int, int] = {}
        columns = ("sample_id", "question_hash", "picture_hashes", "perceptual_hashes")
        for number, question, hashes, marks in zip(*(items[column] for column in columns), strict=True):
            leaders = [self.likeness.add(mark)[0] for mark in marks]
            self.same.setdefault((question, *hashes), number)
            self.alike.setdefault((question, *leaders), number)
            for digest, leader in zip(hashes, leaders, strict=True):
                self.by_hash.setdefault(digest, number)
                self.by_leader.setdefault(leader, number)
        self.bare = np.array([key[0] for key in self.same if len(key) == 1], np.int64)

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

    def leaks(self, first: int, batch: pa.RecordBatch) -> list[pd.DataFrame]:
        """Samples that share questions or pictures with test items."""
        questions = batch["question_hash"].to_numpy()
        bare = pc.fill_null(batch["picture_hashes"].value_lengths(), 0).to_numpy(zero_copy_only=False) == 0
        asked = np.flatnonzero(bare & np.isin(questions, self.bare))
        others = [self.same[(question,)] for question in questions[asked].tolist()]
        found: dict[str, list[tuple[int, int, int]]] = {kind: [] for kind in KINDS["benchmark"]}
        for row, question, marks in _with_pictures(batch):
            overlap = self.overlap(question, batch["picture_hashes"][row].as_py(), marks)
            if overlap is not None:
                kind, other, bits = overlap
                found[kind].append((first + row, other, bits))
        rows = [_rows(kind, *_columns(those)) for kind, those in found.items()]
        return [_rows("item", first + asked, np.array(others, np.int64)), *rows]


def _with_pictures(batch: pa.RecordBatch) -> Iterator[tuple[int, int, list[bytes]]]:
    """Row, question hash and marks of every sample that has pictures."""
    lengths = pc.fill_null(batch["perceptual_hashes"].value_lengths(), 0).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(lengths).tolist():
        yield row, batch["question_hash"][row].as_py(), batch["perceptual_hashes"][row].as_py()


def _columns(found: list[tuple[int, int, int]]) -> np.ndarray:
    return np.array(found, np.int64).reshape(-1, 3).T


def _rows(kind: str, places: np.ndarray = NONE, others: np.ndarray = NONE, bits: np.ndarray | int = 0) -> pd.DataFrame:
    return pd.DataFrame({"sample_id": places, "kind": kind, "scope": SCOPE[kind], "other": others, "bits": bits})
