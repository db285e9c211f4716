"""Question space: samples are similar if their questions use the same words. No model is needed.

Words and pairs of neighbouring words of the user's turns are hashed and weighted by tf-idf. The weighted counts are
sketched to a fixed width by signed sums, which keep inner products in expectation (count sketch, Charikar et al. 2002).
"""

import tempfile
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Float16
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

from adapt_infinity.pool.pool import Pool
from adapt_infinity.pseudo_skills.words import turns_text, words

WIDTH = 1024
BUCKETS = 1 << 18  # terms are hashed into these buckets before they are sketched
WINDOW = 4096  # samples that are read at a time
NO_WORDS = ["∅"]  # stands for a question without a word


def rows(pool: Pool) -> Float16[np.ndarray, "n 1024"]:
    """Vectors of length 1 in a temporary file without a name, which is deleted together with the array."""
    n = len(pool)
    if n == 0:
        return np.zeros((0, WIDTH), dtype=np.float16)
    containing = np.zeros(BUCKETS, dtype=np.int64)
    for counts in _counts(pool):
        containing += np.bincount(counts.indices, minlength=BUCKETS)
    weight = np.log((1 + n) / (1 + containing)) + 1
    sketch, first = _sketch(), 0
    with tempfile.TemporaryFile() as file:
        for counts in _counts(pool):
            dense = (counts.multiply(weight).tocsr() @ sketch).toarray()
            lengths = np.linalg.norm(dense, axis=1, keepdims=True)
            file.write((dense / np.where(lengths == 0, 1, lengths)).astype(np.float16).tobytes())
            first += len(dense)
        assert first == n
        file.flush()
        return np.memmap(file, dtype=np.float16, mode="r", shape=(n, WIDTH))


def _counts(pool: Pool) -> Iterator[csr_matrix]:
    """Counts of terms, one row per sample, window by window."""
    terms = HashingVectorizer(
        n_features=BUCKETS, analyzer=_terms, norm=None, alternate_sign=False, dtype=np.float32
    )  # its hash (murmur3) is the same on every machine
    for window in pool.windows(WINDOW):
        yield terms.transform(_questions(window))


def _questions(window: pd.DataFrame) -> list[str]:
    return [turns_text(turns, "user") for turns in window["turns"]]


def _terms(text: str) -> list[str]:
    single = words(text) or NO_WORDS
    return single + [f"{left} {right}" for left, right in pairwise(single)]


def _sketch() -> csr_matrix:
    """The count sketch: one column and one sign for each bucket, taken from the bits of its number (a hash)."""
    buckets = np.arange(BUCKETS)
    signs = np.where(buckets // WIDTH % 2 == 0, 1, -1).astype(np.float32)
    return csr_matrix((signs, (buckets, buckets % WIDTH)), shape=(BUCKETS, WIDTH))
