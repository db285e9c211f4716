"""OASIS (Lee et al. 2025, arXiv:2506.02011): a row is taken by chance, the likelier the more informative it is among
all that has been seen, and the less it resembles rows taken already.

    z = (I − μ) / σ       I the row's Fisher trace, μ and σ² exponential averages over all data so far
    p = σ(z − t − s)      s what the most similar row that is taken resembles it, weighed as `LIKENESS`

One forward pass per row: I has a closed form (`features/scores/fisher_trace.py`), and the probe takes no gradient. The
published method keeps what chance keeps. Here the threshold t is the one at which the budget is expected, rows are
offered again in passes of falling thresholds, and the last pass ends when the budget is full. Similarity is the cosine
of what the probe stores: embeddings, or gradients if `probe.feature` is set to gradient, which costs the backward pass
that the published method saves by taking the gradient of the last layer.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import expit

from adapt_infinity.data.tables import align_rows
from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.subset.constraints import Mask, fill
from adapt_infinity.subset.selecting import SubsetParams, subset_table

PRESETS = {"probe": {"feature": "embedding", "image_grounding": False}}
DECAY = 0.9  # of μ and σ², a batch of rows
BATCH = 32  # rows whose averages are taken, and that are offered, together
LIKENESS = 2.0  # by which a row that equals one that is taken is less likely, in units of z
FALL = 0.5  # of the threshold, from pass to pass

__all__ = ["PRESETS", "keep", "select"]


def select(
    pool_rows: pd.DataFrame,
    features: Features,
    previous_subset: pd.DataFrame,
    round: int,
    requests: pd.DataFrame,
    subset_params: SubsetParams,
) -> pd.DataFrame:
    """`budget` rows under the limits; `expert` is fisher_trace, `score` is z, `stratum` the pass that took the row.

    The averages go on from those of the round before, which the subset carries in `average` and `variance`.
    """
    order = np.argsort(pool_rows["sample_id"].to_numpy(), kind="stable")
    rows = pool_rows.iloc[order]
    ids = rows["sample_id"].to_numpy()
    traces = align_rows(features.scores, ids)["fisher_trace"].to_numpy(dtype=np.float64)
    average, variance = averages(traces, previous_subset)
    z = (traces - average) / np.sqrt(max(variance, np.finfo(np.float64).tiny))
    where = np.argsort(features.sample_ids, kind="stable")
    vectors = features.gradients[where].astype(np.float32)
    passes = np.full(len(ids), -1)
    seeds = [subset_params.seed, round]

    def draw(open_rows: Mask, taken: Mask, count: int) -> Mask:
        drawn, passes[open_rows] = offer(z, vectors, open_rows, taken, count, np.random.default_rng(seeds))
        return drawn

    everyone = np.ones(len(ids), dtype=bool)
    selected = fill(rows, requests, subset_params.budget, subset_params, everyone, draw)
    expert = pd.Series(np.full(len(ids), "fisher_trace"), dtype="str")
    table = subset_table(rows, np.full(len(ids), -1), expert, z, np.where(selected, passes, -1), selected)
    table = table.assign(average=average, variance=variance)
    return align_rows(table, pool_rows["sample_id"].to_numpy()).reset_index(drop=True)


def averages(traces: Float[np.ndarray, " n"], previous_subset: pd.DataFrame) -> tuple[float, float]:
    """Exponential mean and variance after these rows, batch by batch, from where the round before left them."""
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
        apart = float(batch.mean()) - average
        average += (1 - DECAY) * apart
        variance = DECAY * (variance + (1 - DECAY) * apart**2) + (1 - DECAY) * float(batch.var())
    return average, variance


def offer(
    z: Float[np.ndarray, " n"],
    vectors: Float[np.ndarray, "n dim"],
    open_rows: Mask,
    taken: Mask,
    count: int,
    rng: np.random.Generator,
) -> tuple[Mask, Int[np.ndarray, " open"]]:
    """`count` of the open rows, and for each open row the pass that took it (-1: none did)."""
    drawn, passes = np.zeros(len(z), dtype=bool), np.full(len(z), -1)
    waiting = rng.permutation(np.flatnonzero(open_rows))
    closest = _closest(vectors, waiting, np.flatnonzero(taken))
    threshold = expected(z[waiting], count)
    number = 0
    while drawn.sum() < count:
        luck = rng.random(len(z))
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            batch = batch[~drawn[batch]]
            likely = expit(z[batch] - threshold - LIKENESS * closest[batch])
            won = batch[luck[batch] < likely][: count - int(drawn.sum())]
            drawn[won], passes[won] = True, number
            if len(won):
                closest = np.maximum(closest, _closest(vectors, waiting, won))
        threshold, number = threshold - FALL, number + 1
    return drawn, passes[open_rows]


def expected(z: Float[np.ndarray, " n"], count: int) -> float:
    """The threshold at which `count` rows are expected to be taken."""
    if not 0 < count < len(z):
        return float(z.min(initial=0.0)) - 40.0
    return float(brentq(lambda t: expit(z - t).sum() - count, z.min() - 60.0, z.max() + 60.0))


def _closest(
    vectors: Float[np.ndarray, "n dim"], waiting: Int[np.ndarray, " w"], taken: Int[np.ndarray, " t"]
) -> Float[np.ndarray, " n"]:
    """Of each waiting row the largest cosine to a row that is taken, at least 0."""
    closest = np.zeros(len(vectors))
    if len(taken) and len(waiting):
        closest[waiting] = np.maximum((vectors[waiting] @ vectors[taken].T).max(axis=1), 0)
    return closest
