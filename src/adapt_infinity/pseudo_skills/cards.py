"""A card per cluster, for readers: its size, sources, skills, mean scores, typical words and most central samples.

Known skills are shown only; they do not influence any decision.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from adapt_infinity.data.tables import require_columns
from adapt_infinity.pool.pool import Pool
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.pseudo_skills.matching import continued_clusters
from adapt_infinity.pseudo_skills.params import PseudoSkillParams
from adapt_infinity.pseudo_skills.words import turns_text, typical_words

SHOWN_VALUES = 3  # sources and skills named on a card
NEAREST_SAMPLES = 5  # samples named on a card


def describe_clusters(
    features: Features,
    pool: Pool,
    clusters: pd.DataFrame,
    cluster_links: pd.DataFrame,
    k_sweep: pd.DataFrame,
    params: PseudoSkillParams,
) -> pd.DataFrame:
    """One row per cluster: the columns of `describe`, then label, follows and note.

    label is that of `label_clusters`; follows is the cluster of the previous round that this one continues (−1: none);
    note says why there are fewer clusters than k ("" if there are not).

    cluster_links: the table of `match_clusters`; k_sweep: the table of `cluster_rows`. `ValueError` for a missing
    column.
    """
    require_columns(cluster_links, "cluster_links", ("cluster", "previous", "follows"))
    require_columns(k_sweep, "k_sweep", ("chosen", "note"))
    cards = describe(clusters, pool.index, features.scores)
    return cards.assign(
        label=cards["cluster"].map(label_clusters(clusters, pool, params.label_rows, params.seed)),
        follows=continued_clusters(cluster_links, cards["cluster"]),
        note=k_sweep.loc[k_sweep["chosen"], "note"].iloc[0],
    )


def describe(clusters: pd.DataFrame, pool_rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row per cluster, ordered by cluster.

        cluster, size
        cohesion                       mean cosine of the samples to the centroid
        top_sources, top_skills        the most frequent ones as text: "vqa 62 %, …"
        top_skill, top_skill_share     the most frequent skill and its share of the samples
        skill_shares                   a list of all skills with their shares, the largest first
        mean_<score>                   the mean of each column of `scores`
        nearest                        ids of the samples nearest to the centroid, the nearest first

    pool_rows has sample_id, source and skill. All tables must have the same samples, in any order; `ValueError` for a
    missing column, or samples that are not the same.
    """
    require_columns(clusters, "clusters", ("sample_id", "cluster", "similarity"))
    require_columns(pool_rows, "pool_rows", ("sample_id", "source", "skill"))
    require_columns(scores, "scores", ("sample_id",))
    rows = clusters.merge(pool_rows[["sample_id", "source", "skill"]], on="sample_id", validate="one_to_one")
    rows = rows.merge(scores, on="sample_id", validate="one_to_one")
    if len(rows) != len(clusters):
        raise ValueError(
            f"clusters has {len(clusters)} samples, but only {len(rows)} of them are in pool_rows and scores"
        )
    score_names = [column for column in scores.columns if column != "sample_id"]
    grouped = rows.groupby("cluster")
    cards = pd.DataFrame({"size": grouped.size(), "cohesion": grouped["similarity"].mean()})
    skills = _shares(rows, "skill")
    first = skills[skills["rank"] == 0].set_index("cluster")
    cards["top_sources"] = _as_text(_shares(rows, "source"), "source")
    cards["top_skill"], cards["top_skill_share"] = first["skill"], first["share"]
    cards["top_skills"] = _as_text(skills, "skill")
    cards["skill_shares"] = skills.groupby("cluster")[["skill", "share"]].apply(lambda rows: rows.to_dict("records"))
    cards = cards.join(grouped[score_names].mean().add_prefix("mean_"))
    nearest = rows.sort_values(["cluster", "similarity", "sample_id"], ascending=[True, False, True])
    cards["nearest"] = nearest.groupby("cluster").head(NEAREST_SAMPLES).groupby("cluster")["sample_id"].agg(list)
    return cards.reset_index()


def label_clusters(clusters: pd.DataFrame, pool: Pool, rows: int, seed: int) -> dict[int, str]:
    """A label for each cluster: the words of its questions and answers that are typical of it (words.py).

    At most `rows` samples per cluster are read, drawn by `seed`. `ValueError` for a missing column.
    """
    require_columns(clusters, "clusters", ("sample_id", "cluster"))
    texts: dict[int, list[str]] = {}
    drawn = _drawn(clusters, rows, seed)
    turns = pool.fetch(drawn["sample_id"].to_numpy(np.int64), ["turns"])["turns"].to_pylist()
    for cluster, conversation in zip(drawn["cluster"], turns, strict=True):
        texts.setdefault(int(cluster), []).append(turns_text(conversation, "user", "assistant"))
    typical = typical_words(texts)
    return {cluster: " · ".join(words) or "no words" for cluster, words in typical.items()}


def nearest_samples(cards: pd.DataFrame, count: int) -> Int[np.ndarray, " samples"]:
    """Ids of the `count` nearest samples of each card, card after card."""
    return np.array([sample for nearest in cards["nearest"] for sample in list(nearest)[:count]], dtype=np.int64)


def first_question(turns: Sequence[Mapping[str, Any]]) -> str:
    """The text of the first user turn on one line, without image placeholders; "" if there is no user turn."""
    first = next((turn for turn in turns if turn["role"] == "user"), None)
    return " ".join(turns_text([first], "user").split()) if first is not None else ""


def _drawn(clusters: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """At most `rows` random samples of each cluster, ordered by sample_id."""
    order = np.random.default_rng([seed]).permutation(len(clusters))
    return clusters.sort_values("sample_id").iloc[order].groupby("cluster").head(rows).sort_values("sample_id")


def _shares(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Each value's share of its cluster and its rank in it (0 = most frequent; ties by name), ordered by rank."""
    counts = rows.groupby(["cluster", column]).size().rename("count").reset_index()
    counts["share"] = counts["count"] / counts.groupby("cluster")["count"].transform("sum")
    counts = counts.sort_values(["cluster", "count", column], ascending=[True, False, True])
    return counts.assign(rank=counts.groupby("cluster").cumcount())


def _as_text(shares: pd.DataFrame, column: str) -> pd.Series:
    """The largest shares of each cluster as text: "vqa 62 %, …"."""
    text = shares[column] + " " + (100 * shares["share"]).round().astype(int).astype(str) + " %"
    return text[shares["rank"] < SHOWN_VALUES].groupby(shares["cluster"]).agg(", ".join)
