"""Questions: samples are alike if they are asked in the same words. No model reads anything.

Words and pairs of words of the user's turns are hashed and weighted by tf-idf; the weighted counts are sketched to a
fixed width by signed sums (count sketch, Charikar et al. 2002), which keeps inner products in expectation.
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
from adapt_infinity.pseudo_skills.words import said, words

WIDTH = 1024
TERMS = 1 << 18  # buckets in which terms are counted before they are sketched
WINDOW = 4096  # samples in memory at a time
NO_WORDS = ["∅"]  # stands for a question that has none


def rows(pool: Pool) -> Float16[np.ndarray, "n 1024"]:
    """Unit rows in a temporary file that nobody else sees and that is gone with the array."""
    n = len(pool)
    if n == 0:
        return np.zeros((0, WIDTH), dtype=np.float16)
    having = np.zeros(TERMS, dtype=np.int64)
    for counts in _counts(pool):
        having += np.bincount(counts.indices, minlength=TERMS)
    weight = np.log((1 + n) / (1 + having)) + 1
    fold, first = _fold(), 0
    with tempfile.TemporaryFile() as file:
        for counts in _counts(pool):
            dense = (counts.multiply(weight).tocsr() @ fold).toarray()
            lengths = np.linalg.norm(dense, axis=1, keepdims=True)
            file.write((dense / np.where(lengths == 0, 1, lengths)).astype(np.float16).tobytes())
            first += len(dense)
        assert first == n
        file.flush()
        return np.memmap(file, dtype=np.float16, mode="r", shape=(n, WIDTH))


def _counts(pool: Pool) -> Iterator[csr_matrix]:
    """How often each term is in each sample, window by window."""
    terms = HashingVectorizer(
        n_features=TERMS, analyzer=_terms, norm=None, alternate_sign=False, dtype=np.float32
    )  # its hash (murmur3) is the same everywhere
    for window in pool.windows(WINDOW):
        yield terms.transform(_questions(window))


def _questions(window: pd.DataFrame) -> list[str]:
    return [said(turns, "user") for turns in window["turns"]]


def _terms(text: str) -> list[str]:
    single = words(text) or NO_WORDS
    return single + [f"{left} {right}" for left, right in pairwise(single)]


def _fold() -> csr_matrix:
    """One place and one sign for each bucket: bits of its number, which is a hash."""
    buckets = np.arange(TERMS)
    signs = np.where(buckets // WIDTH % 2 == 0, 1, -1).astype(np.float32)
    return csr_matrix((signs, (buckets, buckets % WIDTH)), shape=(TERMS, WIDTH))
