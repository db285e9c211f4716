"""A card for each cluster, for readers: what it is made of and about. Known labels are shown; they decide nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from adapt_infinity.pool.pool import Pool
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.pseudo_skills.matching import follows
from adapt_infinity.pseudo_skills.params import PseudoSkillParams
from adapt_infinity.pseudo_skills.words import said, typical_words

TOP = 3  # sources and skills named on a card
NEAREST = 5  # samples on a card


def describe_clusters(
    features: Features,
    pool: Pool,
    clusters: pd.DataFrame,
    cluster_links: pd.DataFrame,
    k_sweep: pd.DataFrame,
    params: PseudoSkillParams,
) -> pd.DataFrame:
    """The cluster_cards table: see `describe`; then label (see `label`), follows (the cluster of the round before
    that it goes on with, −1: none) and note (why there are fewer clusters than k, or "").
    """
    cards = describe(clusters, pool.index, features.scores)
    return cards.assign(
        label=cards["cluster"].map(label(clusters, pool, params.label_rows, params.seed)),
        follows=follows(cluster_links, cards["cluster"]),
        note=k_sweep.loc[k_sweep["chosen"], "note"].iloc[0],
    )


def describe(clusters: pd.DataFrame, pool_rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """A card for each cluster.

    cluster, size, cohesion (mean cosine to the centroid), top_sources ("vqa 62 %, …"), top_skill,
    top_skill_share, top_skills (as top_sources), skill_shares (every skill and its share, the largest first),
    mean_<column> of each column of the scores, nearest (ids of the rows nearest to the centroid, the nearest first).
    """
    rows = clusters.merge(pool_rows[["sample_id", "source", "skill"]], on="sample_id", validate="one_to_one")
    rows = rows.merge(scores, on="sample_id", validate="one_to_one")
    assert len(rows) == len(clusters)
    measured = [column for column in scores.columns if column != "sample_id"]
    grouped = rows.groupby("cluster")
    cards = pd.DataFrame({"size": grouped.size(), "cohesion": grouped["similarity"].mean()})
    skills = _shares(rows, "skill")
    first = skills[skills["place"] == 0].set_index("cluster")
    cards["top_sources"] = _in_words(_shares(rows, "source"), "source")
    cards["top_skill"], cards["top_skill_share"] = first["skill"], first["share"]
    cards["top_skills"] = _in_words(skills, "skill")
    cards["skill_shares"] = skills.groupby("cluster")[["skill", "share"]].apply(lambda part: part.to_dict("records"))
    cards = cards.join(grouped[measured].mean().add_prefix("mean_"))
    nearest = rows.sort_values(["cluster", "similarity", "sample_id"], ascending=[True, False, True])
    cards["nearest"] = nearest.groupby("cluster").head(NEAREST).groupby("cluster")["sample_id"].agg(list)
    return cards.reset_index()


def label(clusters: pd.DataFrame, pool: Pool, rows: int, seed: int) -> dict[int, str]:
    """What each cluster is about in its own words, questions and answers: those that are typical of it (words.py).

    At most `rows` samples of a cluster are read, drawn by `seed`.
    """
    texts: dict[int, list[str]] = {}
    drawn = _drawn(clusters, rows, seed)
    turns = pool.fetch(drawn["sample_id"].to_numpy(np.int64), ["turns"])["turns"].to_pylist()
    for cluster, conversation in zip(drawn["cluster"], turns, strict=True):
        texts.setdefault(int(cluster), []).append(said(conversation, "user", "assistant"))
    typical = typical_words(texts)
    return {cluster: " · ".join(found) or "no words" for cluster, found in typical.items()}


def nearest_samples(cards: pd.DataFrame, count: int) -> Int[np.ndarray, " samples"]:
    """The ids of each card's nearest samples, card after card."""
    return np.array([sample for nearest in cards["nearest"] for sample in list(nearest)[:count]], dtype=np.int64)


def first_question(turns: Sequence[Mapping[str, Any]]) -> str:
    """What is asked first, on one line."""
    asked = next((turn for turn in turns if turn["role"] == "user"), None)
    return " ".join(said([asked], "user").split()) if asked is not None else ""


def _drawn(clusters: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    order = np.random.default_rng([seed]).permutation(len(clusters))
    return clusters.sort_values("sample_id").iloc[order].groupby("cluster").head(rows).sort_values("sample_id")


def _shares(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Each value's share of its cluster and its place (0 = most frequent; ties by name), by place."""
    counts = rows.groupby(["cluster", column]).size().rename("count").reset_index()
    counts["share"] = counts["count"] / counts.groupby("cluster")["count"].transform("sum")
    counts = counts.sort_values(["cluster", "count", column], ascending=[True, False, True])
    return counts.assign(place=counts.groupby("cluster").cumcount())


def _in_words(shares: pd.DataFrame, column: str) -> pd.Series:
    """The largest shares of each cluster: "vqa 62 %, …"."""
    words = shares[column] + " " + (100 * shares["share"]).round().astype(int).astype(str) + " %"
    return words[shares["place"] < TOP].groupby(shares["cluster"]).agg(", ".join)
