"""Drift: how far rows that an older adapter made are from rows of the same samples under the current adapter."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.features.shards import ShardRows


def drift(now: ShardRows, before: ShardRows) -> dict[str, float]:
    """Cosines of features and embeddings (median and 5th percentile), and the rank correlation of every score.

    Both arguments hold the same samples in the same order. 1 means that nothing has changed. A score that is constant
    has no rank correlation and is left out. `ValueError` when the two hold different numbers of rows.
    """
    if len(now) != len(before):
        raise ValueError(f"drift compares rows of the same samples, got {len(now)} rows and {len(before)} rows")
    found: dict[str, float] = {"rows": float(len(now))}
    for name in ("features", "embeddings"):
        cosines = _cosines(getattr(now, name), getattr(before, name))
        found[f"{name}, median cosine"] = float(np.median(cosines))
        found[f"{name}, 5th percentile of cosines"] = float(np.percentile(cosines, 5))
    for name in sorted(set(now.scores) & set(before.scores)):
        one, other = (_ranks(rows.scores[name]) for rows in (now, before))
        if one.std() > 0 and other.std() > 0:
            found[f"{name}, rank correlation"] = float(np.corrcoef(one, other)[0, 1])
    return found


def _cosines(a: Float[np.ndarray, "rows width"], b: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, " rows"]:
    one, two = a.astype(np.float32), b.astype(np.float32)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return np.asarray((one * two).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny))


def _ranks(values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, code, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[code])
