"""Selector experts: the score that tells a cluster's rows apart best (METHOD section 4; arXiv:2410.10636).

The expert of a cluster is the score whose distribution in it has the highest entropy. The entropy is that of
a histogram of the z-scored values, so it does not depend on the unit or the origin of a score.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

EDGE = 1e-6  # of a bin's width: a value this close below an edge counts as on it, so that rounding moves nothing
CONSTANT = 8  # units in the last place: a score that varies less than this is constant


@dataclass(frozen=True, kw_only=True)
class SelectorParams:
    """params:selector_experts."""

    experts: list[str]  # columns of the scores; of equally good ones the first listed is chosen
    bins: int
    range: float  # the bins divide [-range, range] standard deviations; the outer ones take the tails

    def __post_init__(self) -> None:
        if not self.experts:
            raise ValueError("selector_experts.experts must name at least one score, got none")
        if len(set(self.experts)) < len(self.experts):
            raise ValueError(f"selector_experts.experts must name each score once, got {self.experts}")
        if self.bins < 2:
            raise ValueError(f"selector_experts.bins must be at least 2, got {self.bins}")
        if not self.range > 0 or not np.isfinite(self.range):
            raise ValueError(f"selector_experts.range must be a number above 0, got {self.range}")


def choose_experts(clusters: pd.DataFrame, scores: pd.DataFrame, params: SelectorParams) -> pd.DataFrame:
    """Every candidate score of every cluster, ranked by entropy.

    Columns: cluster, size, rank (1 = highest), expert, entropy (nats, 0 to ln(bins)), chosen (rank 1). A
    constant score has entropy 0 and comes after every other; where all are constant, as in a cluster of one
    row, the order of `selector_experts.experts` decides. `ValueError` for a score that is not there or not
    finite (named with its sample).
    """
    unknown = [expert for expert in params.experts if expert not in scores.columns]
    if unknown:
        there = [column for column in scores.columns if column != "sample_id"]
        raise ValueError(f"selector_experts.experts names {unknown}, but the scores are {there}")
    assert len(clusters) == len(scores)
    by_cluster = clusters.sort_values(["cluster", "sample_id"])
    arranged = scores.set_index("sample_id").loc[by_cluster["sample_id"], params.experts]
    labels, starts, sizes = np.unique(by_cluster["cluster"].to_numpy(), return_index=True, return_counts=True)

    entropies = np.zeros((len(labels), len(params.experts)))
    constant = np.zeros_like(entropies, dtype=bool)
    for column, expert in enumerate(params.experts):
        values = arranged[expert].to_numpy()
        if values.dtype.kind != "f":
            values = values.astype(np.float64)  # a count
        _check_finite(values, by_cluster["sample_id"].to_numpy(), expert)
        z, constant[:, column] = _standardise(values, starts, sizes)
        entropies[:, column] = _histogram_entropy(z, sizes, params)
    entropies[constant] = 0.0
    return _ranked(labels, sizes, entropies, constant, params.experts)


def _standardise(
    values: Float[np.ndarray, " n"], starts: Int[np.ndarray, " clusters"], sizes: Int[np.ndarray, " clusters"]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " clusters"]]:
    """z-scores within each segment of rows, and which segments are constant (their z-scores are 0).

    A segment is first mapped to [-1, 1]: sums then neither overflow nor lose digits to a large origin.
    """
    if len(values) == 0:
        return np.zeros(0), np.zeros(0, dtype=bool)
    precision = CONSTANT * np.finfo(values.dtype).eps
    values = values.astype(np.float64)
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    half, centre = high / 2 - low / 2, high / 2 + low / 2
    constant = 2 * half <= precision * np.maximum(np.abs(low), np.abs(high))
    unit = (values - np.repeat(centre, sizes)) / np.repeat(np.where(constant, np.inf, half), sizes)
    unit -= np.repeat(np.add.reduceat(unit, starts) / sizes, sizes)
    spread = np.sqrt(np.add.reduceat(unit**2, starts) / sizes)
    return unit / np.repeat(np.where(constant, 1.0, spread), sizes), constant


def _histogram_entropy(
    z: Float[np.ndarray, " n"], sizes: Int[np.ndarray, " clusters"], params: SelectorParams
) -> Float[np.ndarray, " clusters"]:
    """Shannon entropy, in nats, of every segment's histogram over [-range, range]."""
    places = np.floor((z + params.range) / (2 * params.range) * params.bins + EDGE)
    places = places.clip(0, params.bins - 1).astype(np.int64)
    segments = np.repeat(np.arange(len(sizes)), sizes)
    counts = np.bincount(segments * params.bins + places, minlength=len(sizes) * params.bins)
    shares = counts.reshape(len(sizes), params.bins) / sizes[:, None]
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)


def _ranked(
    labels: Int[np.ndarray, " clusters"],
    sizes: Int[np.ndarray, " clusters"],
    entropies: Float[np.ndarray, "clusters experts"],
    constant: Bool[np.ndarray, "clusters experts"],
    experts: list[str],
) -> pd.DataFrame:
    """The long table: for each cluster, its scores from the highest entropy to the lowest."""
    listed = np.broadcast_to(np.arange(len(experts)), entropies.shape)
    order = np.lexsort((listed, -np.round(entropies, 9), constant), axis=1)
    rank = np.tile(np.arange(1, len(experts) + 1), len(labels))
    return pd.DataFrame(
        {
            "cluster": np.repeat(labels, len(experts)),
            "size": np.repeat(sizes, len(experts)),
            "rank": rank,
            "expert": pd.Series(np.array(experts, dtype=object)[order].ravel(), dtype="str"),
            "entropy": np.take_along_axis(entropies, order, axis=1).ravel(),
            "chosen": rank == 1,
        }
    )


def _check_finite(values: Float[np.ndarray, " n"], sample_ids: Int[np.ndarray, " n"], expert: str) -> None:
    bad = sample_ids[~np.isfinite(values)]
    if len(bad):
        raise ValueError(f"score {expert!r} is not finite for {len(bad)} samples, first {sorted(bad.tolist())[:5]}")
