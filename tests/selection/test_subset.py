"""The subset table: exact, the same at any order of rows, and every pool row accounted for."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt_infinity import rooms
from adapt_infinity.selection.selector import SelectorParams, choose_experts
from adapt_infinity.selection.subset import SAMPLERS, SHARES, SubsetParams, select_subset, uniform_subset

EXPERTS = ["el2n", "grand"]
COLUMNS = ["sample_id", "source", "skill", "round", "cluster", "expert", "score", "stratum", "selected"]


def params(budget: int, **changed: object) -> SubsetParams:
    usual = {"shares": "equal", "sampler": "ccs", "strata": 50, "cut": 0.0, "cut_tails": False, "seed": 0}
    return SubsetParams(budget=budget, **{**usual, **changed})  # type: ignore[arg-type]


def stage(cluster: list[int]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, np.ndarray, pd.DataFrame]:
    """The arguments of `select_subset` for rows of these clusters."""
    n, rng = len(cluster), np.random.default_rng(len(cluster))
    ids = np.cumsum(rng.integers(1, 5, n))
    pool_rows = pd.DataFrame({"sample_id": ids, "round": np.arange(n) % 2 + 1, "source": "charts", "skill": "vqa"})
    clusters = pd.DataFrame(
        {
            "sample_id": ids,
            "cluster": np.array(cluster, dtype=np.int32),
            "similarity": rng.random(n).astype(np.float32),
        }
    )
    scores = pd.DataFrame({"sample_id": ids, "el2n": rng.random(n), "grand": rng.gamma(1, size=n)})
    gradients = rng.normal(size=(n, 4)).astype(np.float16)
    experts = choose_experts(clusters, scores, SelectorParams(experts=EXPERTS, bins=50, range=4.0))
    return pool_rows, clusters, scores, gradients, experts


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("sampler", rooms.names(SAMPLERS))
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 80))
@settings(max_examples=15, deadline=None)
def test_the_budget_is_exact_and_no_row_is_missing(shares: str, sampler: str, cluster: list[int], budget: int) -> None:
    tables = stage(cluster)
    subset = select_subset(*tables, params(budget, shares=shares, sampler=sampler))
    assert subset.columns.tolist() == COLUMNS
    assert subset["sample_id"].tolist() == tables[0]["sample_id"].tolist()
    assert subset["selected"].sum() == min(budget, len(cluster))


@given(st.permutations(range(40)), st.sampled_from(SHARES))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_changes_nothing_else(order: list[int], shares: str) -> None:
    pool_rows, clusters, scores, gradients, experts = stage([row % 3 for row in range(40)])
    expected = select_subset(pool_rows, clusters, scores, gradients, experts, params(11, shares=shares))
    subset = select_subset(
        pool_rows.iloc[order],
        clusters.iloc[order[::-1]],
        scores.iloc[order[5:] + order[:5]],
        gradients[order[5:] + order[:5]],
        experts,
        params(11, shares=shares),
    )
    pd.testing.assert_frame_equal(subset.sort_values("sample_id", ignore_index=True), expected)
    assert subset["sample_id"].tolist() == pool_rows["sample_id"].iloc[order].tolist()


def test_by_hand() -> None:
    """Three clusters of 1, 3 and 8, a budget of 7: 1, 3, 3; and every row says who judged it and how."""
    tables = stage([5] * 8 + [2] + [9] * 3)
    subset = select_subset(*tables, params(7, sampler="top"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {2: 1, 5: 3, 9: 3}
    _, _, scores, _, experts = tables
    named = experts[experts["chosen"]].set_index("cluster")["expert"]
    assert subset["expert"].tolist() == named.loc[subset["cluster"]].tolist()
    assert subset["score"].tolist() == [scores.loc[row, expert] for row, expert in enumerate(subset["expert"])]
    large = subset[subset["cluster"] == 5]
    assert large["score"][large["selected"]].min() > large["score"][~large["selected"]].max()


def test_one_cluster_does_not_change_what_another_draws() -> None:
    """Each cluster draws from its own generator: with the same share, its rows stay."""
    pool_rows, clusters, scores, gradients, experts = stage([0] * 20 + [1] * 20)
    both = select_subset(pool_rows, clusters, scores, gradients, experts, params(10, sampler="random"))
    first = slice(0, 20)
    alone = select_subset(
        pool_rows[first],
        clusters[first],
        scores[first],
        gradients[first],
        experts,
        params(5, sampler="random"),
    )
    assert both["selected"][first].tolist() == alone["selected"].tolist()


def test_score_std_shares_go_to_the_spread() -> None:
    """EL2N spreads three times as far in the second cluster: it gets three times as much."""
    pool_rows, clusters, scores, gradients, experts = stage([0] * 40 + [1] * 40)
    scores["el2n"] = [0.4, 0.6] * 20 + [0.2, 0.8] * 20
    subset = select_subset(pool_rows, clusters, scores, gradients, experts, params(40, shares="score_std"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {0: 10, 1: 30}


def test_density_shares_by_hand() -> None:
    """Centroids e1, e2, -e1: mean distances 1.5, 1, 1.5; spreads 0.2, 0.4, 0.2; weights 3 : 4 : 3."""
    pool_rows, clusters, scores, _, experts = stage([0] * 50 + [1] * 50 + [2] * 50)
    gradients = np.repeat(np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float16), 50, axis=0)
    clusters["similarity"] = np.repeat(np.array([0.8, 0.6, 0.8], dtype=np.float32), 50)
    subset = select_subset(pool_rows, clusters, scores, gradients, experts, params(100, shares="density"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {0: 30, 1: 40, 2: 30}


def test_a_score_that_is_not_finite_names_its_sample() -> None:
    pool_rows, clusters, scores, gradients, experts = stage([0, 0, 0])
    scores.loc[1, EXPERTS] = np.nan
    with pytest.raises(ValueError, match=rf"of sample {pool_rows['sample_id'][1]}$"):
        select_subset(pool_rows, clusters, scores, gradients, experts, params(1))


def test_an_empty_pool_gives_an_empty_subset() -> None:
    assert select_subset(*stage([]), params(3)).columns.tolist() == COLUMNS
    nothing = np.zeros(0, dtype=np.int64)
    assert uniform_subset(stage([])[0], nothing.astype(bool), nothing, 3, [0]).columns.tolist() == COLUMNS


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("budget", 0),
        ("shares", "fair"),
        ("sampler", "oracle"),
        ("strata", 0),
        ("cut", 1.0),
        ("cut", -0.1),
        ("seed", -1),
    ],
)
def test_parameters_are_checked(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"subset\.{key}.*{value}"):
        params(**{"budget": 1, key: value})  # type: ignore[arg-type]


def test_an_unknown_sampler_names_the_known() -> None:
    with pytest.raises(ValueError, match="bottom, ccs, middle, random, top"):
        params(1, sampler="oracle")
