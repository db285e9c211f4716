"""Statistics of a study: t intervals, paired t tests, Holm's correction, and ranks with critical differences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and the half-width of its 95 % t interval (NaN for a single value)."""

    mean: float
    half: float
    count: int
    p: float = float("nan")  # of a two-sided paired t test, if this is a difference


def estimate(values: Sequence[float] | Float[np.ndarray, " n"]) -> Estimate:
    """Mean and 95 % t interval of independent values, such as one per seed; ValueError if there are none."""
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) == 0:
        raise ValueError("an estimate needs at least one value, got none")
    if len(sample) == 1:
        return Estimate(float(sample[0]), float("nan"), 1)
    error = sample.std(ddof=1) / np.sqrt(len(sample))
    return Estimate(float(sample.mean()), float(stats.t.ppf((1 + LEVEL) / 2, len(sample) - 1) * error), len(sample))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """The mean of ours − theirs, paired by seed, with the p value of a two-sided paired t test (NaN for one pair)."""
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    mean = estimate(differences)
    if mean.count < 2:
        return mean
    deviation = differences.std(ddof=1)
    if deviation == 0:
        return replace(mean, p=1.0 if mean.mean == 0 else 0.0)
    t = mean.mean / (deviation / np.sqrt(mean.count))
    return replace(mean, p=float(2 * stats.t.sf(abs(t), mean.count - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for multiple comparisons (Holm 1979); NaN stays NaN and does not count."""
    finite = [(p, index) for index, p in enumerate(p_values) if np.isfinite(p)]
    adjusted = [float("nan")] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(sorted(finite)):
        largest = max(largest, min(1.0, (len(finite) - rank) * p))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class Ranks:
    """The mean rank of each competitor over all blocks; 1 is best."""

    names: list[str]
    means: Float[np.ndarray, " names"]
    blocks: int
    p: float  # of Friedman's test of equal ranks
    critical: float  # Nemenyi's critical difference: smaller differences of mean ranks are not significant


def ranked(names: Sequence[str], scores: Float[np.ndarray, "blocks names"]) -> Ranks:
    """Ranks with Friedman's test and Nemenyi's critical difference (Demšar 2006, JMLR 7, sections 3.2.2 and 3.2.4).

    `scores`: one row per block, one column per name; higher is better. ValueError for fewer than 3 names or 2 blocks.
    """
    blocks, count = scores.shape
    if count < 3 or blocks < 2:
        raise ValueError(f"ranks need at least 3 competitors and 2 blocks, got {count} and {blocks}")
    ranks = stats.rankdata(-scores, axis=1)
    all_equal = bool((scores == scores[:, :1]).all())
    p = 1.0 if all_equal else float(stats.friedmanchisquare(*scores.T).pvalue)
    q = stats.studentized_range.ppf(LEVEL, count, np.inf) / np.sqrt(2)
    return Ranks(list(names), ranks.mean(axis=0), blocks, p, float(q * np.sqrt(count * (count + 1) / (6 * blocks))))
