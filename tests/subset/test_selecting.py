"""The subset: exact budgets, the same at any order of rows, and one row per pool row."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.intake.reading import Source
from adapt_infinity.pool.pool import Pool, join_pool, remove
from adapt_infinity.selector_experts.choosing import choose_experts
from adapt_infinity.selector_experts.scoring import start_record
from adapt_infinity.subset import samplers
from adapt_infinity.subset import shares as rules
from adapt_infinity.subset.constraints import list_requests
from adapt_infinity.subset.selecting import select_subset
from adapt_infinity.subset.uniform import uniform_subset
from tests.conftest import checked, examples, unread
from tests.selector_experts.test_choosing import params as selector_params
from tests.subset.defaults import NO_REQUESTS, StubFeatures, requests, subset_params

EXPERTS = ["el2n", "grand"]
COLUMNS = ["sample_id", "source", "skill", "round", "cluster", "expert", "score", "stratum", "selected"]


SHARES = rules.names()
params = subset_params
Stage = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, StubFeatures, pd.DataFrame, pd.DataFrame]


def stage(cluster: list[int], gradients: np.ndarray | None = None) -> Stage:
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
    scores = scores.assign(nll=rng.random(n), tokens=rng.integers(5, 50, n))
    scores["trained_nll"] = np.where(np.arange(n) % 2, rng.random(n), np.nan)
    rows = rng.normal(size=(n, 4)).astype(np.float16) if gradients is None else gradients
    experts = choose_experts(clusters, scores, *start_record(), selector_params(EXPERTS), 1)
    return pool_rows, clusters, scores, StubFeatures(ids, rows, rows, scores), experts, NO_REQUESTS


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("sampler", samplers.names())
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 80))
@examples(15)
def test_the_budget_is_exact_and_every_row_is_listed(
    shares: str, sampler: str, cluster: list[int], budget: int
) -> None:
    tables = stage(cluster)
    subset = select_subset(*tables, params(budget, shares=shares, sampler=sampler))
    assert subset.columns.tolist() == COLUMNS
    assert subset["sample_id"].tolist() == tables[0]["sample_id"].tolist()
    assert subset["selected"].sum() == min(budget, len(cluster))


@pytest.mark.parametrize("sampler", samplers.names())
@given(st.permutations(range(40)), st.sampled_from(SHARES))
@examples(15)
def test_the_order_of_rows_changes_only_the_order_of_the_table(sampler: str, order: list[int], shares: str) -> None:
    pool_rows, clusters, scores, read, experts, no_requests = stage([row % 3 for row in range(40)])
    settings = params(11, shares=shares, sampler=sampler)
    expected = select_subset(pool_rows, clusters, scores, read, experts, no_requests, settings)
    moved = order[5:] + order[:5]
    subset = select_subset(
        pool_rows.iloc[order],
        clusters.iloc[order[::-1]],
        scores.iloc[order[7:] + order[:7]],
        StubFeatures(read.sample_ids[moved], read.gradients[moved], read.embeddings[moved], scores.iloc[moved]),
        experts,
        no_requests,
        settings,
    )
    pd.testing.assert_frame_equal(subset.sort_values("sample_id", ignore_index=True), expected)
    assert subset["sample_id"].tolist() == pool_rows["sample_id"].iloc[order].tolist()


def test_by_hand() -> None:
    """Clusters of 1, 3 and 8 rows share a budget of 7 as 1, 3, 3; each row has its expert and its score."""
    tables = stage([5] * 8 + [2] + [9] * 3)
    subset = select_subset(*tables, params(7, sampler="top"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {2: 1, 5: 3, 9: 3}
    _, _, scores, _, experts, _ = tables
    chosen = experts[experts["chosen"]].set_index("cluster")["expert"]
    assert subset["expert"].tolist() == chosen.loc[subset["cluster"]].tolist()
    assert subset["score"].tolist() == [scores.loc[row, expert] for row, expert in enumerate(subset["expert"])]
    large = subset[subset["cluster"] == 5]
    assert large["score"][large["selected"]].min() > large["score"][~large["selected"]].max()


def test_the_draw_of_a_cluster_does_not_depend_on_other_clusters() -> None:
    """Each cluster has its own random generator, so with the same share it gives the same rows."""
    pool_rows, clusters, scores, read, experts, no_requests = stage([0] * 20 + [1] * 20)
    both = select_subset(pool_rows, clusters, scores, read, experts, no_requests, params(10, sampler="random"))
    first = slice(0, 20)
    alone = select_subset(
        pool_rows[first],
        clusters[first],
        scores[first],
        StubFeatures(read.sample_ids[first], read.gradients[first], read.embeddings[first], scores[first]),
        experts,
        no_requests,
        params(5, sampler="random"),
    )
    assert both["selected"][first].tolist() == alone["selected"].tolist()


def test_score_std_shares_by_hand() -> None:
    """The standard deviation of EL2N is three times as large in the second cluster, and so is its share."""
    pool_rows, clusters, scores, read, experts, no_requests = stage([0] * 40 + [1] * 40)
    scores["el2n"] = [0.4, 0.6] * 20 + [0.2, 0.8] * 20
    subset = select_subset(pool_rows, clusters, scores, read, experts, no_requests, params(40, shares="score_std"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {0: 10, 1: 30}


def test_density_shares_by_hand() -> None:
    """Centroids e1, e2, -e1: mean distances 1.5, 1, 1.5; spreads 0.2, 0.4, 0.2; weights 3 : 4 : 3."""
    gradients = np.repeat(np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float16), 50, axis=0)
    pool_rows, clusters, scores, read, experts, no_requests = stage([0] * 50 + [1] * 50 + [2] * 50, gradients)
    clusters["similarity"] = np.repeat(np.array([0.8, 0.6, 0.8], dtype=np.float32), 50)
    subset = select_subset(pool_rows, clusters, scores, read, experts, no_requests, params(100, shares="density"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {0: 30, 1: 40, 2: 30}


def test_loss_shares_by_hand() -> None:
    pool_rows, clusters, scores, read, experts, no_requests = stage([0] * 40 + [1] * 40)
    scores["nll"] = [1.0] * 40 + [3.0] * 40
    subset = select_subset(pool_rows, clusters, scores, read, experts, no_requests, params(40, shares="loss"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {0: 10, 1: 30}


def test_forgetting_shares_by_hand() -> None:
    """The losses rise by 1 and fall; the third cluster, never trained on, is 3 above the mean of the baselines."""
    pool_rows, clusters, scores, read, experts, no_requests = stage([0] * 40 + [1] * 40 + [2] * 40)
    scores["nll"] = [2.0] * 40 + [0.5] * 40 + [4.0] * 40
    scores["trained_nll"] = [1.0] * 80 + [np.nan] * 40
    subset = select_subset(pool_rows, clusters, scores, read, experts, no_requests, params(40, shares="forgetting"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {0: 10, 1: 0, 2: 30}
    scores["trained_nll"] = np.nan
    first = select_subset(pool_rows, clusters, scores, read, experts, no_requests, params(42, shares="forgetting"))
    assert first.groupby("cluster")["selected"].sum().to_dict() == {0: 14, 1: 14, 2: 14}


NAMES = st.sampled_from(["a", "b", "c"])


@given(
    st.lists(st.tuples(st.integers(0, 3), NAMES, NAMES), min_size=1, max_size=60),
    st.integers(1, 70),
    st.data(),
    st.sampled_from(["ccs", "top"]),
)
@examples(150)
def test_constraints_hold(rows: list[tuple[int, str, str]], budget: int, data: st.DataObject, sampler: str) -> None:
    """Floors are met if there are enough rows, no cap is exceeded, lists hold, and the budget is used if possible."""
    pool_rows, clusters, scores, read, experts, _ = stage([cluster for cluster, _, _ in rows])
    pool_rows = pool_rows.assign(source=[source for _, source, _ in rows], skill=[skill for _, _, skill in rows])
    ids = pool_rows["sample_id"].tolist()
    include = data.draw(st.lists(st.sampled_from(ids), unique=True, max_size=min(3, budget)))
    exclude = data.draw(
        st.lists(st.sampled_from([i for i in ids if i not in include] or [-1]), unique=True, max_size=5)
    )
    caps = {"source": {"a": data.draw(st.integers(0, 10))}, "skill": {"b": data.draw(st.integers(0, 10))}}
    floors = {"skill": {"c": data.draw(st.integers(0, max(0, min(10, budget - len(include)))))}}
    constraints = params(budget, caps=caps, floors=floors, sampler=sampler)
    subset = select_subset(pool_rows, clusters, scores, read, experts, requests(include, exclude), constraints)
    selected = subset["selected"]
    assert selected.sum() <= budget
    listed = subset["sample_id"]
    assert selected[listed.isin(include)].all()
    assert not selected[listed.isin(exclude)].any()
    closed = listed.isin(exclude)
    for column, name in (("source", "a"), ("skill", "b")):
        rows_of_cap = subset[column] == name
        assert selected[rows_of_cap].sum() <= max(caps[column][name], (rows_of_cap & listed.isin(include)).sum())
        closed |= rows_of_cap & (selected[rows_of_cap].sum() >= caps[column][name])
    rest = ~selected & ~closed
    assert selected.sum() == budget or not rest.any()
    rows_of_floor = subset["skill"] == "c"
    assert selected[rows_of_floor].sum() >= floors["skill"]["c"] or not (rest & rows_of_floor).any()


def test_a_cap_keeps_the_rows_that_the_sampler_prefers() -> None:
    pool_rows, clusters, scores, read, experts, no_requests = stage([0] * 20)
    pool_rows["skill"] = ["a", "b"] * 10
    constraints = params(12, sampler="top", caps={"skill": {"a": 3}})
    subset = select_subset(pool_rows, clusters, scores, read, experts, no_requests, constraints)
    capped = subset[subset["skill"] == "a"]
    assert capped["selected"].sum() == 3
    assert capped["score"][capped["selected"]].min() > capped["score"][~capped["selected"]].max()
    assert subset["selected"].sum() == 12


def test_a_floor_is_met_and_counts_in_the_shares_of_the_clusters() -> None:
    """Five of six rare rows are required, where ten of sixty rows are drawn; no cluster gets more than its share."""
    pool_rows, clusters, scores, read, experts, no_requests = stage([row % 3 for row in range(60)])
    pool_rows["skill"] = ["rare"] * 6 + ["common"] * 54
    constraints = params(10, sampler="random", floors={"skill": {"rare": 5}})
    subset = select_subset(pool_rows, clusters, scores, read, experts, no_requests, constraints)
    assert subset["selected"][:6].sum() >= 5
    assert subset.groupby("cluster")["selected"].sum().max() <= 4


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ({"floors": {"skill": {"vqa": 9}}}, r"subset.budget 3 is too small for subset.floors.skill.vqa = 9"),
        ({"floors": {"skill": {"vqa": 3}}, "caps": {"skill": {"vqa": 2}}}, r"floors.skill.vqa = 3 is above its cap"),
    ],
)
def test_contradicting_constraints_are_an_error(constraints: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_subset(*stage([0] * 20), params(3, **constraints))


def test_more_included_samples_than_the_budget_are_an_error() -> None:
    pool_rows, clusters, scores, read, experts, _ = stage([0] * 9)
    wanted = requests(pool_rows["sample_id"].tolist()[:4], [])
    with pytest.raises(ValueError, match=r"subset.include names 4 samples of the pool, subset.budget is 3"):
        select_subset(pool_rows, clusters, scores, read, experts, wanted, params(3))


@given(st.integers(1, 60), st.integers(50, 1500))
@examples(40)
def test_a_token_budget_is_kept_and_nearly_used_up(budget: int, tokens: int) -> None:
    tables = stage([row % 4 for row in range(50)])
    cost = tables[2]["tokens"].to_numpy()
    spent = {
        limit: cost[select_subset(*tables, params(budget, token_budget=limit))["selected"].to_numpy()].sum()
        for limit in (tokens, 10**9)
    }
    assert spent[tokens] <= tokens
    assert spent[tokens] >= min(spent[10**9], tokens - 2 * cost.max() * 4)  # four clusters with one or two samples each


def test_a_token_budget_needs_a_probe() -> None:
    all_rows, one_group = np.ones(9, dtype=bool), np.zeros(9, dtype=np.int64)
    with pytest.raises(ValueError, match=r"subset.token_budget needs the probe's counts"):
        uniform_subset(stage([0] * 9)[0], NO_REQUESTS, all_rows, one_group, params(3, token_budget=100), 1)


def test_a_score_that_is_not_finite_is_an_error_with_its_sample_id() -> None:
    pool_rows, clusters, scores, read, experts, no_requests = stage([0, 0, 0])
    scores.loc[1, EXPERTS] = np.nan
    with pytest.raises(ValueError, match=rf"of sample {pool_rows['sample_id'][1]}$"):
        select_subset(pool_rows, clusters, scores, read, experts, no_requests, params(1))


@pytest.mark.parametrize(
    ("table", "column", "changed"),
    [
        ("pool_rows", "skill", {}),
        ("clusters", "similarity", {}),
        ("scores", "tokens", {"token_budget": 9}),
        ("scores", "trained_nll", {"shares": "forgetting"}),
        ("scores", "el2n", {"shares": "score_std"}),
        ("cluster_experts", "chosen", {}),
        ("requests", "include", {}),
    ],
)
def test_a_missing_column_is_named(table: str, column: str, changed: dict[str, object]) -> None:
    names = ("pool_rows", "clusters", "scores", "features", "cluster_experts", "requests")
    given: dict[str, Any] = dict(zip(names, stage([0] * 9), strict=True))
    if column == "el2n":  # only the shares need it
        given["cluster_experts"] = given["cluster_experts"].replace({"expert": {"el2n": "grand"}})
    given[table] = given[table].drop(columns=column)
    with pytest.raises(ValueError, match=f"^{table} lacks columns: {column}"):
        select_subset(**given, subset_params=params(3, **changed))


def test_tables_of_different_samples_are_an_error() -> None:
    pool_rows, clusters, scores, features, experts, no_requests = stage([0] * 9)
    with pytest.raises(ValueError, match="pool_rows has 8 samples, but clusters has 9"):
        select_subset(pool_rows[:8], clusters, scores, features, experts, no_requests, params(3))


def test_an_empty_pool_gives_an_empty_subset() -> None:
    assert select_subset(*stage([]), params(3)).columns.tolist() == COLUMNS
    no_requests = np.zeros(0, dtype=np.int64)
    empty = uniform_subset(stage([])[0], NO_REQUESTS, no_requests.astype(bool), no_requests, params(3), 1)
    assert empty.columns.tolist() == COLUMNS


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
        ("token_budget", -1),
        ("view", "words"),
        ("floors", {"colour": {"red": 1}}),
        ("caps", {"skill": {"vqa": -1}}),
    ],
)
@pytest.mark.usefixtures("unchecked")  # the signatures, which would refuse a wrong type first
def test_parameters_are_checked(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"subset\.{key}.* must be .*, got"):
        params(**{"budget": 1, key: value})  # type: ignore[arg-type]


def test_an_unknown_sampler_is_an_error_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="bottom, ccs, facility_location, k_center, middle, mmd, random or top"):
        params(1, sampler="oracle")


def test_lists_are_looked_up_in_the_pool(tmp_path: Path, toy_source: Source, pictures: Pictures) -> None:
    (tmp_path / "out.txt").write_text("toy/cs\n7\n")
    pool = join_pool(Pool(), unread(checked(toy_source, pictures)[0]), 1)
    left = remove(pool, pd.DataFrame({"sample_id": [5], "reason": "x"}), 1)
    found = list_requests(left, tmp_path, params(3, include=["toy/one", 5], exclude=["@out.txt"]))
    assert found.to_dict("list") == {"sample_id": [1, 6, 7], "include": [True, False, False]}
    with pytest.raises(ValueError, match=r"subset.include and subset.exclude both name sample 1"):
        list_requests(left, tmp_path, params(3, include=[1], exclude=["toy/one"]))
    with pytest.raises(ValueError, match=r"subset.exclude: there is no sample 'toy/nine'"):
        list_requests(left, tmp_path, params(3, exclude=["toy/nine"]))
