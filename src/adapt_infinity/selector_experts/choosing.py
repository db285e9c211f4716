"""Selector experts: which score judges a cluster's samples (METHOD section 4; arXiv:2410.10636).

In the paper the expert of a cluster is the score whose distribution in it has the highest entropy: that of a histogram
of the z-scored values, so it does not depend on the unit or the origin of a score. Other choices are files in
`choices/`. The table shows every expert of every cluster with its entropy and what its last picks are known to have
done (`gain`), chosen or not.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from adapt_infinity.data.tables import align_rows
from adapt_infinity.selector_experts import choices
from adapt_infinity.selector_experts.choices import Candidates
from adapt_infinity.selector_experts.scoring import SelectorParams

EDGE = 1e-6  # of a bin's width: a value this close below an edge counts as on it, so that rounding moves nothing
CONSTANT = 8  # units in the last place: a score that varies less than this is constant
EVIDENCE = 5  # samples that an expert's gain in a cluster is measured on, at least


def choose_experts(
    clusters: pd.DataFrame,
    scores: pd.DataFrame,
    previous_scores: pd.DataFrame,
    previous_subset: pd.DataFrame,
    params: SelectorParams,
    round: int,
) -> pd.DataFrame:
    """Every competing score of every cluster, the preferred first.

    Columns: cluster, size, rank (1 = preferred), expert, entropy (nats, 0 to ln(bins)), gain (nats; see `_gains`),
    chosen (rank 1). A constant score has entropy 0 and comes after every other; where all are constant, as in a cluster
    of one row, the order of `selector_experts.experts` decides. `ValueError` for a score that is not there or not
    finite (named with its sample).
    """
    experts = params.competing
    unknown = [expert for expert in experts if expert not in scores.columns]
    if unknown:
        there = [column for column in scores.columns if column != "sample_id"]
        raise ValueError(f"selector_experts.experts names {unknown}, but the scores are {there}")
    assert len(clusters) == len(scores)
    ids = clusters["sample_id"].to_numpy()
    order = np.lexsort((ids, clusters["cluster"].to_numpy()))
    labels, starts, sizes = np.unique(clusters["cluster"].to_numpy()[order], return_index=True, return_counts=True)
    arranged = align_rows(scores, ids)

    entropies = np.zeros((len(labels), len(experts)))
    constant = np.zeros_like(entropies, dtype=bool)
    for column, expert in enumerate(experts):
        values = arranged[expert].to_numpy()[order]
        if values.dtype.kind != "f":
            values = values.astype(np.float64)  # a count
        _check_finite(values, ids[order], expert)
        z, constant[:, column] = _standardise(values, starts, sizes)
        entropies[:, column] = _histogram_entropy(z, sizes, params)
    entropies[constant] = 0.0
    gains = _gains(clusters, labels, scores, previous_scores, previous_subset, experts)
    candidates = Candidates(
        clusters=labels,
        experts=experts,
        entropies=entropies,
        constant=constant,
        gains=gains,
        seeds=(params.seed, round),
    )
    return _ranked(candidates, sizes, choices.load(params.choice)(candidates))


def _gains(
    clusters: pd.DataFrame,
    labels: Int[np.ndarray, " clusters"],
    scores: pd.DataFrame,
    previous_scores: pd.DataFrame,
    previous_subset: pd.DataFrame,
    experts: tuple[str, ...],
) -> Float[np.ndarray, "clusters experts"]:
    """By how much the last round's training lowered the loss where an expert had chosen what to train on.

    Mean over the samples of today's cluster that the expert's cluster held in the last round and that were *not*
    trained on themselves; NaN with fewer than five of them.
    """
    size = len(labels) * len(experts)
    judged = previous_subset[~previous_subset["selected"] & previous_subset["expert"].isin(experts)]
    rows = judged[["sample_id", "expert"]].merge(previous_scores[["sample_id", "nll"]], on="sample_id")
    rows = rows.merge(scores[["sample_id", "nll"]], on="sample_id", suffixes=("", "_now"))
    rows = rows.merge(clusters[["sample_id", "cluster"]], on="sample_id")
    column = pd.Index(experts).get_indexer(pd.Index(rows["expert"]))
    cell = np.searchsorted(labels, rows["cluster"].to_numpy()) * len(experts) + column
    fall = (rows["nll"] - rows["nll_now"]).to_numpy(dtype=np.float64)
    counts, sums = np.bincount(cell, minlength=size), np.bincount(cell, fall, size)
    return np.where(counts >= EVIDENCE, sums / np.maximum(counts, 1), np.nan).reshape(len(labels), len(experts))


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
    candidates: Candidates, sizes: Int[np.ndarray, " clusters"], order: Int[np.ndarray, "clusters experts"]
) -> pd.DataFrame:
    """The long table: for each cluster, its experts from the preferred one on."""
    count = len(candidates.experts)
    rank = np.tile(np.arange(1, count + 1), len(sizes))
    return pd.DataFrame(
        {
            "cluster": np.repeat(candidates.clusters, count),
            "size": np.repeat(sizes, count),
            "rank": rank,
            "expert": pd.Series(np.array(candidates.experts, dtype=object)[order].ravel(), dtype="str"),
            "entropy": np.take_along_axis(candidates.entropies, order, axis=1).ravel(),
            "gain": np.take_along_axis(candidates.gains, order, axis=1).ravel(),
            "chosen": rank == 1,
        }
    )


def _check_finite(values: Float[np.ndarray, " n"], sample_ids: Int[np.ndarray, " n"], expert: str) -> None:
    bad = sample_ids[~np.isfinite(values)]
    if len(bad):
        raise ValueError(f"score {expert!r} is not finite for {len(bad)} samples, first {sorted(bad.tolist())[:5]}")
