"""The figures and tables of a finished round. All other lists of them are derived from this file.

The pipelines draw all figures of `FIGURES`, the hooks log figures and tables to MLflow, and a test checks that each has
a catalog entry in the layer of its stage. To add a figure, write a function here or in `figures/`, a line in `FIGURES`
and a catalog entry.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from matplotlib.figure import Figure

from adapt_infinity.benchmarks.measures import first_rounds_of_skills
from adapt_infinity.data import parquet
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import samples_of
from adapt_infinity.pool.pool import Pool
from adapt_infinity.pseudo_skills.cards import first_question, nearest_samples
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.reporting import figures

STAGES = (  # in the order of the round
    "intake",
    "pool",
    "features",
    "pseudo_skills",
    "selector_experts",
    "subset",
    "training",
    "pruning",
    "benchmarks",
)


@dataclass(frozen=True, kw_only=True)
class RoundFigure:
    """A figure of a round: the catalog entry of its name holds what `draw` returns."""

    stage: str
    draw: Callable[..., Figure]  # its arguments are named after the catalog entries and parameters that it reads
    of_clusters: bool = False  # only in rounds whose strategy reads clusters


@dataclass(frozen=True, kw_only=True)
class RoundTable:
    """A table of a round that a person reads: a node of the stage makes the catalog entry of its name."""

    stage: str
    of_clusters: bool = False  # only in rounds whose strategy reads clusters


def draw_arrival_samples(arrivals: ds.Dataset, pictures: Pictures, seed: int) -> Figure:
    """Some of the arriving samples, drawn by `seed`, with their pictures."""
    places = np.random.default_rng(seed).permutation(arrivals.count_rows())[: figures.SHEET]
    samples = samples_of(parquet.take(arrivals, np.sort(places)).to_pandas())
    shown = [[np.asarray(pictures.open(sample.source, name)) for name in sample.images] for sample in samples]
    titles = [f"{sample.sample_id} · {sample.skill}" for sample in samples]
    turns = [[(turn.role, turn.text) for turn in sample.turns] for sample in samples]
    return figures.sample_sheet(titles, shown, turns)


def draw_cluster_map(features: Features, clusters: pd.DataFrame, subset: pd.DataFrame, seed: int) -> Figure:
    """The pool in two dimensions: each cluster's place, and the samples that were chosen from it."""
    points = pd.DataFrame(figures.project(features.gradients, seed), columns=["x", "y"])
    points["cluster"] = clusters["cluster"].to_numpy()
    columns = {name: subset[name].to_numpy() for name in ("skill", "source", "selected")}
    return figures.cluster_map(points.assign(**columns))


def draw_cluster_sheet(cluster_cards: pd.DataFrame, pool: Pool, pictures: Pictures) -> Figure:
    """The largest clusters, each with its nearest samples: their first picture and their first question."""
    cards = cluster_cards.head(figures.CLUSTERS)
    nearest = nearest_samples(cards, figures.THUMBNAILS)
    found: dict[int, tuple[str, np.ndarray | None]] = {}
    rows = pool.fetch(nearest, ["source", "images", "turns"]).to_pylist()
    for sample_id, row in zip(nearest.tolist(), rows, strict=True):
        picture = None
        if row["images"]:
            opened = pictures.open(row["source"], row["images"][0])
            opened.thumbnail((figures.THUMBNAIL, figures.THUMBNAIL))
            picture = np.asarray(opened)
        found[sample_id] = (first_question(row["turns"]), picture)
    return figures.cluster_sheet(cards, found, len(cluster_cards))


def draw_score_heat_map(score_matrix: pd.DataFrame, pool: Pool, planned_skills: dict[str, int]) -> Figure:
    """R as a heat map, with the first round that trains each skill marked."""
    return figures.score_heat_map(score_matrix, first_rounds_of_skills(pool, planned_skills))


def draw_forgetting_curves(score_matrix: pd.DataFrame, pool: Pool, planned_skills: dict[str, int]) -> Figure:
    """Each skill's score over the rounds, from the first round that trains it."""
    return figures.forgetting_curves(score_matrix, first_rounds_of_skills(pool, planned_skills))


FIGURES: dict[str, RoundFigure] = {
    "arrival_samples": RoundFigure(stage="intake", draw=draw_arrival_samples),
    "k_sweep_figure": RoundFigure(stage="pseudo_skills", draw=figures.k_sweep_figure, of_clusters=True),
    "cluster_sheet": RoundFigure(stage="pseudo_skills", draw=draw_cluster_sheet, of_clusters=True),
    "subset_composition": RoundFigure(stage="subset", draw=figures.subset_composition),
    "cluster_map": RoundFigure(stage="subset", draw=draw_cluster_map, of_clusters=True),
    "task_similarity_map": RoundFigure(stage="benchmarks", draw=figures.task_similarity_map),
    "score_heat_map": RoundFigure(stage="benchmarks", draw=draw_score_heat_map),
    "forgetting_curves": RoundFigure(stage="benchmarks", draw=draw_forgetting_curves),
}
TABLES: dict[str, RoundTable] = {
    "overlaps": RoundTable(stage="intake"),
    "k_sweep": RoundTable(stage="pseudo_skills", of_clusters=True),
    "cluster_cards": RoundTable(stage="pseudo_skills", of_clusters=True),
    "cluster_links": RoundTable(stage="pseudo_skills", of_clusters=True),
    "cluster_experts": RoundTable(stage="selector_experts", of_clusters=True),
    "training_log": RoundTable(stage="training"),
    "score_matrix": RoundTable(stage="benchmarks"),
    "measures": RoundTable(stage="benchmarks"),
    "task_similarity": RoundTable(stage="benchmarks"),
}


def shown_in_round(of_clusters: bool) -> list[str]:
    """Names of the figures and tables in a round whose strategy reads clusters, or does not."""
    results: dict[str, RoundTable | RoundFigure] = {**TABLES, **FIGURES}
    return [name for name, result in results.items() if of_clusters or not result.of_clusters]
