"""Strategies: the contract of all, and the rule of each."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity import strategies
from adapt_infinity.selector_experts.choosing import choose_experts
from adapt_infinity.selector_experts.scoring import start_record
from adapt_infinity.strategies import adapt_inf_lite, oasis
from tests.conftest import PROJECT, examples
from tests.pruning.test_removals import params as pruning_params
from tests.pseudo_skills.planted import params as cluster_params
from tests.selector_experts.test_choosing import params as selector_params
from tests.subset.defaults import NO_REQUESTS, StubFeatures, subset_params

NAMES = strategies.names()
FILES = {"probe": "features"}  # where a stage's parameters have another file
INPUTS = {
    *("pool_rows", "round", "features", "clusters", "scores", "cluster_experts", "requests", "must_keep"),
    *("subset_params", "pruning_params", "question_clusters", "previous_subset"),
}
SHORTLIST_INPUTS = {
    "joined_rows",
    "joined_parts",
    "must_keep",
    "pseudo_skills_params",
    "pruning_params",
    "shortlist_params",
}


def entries(
    n: int, budget: int, pool_size: int, order: list[int] | None = None, must_keep: Sequence[int] = ()
) -> dict[str, Any]:
    """The catalog of a round with n pool rows, a third of which arrived in this round."""
    rng = np.random.default_rng(n)
    ids = 4 * np.arange(n) + 1
    order = order or list(range(n))
    skill = np.where(np.arange(n) % 10 == 0, "rare", "common")
    clusters = pd.DataFrame(
        {"sample_id": ids, "cluster": (np.arange(n) % 4).astype(np.int32), "similarity": np.float32(0.5)}
    )
    values = {name: rng.random(n) for name in ("el2n", "grand", "fisher_trace")}
    scores = pd.DataFrame({"sample_id": ids, **values, "nll": 1.0})
    pool_rows = pd.DataFrame({"sample_id": ids, "round": np.arange(n) % 3 + 1, "source": "charts", "skill": skill})
    rows = rng.normal(size=(n, 6)).astype(np.float16)
    return {
        "pool_rows": pool_rows.iloc[order],
        "features": StubFeatures(ids[order], rows[order], rows[order], scores.iloc[order]),
        "clusters": clusters.iloc[order],
        "question_clusters": clusters.iloc[order],
        "previous_subset": start_record()[1],
        "scores": scores.iloc[order],
        "cluster_experts": choose_experts(clusters, scores, *start_record(), selector_params(["el2n", "grand"]), 1),
        "requests": NO_REQUESTS,
        "subset_params": subset_params(budget, cut_tails=True),
        "must_keep": pool_rows[pool_rows["sample_id"].isin(must_keep)],
        "pruning_params": pruning_params(pool_size),
        "round": 3,
    }


def call(name: str, function: str, catalog: dict[str, Any]) -> pd.DataFrame:
    """Call a function of the strategy as the pipeline does: arguments are taken by name."""
    called = getattr(strategies.load(name), function)
    return called(**{argument: catalog[argument] for argument in inspect.signature(called).parameters})


def keeps_all(name: str) -> bool:
    """Whether the strategy has no limit of the pool size."""
    return getattr(strategies.load(name), "KEEPS_ALL", False)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_catalog_names(name: str) -> None:
    strategy = strategies.load(name)
    for function in ("select", "keep"):
        assert set(inspect.signature(getattr(strategy, function)).parameters) <= INPUTS
    if hasattr(strategy, "shortlist"):
        assert set(inspect.signature(strategy.shortlist).parameters) <= SHORTLIST_INPUTS


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_known_parameters(name: str) -> None:
    """A strategy sets only parameters that the configuration has."""
    for stage, preset in strategies.presets(name).items():
        known = yaml.safe_load((PROJECT / f"conf/base/parameters_{FILES.get(stage, stage)}.yml").read_text())
        assert preset.keys() <= known[stage].keys(), (stage, preset)


def test_a_strategy_with_an_argument() -> None:
    assert strategies.presets("score:el2n")["selector_experts"] == {"choice": "fixed", "experts": ["el2n"]}
    assert strategies.presets("score:el2n")["pseudo_skills"] == {"k": 1}
    probes = {name: strategies.presets(f"score:{name}")["probe"] for name in ("el2n", "grand", "image_grounding")}
    assert probes["el2n"] == {"feature": "embedding", "image_grounding": False}, "a forward pass is enough"
    assert probes["grand"] == {"image_grounding": False}
    assert probes["image_grounding"] == {"feature": "embedding", "image_grounding": True}
    assert strategies.presets("score:uniqueness")["probe"] == {"image_grounding": False}
    assert strategies.presets("score:tokens")["probe"] == probes["el2n"], "counted in every pass"
    assert strategies.pipeline_name("score:el2n") == "round_score"
    assert strategies.pipeline_name("adapt_inf") == "round"
    assert strategies.of_pipeline("round_score") == "score"
    with pytest.raises(ValueError, match="strategy 'random' takes no argument, got 'random:el2n'"):
        strategies.presets("random:el2n")
    with pytest.raises(ValueError, match="there is no 'skore' in strategies"):
        strategies.presets("skore:el2n")


def test_given_parameters_replace_presets() -> None:
    under: dict[str, Any] = {"probe": {"feature": "embedding", "dim": 8}, "subset": {"sampler": "top"}}
    over = {"probe": {"feature": "gradient"}, "seed": 1}
    assert strategies.merged(under, over) == {
        "probe": {"feature": "gradient", "dim": 8},
        "subset": {"sampler": "top"},
        "seed": 1,
    }
    assert under["probe"]["feature"] == "embedding", "the arguments are not changed"


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(0, 40), st.integers(1, 50))
@examples(20)
def test_budgets_are_exact(name: str, n: int, budget: int) -> None:
    catalog = entries(n, budget, budget)
    subset, removals = call(name, "select", catalog), call(name, "keep", catalog)
    arrived = name in ("sequential", "independent")
    candidates = (catalog["pool_rows"]["round"] == 3).sum() if arrived else n
    asked = 3 * budget if name == "multitask" else budget  # of three rounds together
    assert subset["selected"].sum() == min(asked, candidates)
    assert subset["sample_id"].tolist() == catalog["pool_rows"]["sample_id"].tolist()
    assert n - len(removals) == (n if keeps_all(name) else min(budget, n))
    assert removals["sample_id"].is_unique
    assert set(removals["sample_id"]) <= set(subset["sample_id"])


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(1, 40), st.integers(1, 50), st.data())
@examples(20)
def test_protected_samples_are_kept(name: str, n: int, pool_size: int, data: st.DataObject) -> None:
    listed = data.draw(st.lists(st.sampled_from((4 * np.arange(n) + 1).tolist()), max_size=pool_size, unique=True))
    removals = call(name, "keep", entries(n, 1, pool_size, must_keep=listed))
    assert n - len(removals) == (n if keeps_all(name) else min(pool_size, n))
    assert not set(removals["sample_id"]) & set(listed)


@pytest.mark.parametrize("name", NAMES)
@given(st.permutations(range(30)))
@examples(20)
def test_the_order_of_rows_does_not_matter(name: str, order: list[int]) -> None:
    plain, shuffled = entries(30, 7, 11), entries(30, 7, 11, order)
    subset = call(name, "select", shuffled).sort_values("sample_id", ignore_index=True)
    pd.testing.assert_frame_equal(subset, call(name, "select", plain))
    pd.testing.assert_frame_equal(call(name, "keep", shuffled), call(name, "keep", plain))


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_the_same_columns_and_types(name: str) -> None:
    catalog = entries(30, 7, 11)
    for function in ("select", "keep"):
        table, reference = call(name, function, catalog), call("adapt_inf", function, catalog)
        assert table[list(reference)].dtypes.to_dict() == reference.dtypes.to_dict()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_not_changed(name: str) -> None:
    catalog, untouched = entries(30, 7, 11), entries(30, 7, 11)
    call(name, "select", catalog), call(name, "keep", catalog)
    for entry in ("pool_rows", "clusters", "cluster_experts", "must_keep"):
        pd.testing.assert_frame_equal(catalog[entry], untouched[entry])
    pd.testing.assert_frame_equal(catalog["features"].scores, untouched["features"].scores)


def test_sequential_selects_only_arrivals() -> None:
    subset = call("sequential", "select", entries(30, 7, 11))
    assert set(subset["round"][subset["selected"]]) == {3}


def test_random_selects_from_every_round_and_anew_in_each_round() -> None:
    catalog = entries(60, 20, 30)
    subset = call("random", "select", catalog)
    assert set(subset["round"][subset["selected"]]) == {1, 2, 3}
    later = call("random", "select", {**catalog, "round": 4})
    assert subset["selected"].tolist() != later["selected"].tolist()


def test_rows_without_a_score_are_marked() -> None:
    subset = call("random", "select", entries(9, 2, 3))
    assert (subset["cluster"] == -1).all()
    assert (subset["stratum"] == -1).all()
    assert (subset["expert"] == "").all()
    assert subset["score"].isna().all()


def test_skill_balanced_takes_the_rare_skill_whole() -> None:
    """4 of 40 rows are rare: a budget of 8 takes 4 of each skill, and a pool of 8 keeps 4 of each."""
    catalog = entries(40, 8, 8)
    subset, removals = call("skill_balanced", "select", catalog), call("skill_balanced", "keep", catalog)
    assert subset["skill"][subset["selected"]].value_counts().to_dict() == {"rare": 4, "common": 4}
    kept = subset[~subset["sample_id"].isin(removals["sample_id"])]
    assert kept["skill"].value_counts().to_dict() == {"rare": 4, "common": 4}


@pytest.mark.parametrize(
    ("name", "function", "entry", "column"),
    [
        ("random", "select", "pool_rows", "source"),
        ("sequential", "select", "pool_rows", "round"),
        ("skill_balanced", "select", "pool_rows", "skill"),
        ("skill_balanced", "keep", "pool_rows", "skill"),
        ("text_balanced", "select", "question_clusters", "cluster"),
        ("semdedup", "select", "clusters", "cluster"),
        ("adapt_inf", "select", "scores", "grand"),
    ],
)
def test_a_missing_column_is_named(name: str, function: str, entry: str, column: str) -> None:
    catalog = entries(12, 4, 6)
    catalog["cluster_experts"] = catalog["cluster_experts"].assign(expert="grand")
    catalog[entry] = catalog[entry].drop(columns=column)
    with pytest.raises(ValueError, match=f"^{entry} lacks columns: {column}"):
        call(name, function, catalog)


def test_an_unknown_strategy_is_an_error_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"adapt_inf, adapt_inf_lite, coincide, .* text_balanced"):
        strategies.load("oracle")


def test_multitask_keeps_everything_and_grows() -> None:
    catalog = entries(40, 5, 7)
    assert call("multitask", "select", catalog)["selected"].sum() == 15
    assert len(call("multitask", "keep", catalog)) == 0


@pytest.mark.parametrize(
    ("name", "start"), [("multitask", "genesis"), ("independent", "genesis"), ("random", "previous")]
)
def test_the_adapter_that_a_round_starts_from(name: str, start: str) -> None:
    from adapt_infinity.pipelines import round

    pipeline = round.create_pipeline(name)
    (training,) = [node for node in pipeline.nodes if node.short_name == "train_adapter"]
    assert f"{start}_adapter" in training.inputs


def test_text_balanced_divides_over_question_clusters_without_a_probe() -> None:
    catalog = entries(40, 12, 11)
    subset = call("text_balanced", "select", catalog)
    chosen = subset[subset["selected"]].merge(catalog["question_clusters"][["sample_id", "cluster"]], on="sample_id")
    assert chosen["cluster_y"].value_counts().tolist() == [3, 3, 3, 3]
    assert "features" not in inspect.signature(strategies.load("text_balanced").select).parameters


def test_semdedup_takes_one_of_each_group_of_duplicates() -> None:
    """Four directions with three equal rows each: a budget of four takes one of each."""
    catalog = entries(12, 4, 12)
    rows = np.repeat(np.eye(6, dtype=np.float16)[:4], 3, axis=0)
    catalog["features"] = StubFeatures(catalog["features"].sample_ids, rows, rows, catalog["features"].scores)
    catalog["clusters"] = catalog["clusters"].assign(cluster=np.int32(0))
    catalog["cluster_experts"] = choose_experts(
        catalog["clusters"], catalog["scores"], *start_record(), selector_params(["el2n"]), 1
    )
    chosen = call("semdedup", "select", catalog)["selected"].to_numpy().reshape(4, 3)
    assert chosen.sum(axis=1).tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="are not for semdedup"):
        call(
            "semdedup",
            "select",
            {**catalog, "requests": NO_REQUESTS.assign(include=False).reindex([0]).assign(include=False)},
        )


def test_oasis_averages_by_hand() -> None:
    """First batch of 32: mean 1, variance 1; second all 3: mean 1 + 0.1·2, variance 0.9 (1 + 0.1·4)."""
    first = np.tile([0.0, 2.0], 16)
    average, variance = oasis.running_averages(np.concatenate([first, np.full(32, 3.0)]), start_record()[1])
    assert (average, variance) == pytest.approx((1.2, 1.26))
    before = pd.DataFrame({"average": [1.0], "variance": [1.0]})
    assert oasis.running_averages(np.full(32, 3.0), before) == pytest.approx((1.2, 1.26)), "the next round continues"


def test_the_threshold_of_oasis_gives_the_budget_in_expectation() -> None:
    z = np.random.default_rng(0).normal(size=200)
    threshold = oasis.threshold_for(z, 50)
    assert (1 / (1 + np.exp(threshold - z))).sum() == pytest.approx(50)


def test_oasis_prefers_informative_samples_that_are_not_duplicates() -> None:
    """Half of the rows are duplicates, the others orthogonal: with equal z, the latter are taken more often."""
    counts = np.zeros(2)
    z, all_rows, no_rows = np.zeros(400), np.ones(400, dtype=bool), np.zeros(400, dtype=bool)
    vectors = np.concatenate([np.tile([1.0] + [0.0] * 200, (200, 1)), np.eye(201)[1:]]).astype(np.float32)
    for seed in range(5):
        drawn, _ = oasis.draw_in_passes(z, vectors, all_rows, no_rows, 100, np.random.default_rng(seed))
        assert drawn.sum() == 100
        counts += [drawn[:200].sum(), drawn[200:].sum()]
    assert counts[1] > 2 * counts[0]
    z = np.concatenate([np.full(200, 2.0), np.full(200, -2.0)])
    drawn, passes = oasis.draw_in_passes(
        z, np.eye(400, dtype=np.float32), all_rows, no_rows, 100, np.random.default_rng(0)
    )
    assert drawn[:200].sum() > 80
    assert (passes[drawn] >= 0).all()
    assert (passes[~drawn] == -1).all()


def test_lite_shortens_the_pool_and_keeps_protected_samples() -> None:
    rows = entries(30, 7, 11)["pool_rows"]
    vectors = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float16)
    parts = pd.DataFrame({"sample_id": rows["sample_id"], "vector": list(vectors)}).sample(frac=1, random_state=0)
    given: dict[str, Any] = {"pseudo_skills_params": cluster_params(k=3), "pruning_params": pruning_params(50)}
    small, big = (adapt_inf_lite.ShortlistParams(pool_size=size) for size in (12, 30))
    listed = rows[rows["sample_id"].isin([1, 5, 9])]
    removals = adapt_inf_lite.shortlist(rows, parts, listed, **given, shortlist_params=small)
    assert len(removals) == 18
    assert not set(removals["sample_id"]) & {1, 5, 9}
    assert len(adapt_inf_lite.shortlist(rows, parts, listed, **given, shortlist_params=big)) == 0
    with pytest.raises(ValueError, match=r"shortlist.pool_size must be at least 1, got 0"):
        adapt_inf_lite.ShortlistParams(pool_size=0)


def test_lite_probes_only_the_remaining_pool() -> None:
    from adapt_infinity.pipelines import round

    pipeline = round.create_pipeline("adapt_inf_lite")
    made = {output: node for node in pipeline.nodes for output in node.outputs}
    assert "joined_pool" in made["joined_parts"].inputs
    assert made["pool"].short_name == "prune_first"
    assert "pool" in made["features"].inputs
