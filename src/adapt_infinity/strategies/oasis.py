"""OASIS (Lee et al. 2025, arXiv:2506.02011): samples are taken at random; a sample is more likely the more informative
it is among all data so far, and the less similar it is to samples taken before.

    z = (I − μ) / σ       I: Fisher trace of the sample; μ, σ²: exponential averages over all data so far
    p = σ(z − t − s)      s: `SIMILARITY_WEIGHT` times the largest cosine to a sample taken before, at least 0

The cost is one forward pass per sample: I has a closed form (features/scores/fisher_trace.py), so the probe computes no
gradient. The published method takes as many samples as the draws give. Here the threshold t is the one at which the
expected number is the budget. Samples that were not taken are offered again, with a lower threshold in each pass, until
the budget is full. The cosine is that of what the probe stores: embeddings, or gradients if `probe.feature` is
gradient. Gradients need a backward pass, which the published method avoids by using the gradient of the last layer.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import expit

from adapt_infinity.data.tables import align_rows, require_columns
from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.subset.constraints import Mask, fill
from adapt_infinity.subset.params import SubsetParams
from adapt_infinity.subset.table import subset_table

PRESETS = {"probe": {"feature": "embedding", "image_grounding": False}}
DECAY = 0.9  # weight of the old averages μ and σ² at each batch
BATCH = 32  # samples that are averaged, and that are offered, together
SIMILARITY_WEIGHT = 2.0  # penalty on z for a duplicate of a sample taken before
THRESHOLD_STEP = 0.5  # by which the threshold is lower in each pass

__all__ = ["PRESETS", "keep", "select"]


def select(
    pool_rows: pd.DataFrame,
    features: Features,
    previous_subset: pd.DataFrame,
    round: int,
    requests: pd.DataFrame,
    subset_params: SubsetParams,
) -> pd.DataFrame:
    """Select `budget` samples, under the constraints.

    Returns the table of `subset_table`, where expert is fisher_trace, score is z and stratum is the number of the pass
    that took the sample, with two more columns: average (μ) and variance (σ²), from which the next round continues.
    `ValueError` if the probe's scores have no fisher_trace.
    """
    require_columns(features.scores, "features.scores", ("sample_id", "fisher_trace"))
    order = np.argsort(pool_rows["sample_id"].to_numpy(), kind="stable")
    rows = pool_rows.iloc[order]
    ids = rows["sample_id"].to_numpy()
    traces = align_rows(features.scores, ids)["fisher_trace"].to_numpy(dtype=np.float64)
    average, variance = running_averages(traces, previous_subset)
    z = (traces - average) / np.sqrt(max(variance, np.finfo(np.float64).tiny))
    row_of = np.argsort(features.sample_ids, kind="stable")
    vectors = features.gradients[row_of].astype(np.float32)
    passes = np.full(len(ids), -1)
    seeds = [subset_params.seed, round]

    def draw(open_rows: Mask, taken: Mask, count: int) -> Mask:
        drawn, passes[open_rows] = draw_in_passes(z, vectors, open_rows, taken, count, np.random.default_rng(seeds))
        return drawn

    all_rows = np.ones(len(ids), dtype=bool)
    selected = fill(rows, requests, subset_params.budget, subset_params, all_rows, draw)
    expert = pd.Series(np.full(len(ids), "fisher_trace"), dtype="str")
    table = subset_table(rows, np.full(len(ids), -1), expert, z, np.where(selected, passes, -1), selected)
    table = table.assign(average=average, variance=variance)
    return align_rows(table, pool_rows["sample_id"].to_numpy()).reset_index(drop=True)


def running_averages(traces: Float[np.ndarray, " n"], previous_subset: pd.DataFrame) -> tuple[float, float]:
    """Update μ and σ² batch by batch with these Fisher traces, from the values in the previous subset if it has them.

    Without previous values they start with the mean and variance of the first batch (0 and 1 without rows).
    """
    known = "average" in previous_subset and len(previous_subset) > 0
    batches = [traces[start : start + BATCH] for start in range(0, len(traces), BATCH)]
    if known:
        average, variance = (float(previous_subset[name].iloc[0]) for name in ("average", "variance"))
    elif batches:
        average, variance = float(batches[0].mean()), float(batches[0].var())
        batches = batches[1:]
    else:
        return 0.0, 1.0
    for batch in batches:
        difference = float(batch.mean()) - average
        average += (1 - DECAY) * difference
        variance = DECAY * (variance + (1 - DECAY) * difference**2) + (1 - DECAY) * float(batch.var())
    return average, variance


def draw_in_passes(
    z: Float[np.ndarray, " n"],
    vectors: Float[np.ndarray, "n dim"],
    open_rows: Mask,
    taken: Mask,
    count: int,
    rng: np.random.Generator,
) -> tuple[Mask, Int[np.ndarray, " open"]]:
    """Take `count` of the open rows; returns their mask, and the pass that took each open row (−1: not taken)."""
    drawn, passes = np.zeros(len(z), dtype=bool), np.full(len(z), -1)
    waiting = rng.permutation(np.flatnonzero(open_rows))
    closest = _closest(vectors, waiting, np.flatnonzero(taken))
    threshold = threshold_for(z[waiting], count)
    number = 0
    while drawn.sum() < count:
        uniform = rng.random(len(z))
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            batch = batch[~drawn[batch]]
            probability = expit(z[batch] - threshold - SIMILARITY_WEIGHT * closest[batch])
            accepted = batch[uniform[batch] < probability][: count - int(drawn.sum())]
            drawn[accepted], passes[accepted] = True, number
            if len(accepted):
                closest = np.maximum(closest, _closest(vectors, waiting, accepted))
        threshold, number = threshold - THRESHOLD_STEP, number + 1
    return drawn, passes[open_rows]


def threshold_for(z: Float[np.ndarray, " n"], count: int) -> float:
    """The threshold t at which the expected number of rows taken, Σ σ(z − t), is `count`."""
    if not 0 < count < len(z):
        return float(z.min(initial=0.0)) - 40.0
    return float(brentq(lambda t: expit(z - t).sum() - count, z.min() - 60.0, z.max() + 60.0))


def _closest(
    vectors: Float[np.ndarray, "n dim"], waiting: Int[np.ndarray, " w"], taken: Int[np.ndarray, " t"]
) -> Float[np.ndarray, " n"]:
    """The largest cosine of each waiting row to a row taken before, at least 0; 0 for all other rows."""
    closest = np.zeros(len(vectors))
    if len(taken) and len(waiting):
        closest[waiting] = np.maximum((vectors[waiting] @ vectors[taken].T).max(axis=1), 0)
    return closest
