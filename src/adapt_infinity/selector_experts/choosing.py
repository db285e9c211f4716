"""The expert of each cluster: the score that ranks its samples (docs/method.md, section 4; Adapt-∞, arXiv:2410.10636).

The paper chooses the score whose distribution in the cluster has the highest entropy. The entropy is that of a
histogram of the z-scored values, so the unit and the origin of a score have no influence. Other rules are files in
`choices/`. The table has every expert of every cluster, chosen or not, with its entropy and the measured gain of its
last selection.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from adapt_infinity.data.tables import align_rows, require_columns
from adapt_infinity.selector_experts import choices
from adapt_infinity.selector_experts.choices import Candidates
from adapt_infinity.selector_experts.scoring import SelectorParams

EDGE_TOLERANCE = 1e-6  # in bin widths: a value this close below an edge goes into the next bin, whatever its rounding
CONSTANT_UNITS = 8  # a score that varies by fewer units in the last place than this is constant
MIN_GAIN_SAMPLES = 5  # a gain that is measured on fewer samples is NaN
SHOWN_IDS = 5  # sample ids in an error message


def choose_experts(
    clusters: pd.DataFrame,
    scores: pd.DataFrame,
    previous_scores: pd.DataFrame,
    previous_subset: pd.DataFrame,
    params: SelectorParams,
    round: int,
) -> pd.DataFrame:
    """Rank the experts of each cluster; one row per cluster and expert, the preferred expert first.

        cluster, size    number of the cluster, and of its samples
        rank             1 = preferred
        expert           the score's name
        entropy          nats, 0 to ln(bins)
        gain             nats per answer token: mean decrease of the loss by the last round's training, over samples of
                         the cluster that this expert ranked but did not select; NaN with fewer than five such samples
        chosen           whether rank is 1

    clusters: sample_id, cluster; scores: the table of `score_samples`.
    previous_scores, previous_subset: the tables of the previous round (`start_record()` before the first).

    A constant score has entropy 0 and comes after all others. If all are constant, as in a cluster of one sample, the
    order of `selector_experts.experts` decides. `ValueError` for a missing column, for samples that are not the same in
    `clusters` and `scores`, and for a score that is not finite, with its sample ids.
    """
    require_columns(clusters, "clusters", ("sample_id", "cluster"))
    require_columns(scores, "scores", ("sample_id", "nll"))
    require_columns(previous_scores, "previous_scores", ("sample_id", "nll"))
    require_columns(previous_subset, "previous_subset", ("sample_id", "expert", "selected"))
    experts = params.competing
    unknown = [expert for expert in experts if expert not in scores.columns]
    if unknown:
        known = [column for column in scores.columns if column != "sample_id"]
        raise ValueError(f"selector_experts.experts names {unknown}, but the scores are {known}")
    if len(clusters) != len(scores):
        raise ValueError(f"clusters has {len(clusters)} samples, but scores has {len(scores)}")
    ids = clusters["sample_id"].to_numpy()
    order = np.lexsort((ids, clusters["cluster"].to_numpy()))
    labels, starts, sizes = np.unique(clusters["cluster"].to_numpy()[order], return_index=True, return_counts=True)
    aligned = align_rows(scores, ids)

    entropies = np.zeros((len(labels), len(experts)))
    constant = np.zeros_like(entropies, dtype=bool)
    for column, expert in enumerate(experts):
        values = aligned[expert].to_numpy()[order]
        if values.dtype.kind != "f":
            values = values.astype(np.float64)  # for example a number of tokens
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
    """The gain of each expert in each cluster, as `choose_experts` defines it.

    An expert ranked a sample if it was the expert of the sample's cluster in the last round; the cluster is the present
    one. Samples that were trained on do not count.
    """
    size = len(labels) * len(experts)
    ranked = previous_subset[~previous_subset["selected"] & previous_subset["expert"].isin(experts)]
    rows = ranked[["sample_id", "expert"]].merge(previous_scores[["sample_id", "nll"]], on="sample_id")
    rows = rows.merge(scores[["sample_id", "nll"]], on="sample_id", suffixes=("", "_now"))
    rows = rows.merge(clusters[["sample_id", "cluster"]], on="sample_id")
    column = pd.Index(experts).get_indexer(pd.Index(rows["expert"]))
    cell = np.searchsorted(labels, rows["cluster"].to_numpy()) * len(experts) + column
    decrease = (rows["nll"] - rows["nll_now"]).to_numpy(dtype=np.float64)
    counts, sums = np.bincount(cell, minlength=size), np.bincount(cell, decrease, size)
    return np.where(counts >= MIN_GAIN_SAMPLES, sums / np.maximum(counts, 1), np.nan).reshape(len(labels), len(experts))


def _standardise(
    values: Float[np.ndarray, " n"], starts: Int[np.ndarray, " clusters"], sizes: Int[np.ndarray, " clusters"]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " clusters"]]:
    """Compute z-scores within each cluster's segment of rows, and whether the segment is constant (z-scores of 0).

    Each segment is first mapped to [-1, 1], so that sums neither overflow nor lose digits to a large mean.
    """
    if len(values) == 0:
        return np.zeros(0), np.zeros(0, dtype=bool)
    precision = CONSTANT_UNITS * np.finfo(values.dtype).eps
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
    """The Shannon entropy, in nats, of each segment's histogram over [-range, range]."""
    bins = np.floor((z + params.range) / (2 * params.range) * params.bins + EDGE_TOLERANCE)
    bins = bins.clip(0, params.bins - 1).astype(np.int64)
    segments = np.repeat(np.arange(len(sizes)), sizes)
    counts = np.bincount(segments * params.bins + bins, minlength=len(sizes) * params.bins)
    shares = counts.reshape(len(sizes), params.bins) / sizes[:, None]
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)


def _ranked(
    candidates: Candidates, sizes: Int[np.ndarray, " clusters"], order: Int[np.ndarray, "clusters experts"]
) -> pd.DataFrame:
    """The table of `choose_experts`, from the experts in the order of preference."""
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
        raise ValueError(
            f"score {expert!r} is not finite for {len(bad)} samples, the first: {sorted(bad.tolist())[:SHOWN_IDS]}"
        )
