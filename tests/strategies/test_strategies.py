"""What every strategy keeps to, and what sets each apart."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt_infinity import strategies
from adapt_infinity.selection.scoring import start_record
from adapt_infinity.selection.selector import choose_experts
from tests.pruning.test_pruning import params as pruning_params
from tests.selection.test_selector import params as selector_params
from tests.selection.usual import NO_REQUESTS, Read, subset_params

NAMES = strategies.names()
INPUTS = {
    *("pool_rows", "round", "features", "clusters", "scores", "cluster_experts", "requests", "must_keep"),
    *("subset_params", "pruning_params"),
}


def entries(
    n: int, budget: int, pool_size: int, order: list[int] | None = None, must_keep: Sequence[int] = ()
) -> dict[str, Any]:
    """The catalog of a round with n pool rows, those of the last round being a third."""
    rng = np.random.default_rng(n)
    ids = 4 * np.arange(n) + 1
    order = order or list(range(n))
    skill = np.where(np.arange(n) % 10 == 0, "rare", "common")
    clusters = pd.DataFrame(
        {"sample_id": ids, "cluster": (np.arange(n) % 4).astype(np.int32), "similarity": np.float32(0.5)}
    )
    scores = pd.DataFrame({"sample_id": ids, "el2n": rng.random(n), "grand": rng.random(n), "nll": 1.0})
    pool_rows = pd.DataFrame({"sample_id": ids, "round": np.arange(n) % 3 + 1, "source": "charts", "skill": skill})
    rows = rng.normal(size=(n, 6)).astype(np.float16)
    return {
        "pool_rows": pool_rows.iloc[order],
        "features": Read(ids[order], rows[order], rows[order], scores.iloc[order]),
        "clusters": clusters.iloc[order],
        "scores": scores.iloc[order],
        "cluster_experts": choose_experts(clusters, scores, *start_record(), selector_params(["el2n", "grand"]), 1),
        "requests": NO_REQUESTS,
        "subset_params": subset_params(budget, cut_tails=True),
        "must_keep": pool_rows[pool_rows["sample_id"].isin(must_keep)],
        "pruning_params": pruning_params(pool_size),
        "round": 3,
    }


def call(name: str, function: str, catalog: dict[str, Any]) -> pd.DataFrame:
    """As the pipeline does it: arguments are taken by name."""
    verb = getattr(strategies.load(name), function)
    return verb(**{argument: catalog[argument] for argument in inspect.signature(verb).parameters})


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_catalog_names(name: str) -> None:
    for function in ("select", "keep"):
        assert set(inspect.signature(getattr(strategies.load(name), function)).parameters) <= INPUTS


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(0, 40), st.integers(1, 50))
@settings(max_examples=20, deadline=None)
def test_budgets_are_exact(name: str, n: int, budget: int) -> None:
    catalog = entries(n, budget, budget)
    subset, removals = call(name, "select", catalog), call(name, "keep", catalog)
    candidates = (catalog["pool_rows"]["round"] == 3).sum() if name == "sequential" else n
    assert subset["selected"].sum() == min(budget, candidates)
    assert subset["sample_id"].tolist() == catalog["pool_rows"]["sample_id"].tolist()
    assert n - len(removals) == min(budget, n)
    assert removals["sample_id"].is_unique
    assert set(removals["sample_id"]) <= set(subset["sample_id"])


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(1, 40), st.integers(1, 50), st.data())
@settings(max_examples=20, deadline=None)
def test_must_keeps_are_kept(name: str, n: int, pool_size: int, data: st.DataObject) -> None:
    listed = data.draw(st.lists(st.sampled_from((4 * np.arange(n) + 1).tolist()), max_size=pool_size, unique=True))
    removals = call(name, "keep", entries(n, 1, pool_size, must_keep=listed))
    assert n - len(removals) == min(pool_size, n)
    assert not set(removals["sample_id"]) & set(listed)


@pytest.mark.parametrize("name", NAMES)
@given(st.permutations(range(30)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_changes_nothing(name: str, order: list[int]) -> None:
    plain, shuffled = entries(30, 7, 11), entries(30, 7, 11, order)
    subset = call(name, "select", shuffled).sort_values("sample_id", ignore_index=True)
    pd.testing.assert_frame_equal(subset, call(name, "select", plain))
    pd.testing.assert_frame_equal(call(name, "keep", shuffled), call(name, "keep", plain))


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_one_shape(name: str) -> None:
    catalog = entries(30, 7, 11)
    for function in ("select", "keep"):
        table, usual = call(name, function, catalog), call("adapt_inf", function, catalog)
        assert table.dtypes.to_dict() == usual.dtypes.to_dict()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_not_written_into(name: str) -> None:
    catalog, untouched = entries(30, 7, 11), entries(30, 7, 11)
    call(name, "select", catalog), call(name, "keep", catalog)
    for entry in ("pool_rows", "clusters", "cluster_experts", "must_keep"):
        pd.testing.assert_frame_equal(catalog[entry], untouched[entry])
    pd.testing.assert_frame_equal(catalog["features"].scores, untouched["features"].scores)


def test_sequential_reads_only_arrivals() -> None:
    subset = call("sequential", "select", entries(30, 7, 11))
    assert set(subset["round"][subset["selected"]]) == {3}


def test_random_reads_every_round_and_another_round_draws_anew() -> None:
    catalog = entries(60, 20, 30)
    subset = call("random", "select", catalog)
    assert set(subset["round"][subset["selected"]]) == {1, 2, 3}
    later = call("random", "select", {**catalog, "round": 4})
    assert subset["selected"].tolist() != later["selected"].tolist()


def test_unjudged_rows_say_so() -> None:
    subset = call("random", "select", entries(9, 2, 3))
    assert (subset["cluster"] == -1).all()
    assert (subset["stratum"] == -1).all()
    assert (subset["expert"] == "").all()
    assert subset["score"].isna().all()


def test_skill_balanced_takes_the_rare_skill_whole() -> None:
    """4 of 40 rows are rare: a budget of 8 is 4 of each, and so is a pool of 8."""
    catalog = entries(40, 8, 8)
    subset, removals = call("skill_balanced", "select", catalog), call("skill_balanced", "keep", catalog)
    assert subset["skill"][subset["selected"]].value_counts().to_dict() == {"rare": 4, "common": 4}
    kept = subset[~subset["sample_id"].isin(removals["sample_id"])]
    assert kept["skill"].value_counts().to_dict() == {"rare": 4, "common": 4}


def test_an_unknown_strategy_names_the_known() -> None:
    with pytest.raises(ValueError, match="adapt_inf, random, sequential, skill_balanced"):
        strategies.load("oracle")
