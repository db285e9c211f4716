"""Cluster cards: composition, label and nearest samples of each cluster."""

import numpy as np
import pandas as pd
import pytest

from adapt_infinity.pseudo_skills import cards
from adapt_infinity.pseudo_skills.cards import (
    describe,
    describe_clusters,
    first_question,
    label_clusters,
    nearest_samples,
)
from adapt_infinity.pseudo_skills.finding import find_pseudo_skills
from adapt_infinity.pseudo_skills.matching import start_clusters
from tests.pseudo_skills.planted import features_of, params, planted, pool_of
from tests.subset.defaults import StubFeatures


def test_cards_by_hand() -> None:
    clusters = pd.DataFrame({"sample_id": [0, 1, 2, 3], "cluster": [0, 0, 0, 1], "similarity": [0.9, 1.0, 0.9, 1.0]})
    pool_rows = pd.DataFrame({"sample_id": range(4), "source": list("abba"), "skill": ["s0", "s1", "s1", "s2"]})
    scores = pd.DataFrame({"sample_id": range(4), "el2n": [0.0, 0.25, 0.5, 1.0]})
    table = describe(clusters, pool_rows, scores)
    card = table.iloc[0]
    assert (card["cluster"], card["size"], card["cohesion"]) == (0, 3, pytest.approx(2.8 / 3))
    assert card["top_sources"] == "b 67 %, a 33 %"
    assert (card["top_skill"], card["top_skill_share"]) == ("s1", pytest.approx(2 / 3))
    assert card["top_skills"] == "s1 67 %, s0 33 %"
    assert card["skill_shares"] == [
        {"skill": "s1", "share": pytest.approx(2 / 3)},
        {"skill": "s0", "share": pytest.approx(1 / 3)},
    ]
    assert card["mean_el2n"] == pytest.approx(0.25)
    assert card["nearest"] == [1, 0, 2]
    assert nearest_samples(table, 2).tolist() == [1, 0, 3]


def test_a_label_is_made_of_the_typical_words() -> None:
    """Words that all questions share are left out, and at most `rows` samples of a cluster are read."""
    pool = pool_of(
        [f"what colour is the {thing}" if n % 2 else f"where is the {thing}" for n, thing in enumerate("ab" * 9)]
    )
    clusters = pd.DataFrame({"sample_id": np.arange(18), "cluster": np.arange(18) % 2, "similarity": 1.0})
    labels = label_clusters(clusters, pool, rows=5, seed=0)
    assert labels[1].split(" · ")[:2] == ["b", "colour"]
    assert labels[0].split(" · ")[:2] == ["a", "where"]
    assert cards._drawn(clusters, 5, 0).groupby("cluster").size().tolist() == [5, 5]
    assert label_clusters(clusters, pool, 5, 0) == labels


def test_cards_of_a_round() -> None:
    rows, skill = planted(n=60, skills=3, noise=0.3)
    planted_features = features_of(rows)
    scores = planted_features.scores.assign(sample_id=np.arange(60))
    features = StubFeatures(np.arange(60), planted_features.gradients, planted_features.embeddings, scores)
    pool = pool_of([f"the {'abc'[n]}?" for n in skill], [f"s{n}" for n in skill])
    clusters, sweep = find_pseudo_skills(features, pool, start_clusters(), params(k=3))
    links = pd.DataFrame({"cluster": [1], "previous": [7], "follows": [True]})
    table = describe_clusters(features, pool, clusters, links, sweep, params())
    assert table["follows"].tolist() == [-1, 7, -1]
    assert table["top_skill_share"].tolist() == [1.0] * 3
    assert table["note"].tolist() == [""] * 3
    assert table["size"].tolist() == [20] * 3
    assert table["label"].tolist() == table["top_skill"].map({"s0": "a", "s1": "b", "s2": "c"}).tolist()


def test_missing_columns_and_samples_are_named() -> None:
    clusters = pd.DataFrame({"sample_id": [0, 1], "cluster": [0, 0], "similarity": [1.0, 1.0]})
    pool_rows = pd.DataFrame({"sample_id": [0, 1], "source": "a", "skill": "s"})
    scores = pd.DataFrame({"sample_id": [0], "el2n": [0.5]})
    with pytest.raises(ValueError, match="pool_rows lacks columns: skill"):
        describe(clusters, pool_rows.drop(columns="skill"), scores)
    with pytest.raises(ValueError, match="clusters has 2 samples, but only 1 of them"):
        describe(clusters, pool_rows, scores)


def test_the_first_question_is_on_one_line() -> None:
    turns = [{"role": "assistant", "text": "hm"}, {"role": "user", "text": "<image>\nWhat \n is it?"}]
    assert first_question(turns) == "What is it?"
    assert first_question(turns[:1]) == ""
