"""Overlaps: arriving samples that duplicate samples of the pool or, worse, test items of the benchmarks.

Compared are the content (text and pictures, by hash), the words of the questions (by hash, without case, white space
and punctuation), and the pictures: by SHA-256, and by a perceptual hash of 240 bits, of which similar pictures differ
in few. Every arriving sample has at most one row per scope, its strongest overlap:

    scope      kind            the sample has …
    pool       duplicate       … the same text and pictures as an earlier sample
               near duplicate  … the same questions as an earlier sample, and similar pictures
    benchmark  item            … the same questions and pictures as a test item (or both have no picture): a leak
               near item       … the same questions as a test item, and similar pictures
               picture         … a picture of a test item, but another question
               near picture    … a picture similar to one of a test item

Similar pictures are found by leader clustering: a picture belongs to the nearest leader within `near_bits` bits, and
becomes a leader itself when there is none. So the cost grows with the number of leaders and not of pairs.

All rows are read once, block by block. Kept in memory are 8 bytes per sample (a digest of its content hash), and the
pictures' hashes. Samples of equal digest are then compared by their full content hashes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from jaxtyping import Int, UInt64

from adapt_infinity.data import parquet
from adapt_infinity.data.tables import require_columns
from adapt_infinity.pool.pool import Part, Pool

# scope → kinds, the strongest first
KINDS = {
    "pool": ("duplicate", "near duplicate"),
    "benchmark": ("item", "near item", "picture", "near picture"),
}
SCOPE_OF_KIND = {kind: scope for scope, kinds in KINDS.items() for kind in kinds}
RANK_OF_KIND = {kind: rank for rank, kind in enumerate(SCOPE_OF_KIND)}
LEAKING_KINDS = ("item",)  # kinds that put the answer of a test item into the training data
COLUMNS = ["sample_id", "source_id", "scope", "kind", "other", "bits"]
COMPARED_COLUMNS = ["content_hash", "question_hash", "picture_hashes", "picture_marks"]
HASH_BITS = 240  # of a perceptual hash
NO_ROWS = np.empty(0, np.int64)


@dataclass
class SimilarPictures:
    """Leader clustering of pictures by their perceptual hashes (Hamming distance at most `near_bits`).

    The bits of a hash are divided into `near_bits` + 1 bands. Two hashes that differ in at most `near_bits` bits have
    at least one band in common, so a picture is compared only with leaders that share a band with it (Manku et al.
    2007, "Detecting near-duplicates for web crawling"). Bits are assigned to bands at random, because neighbouring bits
    are correlated: a uniform corner of a picture would otherwise fill a whole band.
    """

    near_bits: int
    leaders: list[int] = field(default_factory=list)  # perceptual hashes
    bands: dict[tuple[int, int], list[int]] = field(default_factory=dict)  # band number and bits → indices of leaders
    known: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # hash → its leader's index and distance

    def __post_init__(self) -> None:
        order = np.random.Generator(np.random.Philox(0)).permutation(HASH_BITS)
        self._bits_of_band = np.array_split(order, self.near_bits + 1)

    def find(self, perceptual_hash: bytes) -> tuple[int, int] | None:
        """The index of the nearest leader and its distance in bits; None when no leader is within `near_bits`."""
        if perceptual_hash in self.known:
            return self.known[perceptual_hash]
        number = int.from_bytes(perceptual_hash, "big")
        nearest: tuple[int, int] | None = None
        for leader in {leader for key in self._band_keys(perceptual_hash) for leader in self.bands.get(key, ())}:
            bits = (number ^ self.leaders[leader]).bit_count()
            if bits <= self.near_bits and (nearest is None or (bits, leader) < (nearest[1], nearest[0])):
                nearest = (leader, bits)
        return nearest

    def add(self, perceptual_hash: bytes) -> tuple[int, int]:
        """As `find`, but a picture without a leader becomes a leader itself. The result is remembered."""
        found = self.find(perceptual_hash)
        if found is None:
            found = (len(self.leaders), 0)
            self.leaders.append(int.from_bytes(perceptual_hash, "big"))
            for key in self._band_keys(perceptual_hash):
                self.bands.setdefault(key, []).append(found[0])
        self.known[perceptual_hash] = found
        return found

    def _band_keys(self, perceptual_hash: bytes) -> list[tuple[int, int]]:
        bits = np.unpackbits(np.frombuffer(perceptual_hash, np.uint8))
        packed = [int.from_bytes(np.packbits(bits[band]).tobytes(), "big") for band in self._bits_of_band]
        return list(enumerate(packed))


def find_overlaps(arrivals: ds.Dataset, pool: Pool, items: pd.DataFrame, near_bits: int) -> pd.DataFrame:
    """The overlaps of arriving samples, as the head of this file describes them.

    Columns: sample_id, source_id, scope, kind, other (the sample_id of the earlier sample, or the number of the test
    item), bits (the largest distance of a picture from its leader). `pool` holds all samples that ever arrived before,
    also those that were pruned. `items` are the benchmark items; `ValueError` when they lack a column.
    """
    require_columns(items, "benchmark_items", ["sample_id", *COMPARED_COLUMNS[1:]])
    all_samples = Pool((*pool.shards, Part(0, arrivals)))
    digests = np.empty(all_samples.size, np.uint64)
    earlier, test_items = _EarlierQuestions(near_bits), _TestItems(items, near_bits)
    found = [_rows(kind) for kind in RANK_OF_KIND]
    for first_id, batch in _batches(all_samples):
        digests[first_id : first_id + len(batch)] = _digests(batch["content_hash"])
        near_duplicates = earlier.find_and_add(first_id, batch)
        if first_id >= pool.size:
            found += [near_duplicates, *test_items.find(first_id, batch)]
    found.append(_duplicates(all_samples, digests, pool.size))
    rows = pd.concat(found, ignore_index=True)
    rows = rows.sort_values(
        ["sample_id", "scope", "kind"], key=lambda column: column.map(RANK_OF_KIND) if column.name == "kind" else column
    )
    rows = rows.drop_duplicates(["sample_id", "scope"]).reset_index(drop=True)
    names = all_samples.fetch(rows["sample_id"].to_numpy(), ["source_id"]).to_pandas()
    return rows.assign(source_id=names["source_id"])[COLUMNS]


def summarise(overlaps: pd.DataFrame) -> dict[str, int]:
    """The number of arriving samples per scope and kind ("pool: duplicate"), without kinds that do not occur."""
    counts = overlaps.groupby(["scope", "kind"]).size()
    return {
        f"{scope}: {kind}": int(counts[scope, kind])
        for scope, kinds in KINDS.items()
        for kind in kinds
        if (scope, kind) in counts.index
    }


def _batches(pool: Pool) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The compared columns of all samples in record batches, each with the sample_id of its first row."""
    first_id = 0
    for part in pool.shards:
        batches = part.rows.to_batches(
            columns=COMPARED_COLUMNS, batch_readahead=parquet.READAHEAD, fragment_readahead=1
        )
        for batch in batches:
            yield first_id, batch
            first_id += len(batch)


def _digests(content_hashes: pa.Array) -> UInt64[np.ndarray, " n"]:
    """8 bytes of each content hash; equal for equal contents, and rarely for others."""
    return pd.util.hash_array(content_hashes.to_numpy(zero_copy_only=False), categorize=False)


def _duplicates(pool: Pool, digests: UInt64[np.ndarray, " n"], first_new: int) -> pd.DataFrame:
    """The samples from `first_new` on whose content an earlier sample has."""
    ordered = np.sort(digests)
    candidates = np.flatnonzero(np.isin(digests, ordered[1:][ordered[1:] == ordered[:-1]]))
    candidates = candidates[np.isin(digests[candidates], digests[candidates[candidates >= first_new]])]
    content_hashes = pool.fetch(candidates, ["content_hash"])["content_hash"]
    codes = content_hashes.combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    earliest = candidates[first[codes]]
    duplicate = (earliest < candidates) & (candidates >= first_new)
    return _rows("duplicate", candidates[duplicate], earliest[duplicate])


class _EarlierQuestions:
    """For every question with pictures, the first sample that asked it about such pictures."""

    def __init__(self, near_bits: int) -> None:
        self.similar = SimilarPictures(near_bits)
        self.first_sample: dict[tuple[int, ...], int] = {}  # question hash and leaders of the pictures → sample_id

    def find_and_add(self, first_id: int, batch: pa.RecordBatch) -> pd.DataFrame:
        """The near duplicates among the rows of a batch, which are compared with all rows before them and added."""
        found = []
        for row, question, hashes in _rows_with_pictures(batch):
            leaders = [self.similar.add(one) for one in hashes]
            sample_id = first_id + row
            other = self.first_sample.setdefault((question, *(leader for leader, _ in leaders)), sample_id)
            if other != sample_id:
                found.append((sample_id, other, max(bits for _, bits in leaders)))
        return _rows("near duplicate", *_columns(found))


class _TestItems:
    """The test items, looked up by question and by picture. Of several equal items the first is returned."""

    def __init__(self, items: pd.DataFrame, near_bits: int) -> None:
        self.similar = SimilarPictures(near_bits)
        self.by_pictures: dict[tuple[int | str, ...], int] = {}  # question hash and SHA-256 of the pictures → item
        self.by_leaders: dict[tuple[int, ...], int] = {}  # question hash and leaders of the pictures → item
        self.of_picture: dict[str, int] = {}  # SHA-256 of a picture → item
        self.of_leader: dict[int, int] = {}
        columns = ("sample_id", "question_hash", "picture_hashes", "picture_marks")
        for item, question, digests, hashes in zip(*(items[column] for column in columns), strict=True):
            leaders = [self.similar.add(one)[0] for one in hashes]
            self.by_pictures.setdefault((question, *digests), item)
            self.by_leaders.setdefault((question, *leaders), item)
            for digest, leader in zip(digests, leaders, strict=True):
                self.of_picture.setdefault(digest, item)
                self.of_leader.setdefault(leader, item)
        self.text_only_questions = np.array([key[0] for key in self.by_pictures if len(key) == 1], np.int64)

    def strongest_overlap(self, question: int, digests: list[str], hashes: list[bytes]) -> tuple[str, int, int] | None:
        """Kind, item and bits of the strongest overlap of a sample that has pictures, or None."""
        if (question, *digests) in self.by_pictures:
            return "item", self.by_pictures[question, *digests], 0
        near = [found for one in hashes if (found := self.similar.find(one)) is not None]
        key = (question, *(leader for leader, _ in near))
        if len(near) == len(hashes) and key in self.by_leaders:
            return "near item", self.by_leaders[key], max(bits for _, bits in near)
        for digest in digests:
            if digest in self.of_picture:
                return "picture", self.of_picture[digest], 0
        if near:
            leader, bits = min(near, key=lambda found: found[1])
            return "near picture", self.of_leader[leader], bits
        return None

    def find(self, first_id: int, batch: pa.RecordBatch) -> list[pd.DataFrame]:
        """The samples of a batch that overlap with test items, one table per kind."""
        questions = batch["question_hash"].to_numpy()
        without_pictures = pc.fill_null(batch["picture_hashes"].value_lengths(), 0).to_numpy(zero_copy_only=False) == 0
        text_only = np.flatnonzero(without_pictures & np.isin(questions, self.text_only_questions))
        items = [self.by_pictures[(question,)] for question in questions[text_only].tolist()]
        found: dict[str, list[tuple[int, int, int]]] = {kind: [] for kind in KINDS["benchmark"]}
        for row, question, hashes in _rows_with_pictures(batch):
            overlap = self.strongest_overlap(question, batch["picture_hashes"][row].as_py(), hashes)
            if overlap is not None:
                kind, item, bits = overlap
                found[kind].append((first_id + row, item, bits))
        tables = [_rows(kind, *_columns(rows)) for kind, rows in found.items()]
        return [_rows("item", first_id + text_only, np.array(items, np.int64)), *tables]


def _rows_with_pictures(batch: pa.RecordBatch) -> Iterator[tuple[int, int, list[bytes]]]:
    """Row number, question hash and perceptual hashes of every sample of the batch that has pictures."""
    lengths = pc.fill_null(batch["picture_marks"].value_lengths(), 0).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(lengths).tolist():
        yield row, batch["question_hash"][row].as_py(), batch["picture_marks"][row].as_py()


def _columns(found: list[tuple[int, int, int]]) -> Int[np.ndarray, "3 n"]:
    return np.array(found, np.int64).reshape(-1, 3).T


def _rows(
    kind: str,
    sample_ids: Int[np.ndarray, " n"] = NO_ROWS,
    others: Int[np.ndarray, " n"] = NO_ROWS,
    bits: Int[np.ndarray, " n"] | int = 0,
) -> pd.DataFrame:
    return pd.DataFrame(
        {"sample_id": sample_ids, "kind": kind, "scope": SCOPE_OF_KIND[kind], "other": others, "bits": bits}
    )
