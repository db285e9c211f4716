"""Small adapters between catalog entries and the rooms' functions. Everything of substance is in the rooms."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from adapt_infinity.benchmarks.measures import measure, own_rounds
from adapt_infinity.data import parquet
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import samples_of
from adapt_infinity.embedded.pretraining import pretrain
from adapt_infinity.embedded.recipe import EmbeddedModelParams
from adapt_infinity.embedded.stream import EmbeddedStreamParams
from adapt_infinity.features.probe import ProbeParams
from adapt_infinity.features.store import Features
from adapt_infinity.intake.overlap import LEAKS, find_overlaps
from adapt_infinity.intake.reading import IntakeParams, Source, check_records
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_reader, load_vlm
from adapt_infinity.model.modality_embeddings import embed_modalities
from adapt_infinity.model.prompts import PromptCheck, encode
from adapt_infinity.pool.pool import Pool, join_pool, known_ids, remove
from adapt_infinity.pruning.protection import must_keep_rows
from adapt_infinity.pruning.removals import PruningParams
from adapt_infinity.pseudo_skills.cards import first_question, nearest_samples
from adapt_infinity.reporting import figures


def read_arrivals(
    arriving_source: list[Source],
    pictures: Pictures,
    previous_kept_pool: Pool,
    base_model: Checkpoint,
    intake: IntakeParams,
    model: ModelParams,
    round: int,
) -> tuple[Iterator[pa.Table], Iterator[pa.Table]]:
    """The records of the one source that arrives in this round, checked; an id that it used before is a reject."""
    (source,) = arriving_source
    return check_records(
        source,
        pictures,
        intake,
        round=round,
        first_id=previous_kept_pool.size,
        known_ids=set(known_ids(previous_kept_pool, source.name).to_pylist()),
        readable=PromptCheck(load_reader(base_model, model), pictures),
    )


def read_warm_up(
    first_source: list[Source], pictures: Pictures, base_model: Checkpoint, intake: IntakeParams, model: ModelParams
) -> tuple[Iterator[pa.Table], Iterator[pa.Table]]:
    """The records of the first arrival, from which genesis draws what the adapter is warmed up on."""
    (source,) = first_source
    return check_records(source, pictures, intake, readable=PromptCheck(load_reader(base_model, model), pictures))


def find_arrival_overlaps(
    arrivals: ds.Dataset, previous_kept_pool: Pool, benchmark_items: pd.DataFrame, intake: IntakeParams
) -> pd.DataFrame:
    """What of the arrivals was there before, in the pool or, worse, in the benchmarks."""
    return find_overlaps(arrivals, previous_kept_pool, benchmark_items, intake.near_bits)


def draw_arrival_samples(arrivals: ds.Dataset, pictures: Pictures, seed: int) -> Any:
    """Some of the arriving samples, with their pictures."""
    places = np.random.default_rng(seed).permutation(arrivals.count_rows())[: figures.SHEET]
    samples = samples_of(parquet.take(arrivals, np.sort(places)).to_pandas())
    shown = [[np.asarray(pictures.open(sample.source, name)) for name in sample.images] for sample in samples]
    titles = [f"{sample.sample_id} · {sample.skill}" for sample in samples]
    said = [[(turn.role, turn.text) for turn in sample.turns] for sample in samples]
    return figures.sample_sheet(titles, shown, said)


def join_arrivals(
    previous_kept_pool: Pool, arrivals: ds.Dataset, overlaps: pd.DataFrame, intake: IntakeParams, round: int
) -> Pool:
    """The pool of this round; `ValueError` when test items arrive and `intake.on_contamination` is stop."""
    leaks = overlaps[overlaps["kind"].isin(LEAKS)]
    if len(leaks) and intake.on_contamination == "stop":
        raise ValueError(
            f"{len(leaks)} arriving samples are test items of the benchmarks, the first: {leaks['source_id'].iloc[0]} "
            f"(item {leaks['other'].iloc[0]}); intake.on_contamination is stop"
        )
    return join_pool(previous_kept_pool, arrivals, round)


def list_must_keep(pool: Pool, project: Path, pruning: PruningParams) -> pd.DataFrame:
    """The samples that the user wants kept whatever they resemble; a wrong name stops the round before it trains."""
    return must_keep_rows(pool, pruning.must_keep, pruning.pool_size, project)


def prune_pool(
    pool: Pool, removals: pd.DataFrame, must_keep: pd.DataFrame, training_log: pd.DataFrame, round: int
) -> Pool:
    """The pool that the next round starts from. Pruning is permanent, so it waits until the round has trained."""
    assert len(training_log) > 0, "a round that has not trained prunes nothing"
    lost = np.intersect1d(removals["sample_id"], must_keep["sample_id"])
    if len(lost):
        raise ValueError(f"the strategy removes samples that pruning.must_keep lists: {lost[:5].tolist()}")
    return remove(pool, removals, round)


def embed_modalities_of_pool(
    joined_pool: Pool, pictures: Pictures, base_model: Checkpoint, model: ModelParams, probe: ProbeParams
) -> pd.DataFrame:
    """What each sample shows, asks and answers, side by side in one unit row: sample_id, vector. See modalities.py."""
    vlm = load_vlm(base_model, model)
    found = []
    for window in joined_pool.windows(probe.window):
        samples = samples_of(window)
        parts = embed_modalities(vlm, [encode(vlm, sample, pictures) for sample in samples], probe.token_budget)
        rows = parts.joined().numpy().astype(np.float16)
        found.append(pd.DataFrame({"sample_id": [sample.sample_id for sample in samples], "vector": list(rows)}))
    return pd.concat(found, ignore_index=True)


def prune_first(joined_pool: Pool, shortlist_removals: pd.DataFrame, must_keep: pd.DataFrame, round: int) -> Pool:
    """The pool that the round reads, for a strategy that prunes before it reads."""
    lost = np.intersect1d(shortlist_removals["sample_id"], must_keep["sample_id"])
    if len(lost):
        raise ValueError(f"the strategy removes samples that pruning.must_keep lists: {lost[:5].tolist()}")
    return remove(joined_pool, shortlist_removals, round)


def measure_round(score_matrix: pd.DataFrame, pool: Pool, planned_skills: dict[str, int]) -> pd.DataFrame:
    """Every measure after this round; own rounds come from all that ever arrived, pruned or not."""
    return measure(score_matrix, own_rounds(pool.arrived, "source"), own_skills(pool, planned_skills))


def own_skills(pool: Pool, planned_skills: dict[str, int]) -> dict[str, int]:
    """The first round that trains each skill: as it came to be, or, for what is still to arrive, as planned."""
    return {**planned_skills, **own_rounds(pool.arrived, "skill")}


def draw_forgetting(score_matrix: pd.DataFrame, pool: Pool, planned_skills: dict[str, int]) -> Any:
    """Each skill's score over the rounds, from its own round on."""
    return figures.forgetting_curves(score_matrix, own_skills(pool, planned_skills))


def draw_scores(score_matrix: pd.DataFrame, pool: Pool, planned_skills: dict[str, int]) -> Any:
    """R as a heat map, with each skill's own round marked."""
    return figures.score_heat_map(score_matrix, own_skills(pool, planned_skills))


def draw_cluster_map(features: Features, clusters: pd.DataFrame, subset: pd.DataFrame, seed: int) -> Any:
    """The pool in two dimensions: where each cluster lies and what was taken of it."""
    points = pd.DataFrame(figures.project(features.gradients, seed), columns=["x", "y"])
    points["cluster"] = clusters["cluster"].to_numpy()
    return figures.cluster_map(
        points.assign(**{name: subset[name].to_numpy() for name in ("skill", "source", "selected")})
    )


def draw_cluster_sheet(cluster_cards: pd.DataFrame, pool: Pool, pictures: Pictures) -> Any:
    """The largest clusters, each with its nearest samples: their first picture and what is asked first."""
    cards = cluster_cards.head(figures.CLUSTERS)
    nearest = nearest_samples(cards, figures.THUMBNAILS)
    told: dict[int, tuple[str, np.ndarray | None]] = {}
    for row in pool.fetch(nearest, ["source", "images", "turns"]).to_pylist():
        shown = pictures.open(row["source"], row["images"][0]) if row["images"] else None
        if shown is not None:
            shown.thumbnail((figures.THUMBNAIL, figures.THUMBNAIL))
        picture = None if shown is None else np.asarray(shown)
        told[int(nearest[len(told)])] = (first_question(row["turns"]), picture)
    return figures.cluster_sheet(cards, told, len(cluster_cards))


def plan_embedded_stream(params: EmbeddedStreamParams) -> EmbeddedStreamParams:
    """The stream's recipe. Its dataset writes what the recipe describes, file by file."""
    return params


def pretrain_embedded_model(params: EmbeddedModelParams, stream: EmbeddedStreamParams) -> Any:
    """Model, processor and per-skill figures, for the dataset that saves a checkpoint with its card."""
    return pretrain(params, stream)
