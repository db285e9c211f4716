"""Twenty rounds of arrivals (without `-m slow` five): rare skills keep their equal share of the subset and of the pool.

A rare skill is half a per cent of the arrivals. With twice as many clusters as skills, the shares hold from eight
samples on. With fewer clusters or samples, k-means may join two rare skills in one cluster, which then has one share
for both.
"""

import numpy as np
import pandas as pd
import pytest

from adapt_infinity.pruning.removals import choose_removals_by_cluster
from adapt_infinity.pseudo_skills.finding import cluster_rows
from adapt_infinity.pseudo_skills.matching import start_clusters
from adapt_infinity.selector_experts.choosing import choose_experts
from adapt_infinity.selector_experts.scoring import start_record
from adapt_infinity.subset.selecting import select_subset
from tests.pruning.test_removals import params as pruning_params
from tests.pseudo_skills.planted import params as cluster_params
from tests.selector_experts.test_choosing import params as selector_params
from tests.subset.defaults import NO_REQUESTS, StubFeatures, subset_params

SKILLS, RARE = 20, (17, 18, 19)  # each of the last three is half a per cent of the arrivals
CLUSTERS, LEAST_SAMPLES = 40, 8
ARRIVING, BUDGET, POOL, DIM = 1200, 300, 1500, 64
SEVERAL = [("ccs", 0), ("ccs", 1), ("random", 2), ("k_center", 3)]


@pytest.mark.parametrize(
    ("sampler", "seed", "rounds"),
    [("ccs", 0, 5), *(pytest.param(*sampler_and_seed, 20, marks=pytest.mark.slow) for sampler_and_seed in SEVERAL)],
)
@pytest.mark.usefixtures("unchecked")
def test_rare_skills_keep_at_least_their_equal_share(sampler: str, seed: int, rounds: int) -> None:
    draw = np.random.default_rng(seed)
    directions = draw.normal(size=(SKILLS, DIM))
    shares = np.where(np.isin(np.arange(SKILLS), RARE), 0.005, (1 - 0.015) / (SKILLS - len(RARE)))
    must_keep = NO_REQUESTS.drop(columns="include")
    pool = pd.DataFrame({"sample_id": np.zeros(0, np.int64), "skill": np.zeros(0, np.int64)})
    rows = np.zeros((0, DIM), np.float16)
    for round in range(1, rounds + 1):
        skill = draw.choice(SKILLS, ARRIVING, p=shares)
        arrived = directions[skill] + 0.8 * draw.normal(size=(ARRIVING, DIM))
        arrived /= np.linalg.norm(arrived, axis=1, keepdims=True)
        ids = np.arange(ARRIVING) + ARRIVING * (round - 1)
        pool = pd.concat([pool, pd.DataFrame({"sample_id": ids, "skill": skill})], ignore_index=True)
        rows = np.concatenate([rows, arrived.astype(np.float16)])
        present = {number: int((pool["skill"] == number).sum()) for number in RARE}

        subset, removals = one_round(pool, rows, round, sampler, must_keep)
        chosen = pool["skill"][subset["selected"].to_numpy()].value_counts()
        kept = ~pool["sample_id"].isin(removals["sample_id"]).to_numpy()
        remaining = pool["skill"][kept].value_counts()
        assert subset["selected"].sum() == BUDGET
        assert kept.sum() == min(POOL, len(pool))
        for number, count in present.items():
            if count < LEAST_SAMPLES:
                continue
            assert chosen.get(number, 0) >= min(count, BUDGET // CLUSTERS), (round, number)
            assert remaining.get(number, 0) >= min(count, POOL // CLUSTERS), (round, number)
        pool, rows = pool[kept].reset_index(drop=True), rows[kept]


def one_round(
    pool: pd.DataFrame, rows: np.ndarray, round: int, sampler: str, must_keep: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The subset and the removals of a pool whose gradients and embeddings are these rows."""
    ids = pool["sample_id"].to_numpy()
    draw = np.random.default_rng(round)
    scores = pd.DataFrame({"sample_id": ids, "el2n": draw.random(len(ids)), "grand": draw.gamma(2, size=len(ids))})
    scores = scores.assign(nll=scores["el2n"], trained_nll=np.nan)
    clusters, _ = cluster_rows({"gradients": rows}, ids, cluster_params(k=CLUSTERS, restarts=2), start_clusters())
    experts = choose_experts(clusters, scores, *start_record(), selector_params(["el2n", "grand"]), round)
    pool_rows = pool.assign(source="s", skill=pool["skill"].astype(str), round=round)
    features = StubFeatures(ids, rows, rows, scores)
    given = subset_params(BUDGET, sampler=sampler)
    subset = select_subset(pool_rows, clusters, scores, features, experts, NO_REQUESTS, given)
    pruning = pruning_params(POOL, ranking="centroid", block=1024)
    return subset, choose_removals_by_cluster(pool_rows, clusters, rows, scores, experts, must_keep, pruning)
