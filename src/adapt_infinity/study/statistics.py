"""Means over seeds and how sure they are: t intervals, paired differences, and ranks over many benchmarks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and the half-width of its 95 % t interval (NaN from a single value)."""

    mean: float
    half: float
    count: int
    p: float = float("nan")  # of a difference: two-sided paired t test


def estimate(values: Sequence[float] | Float[np.ndarray, " n"]) -> Estimate:
    """Of independent values, such as those of seeds; `ValueError` for none."""
    known = np.asarray(values, dtype=np.float64)
    if len(known) == 0:
        raise ValueError("there is no mean of nothing")
    if len(known) == 1:
        return Estimate(float(known[0]), float("nan"), 1)
    spread = known.std(ddof=1) / np.sqrt(len(known))
    return Estimate(float(known.mean()), float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1) * spread), len(known))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """The mean of ours − theirs, seed by seed, with the p value of a paired t test (NaN from a single pair)."""
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    found = estimate(differences)
    if found.count < 2:
        return found
    spread = differences.std(ddof=1)
    if spread == 0:
        return Estimate(found.mean, found.half, found.count, 1.0 if found.mean == 0 else 0.0)
    t = found.mean / (spread / np.sqrt(found.count))
    return Estimate(found.mean, found.half, found.count, float(2 * stats.t.sf(abs(t), found.count - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for how many comparisons were made (Holm 1979); NaN stays NaN and is not counted."""
    known = [(p, place) for place, p in enumerate(p_values) if np.isfinite(p)]
    adjusted = [float("nan")] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted


@dataclass(frozen=True)
class Ranks:
    """Mean rank of each competitor over blocks; 1 is best."""

    names: list[str]
    means: Float[np.ndarray, " names"]
    blocks: int
    p: float  # Friedman: that all are alike
    critical: float  # Nemenyi: mean ranks that differ by less are not told apart


def ranked(names: Sequence[str], scores: Float[np.ndarray, "blocks names"]) -> Ranks:
    """Friedman's test and Nemenyi's critical difference (Demšar 2006); `ValueError` for fewer than 3 names."""
    blocks, count = scores.shape
    if count < 3 or blocks < 2:
        raise ValueError(f"ranks need at least 3 competitors and 2 blocks, got {count} and {blocks}")
    ranks = stats.rankdata(-scores, axis=1)
    alike = bool((scores == scores[:, :1]).all())
    p = 1.0 if alike else float(stats.friedmanchisquare(*scores.T).pvalue)
    q = stats.studentized_range.ppf(LEVEL, count, np.inf) / np.sqrt(2)
    return Ranks(list(names), ranks.mean(axis=0), blocks, p, float(q * np.sqrt(count * (count + 1) / (6 * blocks))))
