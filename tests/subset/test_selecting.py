"""The subset table: exact, the same at any order of rows, and every pool row accounted for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt_infinity import registry
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.intake.reading import Source
from adapt_infinity.pool.pool import Pool, join_pool, remove
from adapt_infinity.selector_experts.choosing import choose_experts
from adapt_infinity.selector_experts.scoring import start_record
from adapt_infinity.subset import shares as rules
from adapt_infinity.subset.constraints import list_requests
from adapt_infinity.subset.selecting import SAMPLERS, select_subset, uniform_subset
from tests.conftest import checked, unread
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
@pytest.mark.parametrize("sampler", registry.names(SAMPLERS))
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 80))
@settings(max_examples=15, deadline=None)
def test_the_budget_is_exact_and_no_row_is_missing(shares: str, sampler: str, cluster: list[int], budget: int) -> None:
    tables = stage(cluster)
    subset = select_subset(*tables, params(budget, shares=shares, sampler=sampler))
    assert subset.columns.tolist() == COLUMNS
    assert subset["sample_id"].tolist() == tables[0]["sample_id"].tolist()
    assert subset["selected"].sum() == min(budget, len(cluster))


@pytest.mark.parametrize("sampler", registry.names(SAMPLERS))
@given(st.permutations(range(40)), st.sampled_from(SHARES))
@settings(max_examples=15, deadline=None)
def test_the_order_of_rows_changes_nothing_else(sampler: str, order: list[int], shares: str) -> None:
    pool_rows, clusters, scores, read, experts, nothing = stage([row % 3 for row in range(40)])
    settings = params(11, shares=shares, sampler=sampler)
    expected = select_subset(pool_rows, clusters, scores, read, experts, nothing, settings)
    moved = order[5:] + order[:5]
    subset = select_subset(
        pool_rows.iloc[order],
        clusters.iloc[order[::-1]],
        scores.iloc[order[7:] + order[:7]],
        StubFeatures(read.sample_ids[moved], read.gradients[moved], read.embeddings[moved], scores.iloc[moved]),
        experts,
        nothing,
        settings,
    )
    pd.testing.assert_frame_equal(subset.sort_values("sample_id", ignore_index=True), expected)
    assert subset["sample_id"].tolist() == pool_rows["sample_id"].iloc[order].tolist()


def test_by_hand() -> None:
    """Three clusters of 1, 3 and 8, a budget of 7: 1, 3, 3; and every row says who judged it and how."""
    tables = stage([5] * 8 + [2] + [9] * 3)
    subset = select_subset(*tables, params(7, sampler="top"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {2: 1, 5: 3, 9: 3}
    _, _, scores, _, experts, _ = tables
    named = experts[experts["chosen"]].set_index("cluster")["expert"]
    assert subset["expert"].tolist() == named.loc[subset["cluster"]].tolist()
    assert subset["score"].tolist() == [scores.loc[row, expert] for row, expert in enumerate(subset["expert"])]
    large = subset[subset["cluster"] == 5]
    assert large["score"][large["selected"]].min() > large["score"][~large["selected"]].max()


def test_one_cluster_does_not_change_what_another_draws() -> None:
    """Each cluster draws from its own generator: with the same share, its rows stay."""
    pool_rows, clusters, scores, read, experts, nothing = stage([0] * 20 + [1] * 20)
    both = select_subset(pool_rows, clusters, scores, read, experts, nothing, params(10, sampler="random"))
    first = slice(0, 20)
    alone = select_subset(
        pool_rows[first],
        clusters[first],
        scores[first],
        StubFeatures(read.sample_ids[first], read.gradients[first], read.embeddings[first], scores[first]),
        experts,
        nothing,
        params(5, sampler="random"),
    )
    assert both["selected"][first].tolist() == alone["selected"].tolist()


def test_score_std_shares_go_to_the_spread() -> None:
    """EL2N spreads three times as far in the second cluster: it gets three times as much."""
    pool_rows, clusters, scores, read, experts, nothing = stage([0] * 40 + [1] * 40)
    scores["el2n"] = [0.4, 0.6] * 20 + [0.2, 0.8] * 20
    subset = select_subset(pool_rows, clusters, scores, read, experts, nothing, params(40, shares="score_std"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {0: 10, 1: 30}


def test_density_shares_by_hand() -> None:
    """Centroids e1, e2, -e1: mean distances 1.5, 1, 1.5; spreads 0.2, 0.4, 0.2; weights 3 : 4 : 3."""
    gradients = np.repeat(np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float16), 50, axis=0)
    pool_rows, clusters, scores, read, experts, nothing = stage([0] * 50 + [1] * 50 + [2] * 50, gradients)
    clusters["similarity"] = np.repeat(np.array([0.8, 0.6, 0.8], dtype=np.float32), 50)
    subset = select_subset(pool_rows, clusters, scores, read, experts, nothing, params(100, shares="density"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {0: 30, 1: 40, 2: 30}


def test_loss_shares_go_to_what_is_dear() -> None:
    pool_rows, clusters, scores, read, experts, nothing = stage([0] * 40 + [1] * 40)
    scores["nll"] = [1.0] * 40 + [3.0] * 40
    subset = select_subset(pool_rows, clusters, scores, read, experts, nothing, params(40, shares="loss"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {0: 10, 1: 30}


def test_forgetting_shares_go_to_what_has_risen_since_it_was_trained_on() -> None:
    """Rises of 1 and 0 (it fell); the third was never trained on, and lies 3 above the mean of the baselines."""
    pool_rows, clusters, scores, read, experts, nothing = stage([0] * 40 + [1] * 40 + [2] * 40)
    scores["nll"] = [2.0] * 40 + [0.5] * 40 + [4.0] * 40
    scores["trained_nll"] = [1.0] * 80 + [np.nan] * 40
    subset = select_subset(pool_rows, clusters, scores, read, experts, nothing, params(40, shares="forgetting"))
    assert subset.groupby("cluster")["selected"].sum().to_dict() == {0: 10, 1: 0, 2: 30}
    scores["trained_nll"] = np.nan
    first = select_subset(pool_rows, clusters, scores, read, experts, nothing, params(42, shares="forgetting"))
    assert first.groupby("cluster")["selected"].sum().to_dict() == {0: 14, 1: 14, 2: 14}


TAGS = st.sampled_from(["a", "b", "c"])


@given(
    st.lists(st.tuples(st.integers(0, 3), TAGS, TAGS), min_size=1, max_size=60),
    st.integers(1, 70),
    st.data(),
    st.sampled_from(["ccs", "top"]),
)
@settings(max_examples=150, deadline=None)
def test_limits_hold(rows: list[tuple[int, str, str]], budget: int, data: st.DataObject, sampler: str) -> None:
    """Floors are met where there are rows, caps never exceeded, lists kept, and no row is left out without a reason."""
    pool_rows, clusters, scores, read, experts, _ = stage([cluster for cluster, _, _ in rows])
    pool_rows = pool_rows.assign(source=[source for _, source, _ in rows], skill=[skill for _, _, skill in rows])
    ids = pool_rows["sample_id"].tolist()
    include = data.draw(st.lists(st.sampled_from(ids), unique=True, max_size=min(3, budget)))
    exclude = data.draw(
        st.lists(st.sampled_from([i for i in ids if i not in include] or [-1]), unique=True, max_size=5)
    )
    caps = {"source": {"a": data.draw(st.integers(0, 10))}, "skill": {"b": data.draw(st.integers(0, 10))}}
    floors = {"skill": {"c": data.draw(st.integers(0, max(0, min(10, budget - len(include)))))}}
    limits = params(budget, caps=caps, floors=floors, sampler=sampler)
    subset = select_subset(pool_rows, clusters, scores, read, experts, requests(include, exclude), limits)
    selected = subset["selected"]
    assert selected.sum() <= budget
    listed = subset["sample_id"]
    assert selected[listed.isin(include)].all()
    assert not selected[listed.isin(exclude)].any()
    closed = listed.isin(exclude)
    for tag, name in (("source", "a"), ("skill", "b")):
        mine = subset[tag] == name
        assert selected[mine].sum() <= max(caps[tag][name], (mine & listed.isin(include)).sum())
        closed |= mine & (selected[mine].sum() >= caps[tag][name])
    rest = ~selected & ~closed
    assert selected.sum() == budget or not rest.any()
    mine = subset["skill"] == "c"
    assert selected[mine].sum() >= floors["skill"]["c"] or not (rest & mine).any()


def test_a_cap_keeps_the_rows_that_the_sampler_likes_best() -> None:
    pool_rows, clusters, scores, read, experts, nothing = stage([0] * 20)
    pool_rows["skill"] = ["a", "b"] * 10
    limits = params(12, sampler="top", caps={"skill": {"a": 3}})
    subset = select_subset(pool_rows, clusters, scores, read, experts, nothing, limits)
    mine = subset[subset["skill"] == "a"]
    assert mine["selected"].sum() == 3
    assert mine["score"][mine["selected"]].min() > mine["score"][~mine["selected"]].max()
    assert subset["selected"].sum() == 12


def test_a_floor_is_taken_from_the_tag_by_its_clusters() -> None:
    """Five of the rare skill, of 60 rows that would be drawn by 6: at least as many as are asked for."""
    pool_rows, clusters, scores, read, experts, nothing = stage([row % 3 for row in range(60)])
    pool_rows["skill"] = ["rare"] * 6 + ["common"] * 54
    limits = params(10, sampler="random", floors={"skill": {"rare": 5}})
    subset = select_subset(pool_rows, clusters, scores, read, experts, nothing, limits)
    assert subset["selected"][:6].sum() >= 5
    assert subset.groupby("cluster")["selected"].sum().max() <= 4


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"floors": {"skill": {"vqa": 9}}}, r"subset.budget 3 is too small for subset.floors.skill.vqa = 9"),
        ({"floors": {"skill": {"vqa": 3}}, "caps": {"skill": {"vqa": 2}}}, r"floors.skill.vqa = 3 is above its cap"),
    ],
)
def test_limits_that_contradict_each_other(limits: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_subset(*stage([0] * 20), params(3, **limits))


def test_more_is_included_than_the_budget_allows() -> None:
    pool_rows, clusters, scores, read, experts, _ = stage([0] * 9)
    wanted = requests(pool_rows["sample_id"].tolist()[:4], [])
    with pytest.raises(ValueError, match=r"subset.include names 4 samples of the pool, subset.budget is 3"):
        select_subset(pool_rows, clusters, scores, read, experts, wanted, params(3))


@given(st.integers(1, 60), st.integers(50, 1500))
@settings(max_examples=40, deadline=None)
def test_a_token_budget_is_kept_and_used(budget: int, tokens: int) -> None:
    tables = stage([row % 4 for row in range(50)])
    cost = tables[2]["tokens"].to_numpy()
    spent = {
        limit: cost[select_subset(*tables, params(budget, token_budget=limit))["selected"].to_numpy()].sum()
        for limit in (tokens, 10**9)
    }
    assert spent[tokens] <= tokens
    assert spent[tokens] >= min(spent[10**9], tokens - 2 * cost.max() * 4)  # four clusters, a sample or two each


def test_a_token_budget_needs_a_probe() -> None:
    everyone, one_group = np.ones(9, dtype=bool), np.zeros(9, dtype=np.int64)
    with pytest.raises(ValueError, match=r"subset.token_budget needs the probe's counts"):
        uniform_subset(stage([0] * 9)[0], NO_REQUESTS, everyone, one_group, params(3, token_budget=100), 1)


def test_a_score_that_is_not_finite_names_its_sample() -> None:
    pool_rows, clusters, scores, read, experts, wishes = stage([0, 0, 0])
    scores.loc[1, EXPERTS] = np.nan
    with pytest.raises(ValueError, match=rf"of sample {pool_rows['sample_id'][1]}$"):
        select_subset(pool_rows, clusters, scores, read, experts, wishes, params(1))


def test_an_empty_pool_gives_an_empty_subset() -> None:
    assert select_subset(*stage([]), params(3)).columns.tolist() == COLUMNS
    nothing = np.zeros(0, dtype=np.int64)
    empty = uniform_subset(stage([])[0], NO_REQUESTS, nothing.astype(bool), nothing, params(3), 1)
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
def test_parameters_are_checked(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"subset\.{key}"):
        params(**{"budget": 1, key: value})  # type: ignore[arg-type]


def test_an_unknown_sampler_names_the_known() -> None:
    with pytest.raises(ValueError, match="bottom, ccs, facility_location, k_center, middle, mmd, random, top"):
        params(1, sampler="oracle")


def test_lists_name_samples_of_the_pool(tmp_path: Path, toy_source: Source, pictures: Pictures) -> None:
    (tmp_path / "out.txt").write_text("toy/cs\n7\n")
    pool = join_pool(Pool(), unread(checked(toy_source, pictures)[0]), 1)
    left = remove(pool, pd.DataFrame({"sample_id": [5], "reason": "x"}), 1)
    found = list_requests(left, tmp_path, params(3, include=["toy/one", 5], exclude=["@out.txt"]))
    assert found.to_dict("list") == {"sample_id": [1, 6, 7], "include": [True, False, False]}
    with pytest.raises(ValueError, match=r"subset.include and subset.exclude both name sample 1"):
        list_requests(left, tmp_path, params(3, include=[1], exclude=["toy/one"]))
    with pytest.raises(ValueError, match=r"subset.exclude: there is no sample 'toy/nine'"):
        list_requests(left, tmp_path, params(3, exclude=["toy/nine"]))
