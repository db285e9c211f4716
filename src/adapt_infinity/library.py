"""The functions that a researcher calls from Python, without Kedro: `from adapt_infinity import ...`.

    samples  = read_samples("records.json", format="llava")     or open_pool(project, "embedded", round=1)
    model    = load_model("checkpoint")
    features = collect_features(model, samples)                 per-sample gradient features, embeddings and scores
    clusters = find_pseudo_skills(features, k=20)
    scores   = score_samples(features, clusters)
    experts  = choose_experts(clusters, scores)
    subset   = select_subset(samples, features, clusters, scores, experts, budget=500)
    removals = choose_removals(samples, features, clusters, scores, experts, pool_size=2000)
    measures = measure_scores(score_matrix)

Each function takes the parameters of its stage as keywords, under the names of conf/base/parameters_<stage>.yml; a
parameter that is left out has the default of its dataclass, which is the value in that file. A wrong name or value is
the same `ValueError` as in `kedro run`. The numbers are those of a round: these functions call what its nodes call.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from adapt_infinity.benchmarks.measures import measure
from adapt_infinity.data import parquet
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import SAMPLE_SCHEMA
from adapt_infinity.features.probe import ProbeParams, probe_pool
from adapt_infinity.features.store import Features, ProbeStore, read_features, write_features
from adapt_infinity.intake.reading import IntakeParams, Source, check_records, to_dataframe
from adapt_infinity.intake.records import Records
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_vlm, new_adapter
from adapt_infinity.model.lora import Adapter, read_adapter
from adapt_infinity.parameters import from_mapping
from adapt_infinity.pool.pool import Pool, index_pool, join_pool
from adapt_infinity.pruning.protection import must_keep_rows
from adapt_infinity.pruning.removals import PruningParams, choose_removals_by_cluster
from adapt_infinity.pseudo_skills import finding, matching
from adapt_infinity.pseudo_skills.params import PseudoSkillParams
from adapt_infinity.selector_experts import choosing, scoring
from adapt_infinity.selector_experts.scoring import SelectorParams
from adapt_infinity.subset import selecting
from adapt_infinity.subset.constraints import list_requests
from adapt_infinity.subset.params import SubsetParams

MAX_PIXELS = 50_000_000  # of a picture; larger ones are rejected


@dataclass(frozen=True)
class Samples:
    """Checked samples and their pictures. `len(samples)` is the number of samples."""

    pool: Pool
    pictures: Pictures
    rejects: pd.DataFrame  # records that were set aside: source_id, reason, record, …

    def __len__(self) -> int:
        return len(self.pool)

    @property
    def table(self) -> pd.DataFrame:
        """One row per sample: sample_id, source, source_id, skill, images, turns, …"""
        return self.pool.rows()


@dataclass(frozen=True)
class Model:
    """A checkpoint and the LoRA adapter through which gradients are taken. Weights are loaded when they are needed."""

    base: Checkpoint
    adapter: Adapter
    params: ModelParams


def read_samples(
    records: str | Path | Iterable[Mapping[str, Any]],
    *,
    format: str = "llava",
    pictures: str | Path | None = None,
    name: str = "samples",
    options: Mapping[str, Any] | None = None,
    **intake: Any,
) -> Samples:
    """Check records and return the samples that can be trained on; the others are in `rejects` with their reason.

    records: a file, a folder or a glob of JSON, JSON Lines, Parquet or Arrow files, or a list of raw records.
    format: a file in intake/formats; `options` are its options.
    pictures: the folder below which the records' picture paths lie; by default the folder of `records`.
    intake: parameters of the intake stage.

    `ValueError` when no record can be used, or more than `max_reject_share` of them cannot; `FileNotFoundError` when
    there is no such file.
    """
    params = from_mapping(IntakeParams, intake)
    if isinstance(records, str | Path):
        path = Path(records)
        root = path if path.is_dir() else path.parent
        records = Records(path)
    else:
        root = Path()
    shown = Pictures({name: Path(pictures) if pictures is not None else root}, MAX_PIXELS)
    source = Source(name, format, records, {}, options or {})
    arrivals, rejects = check_records(source, shown, params, round=1)
    table = to_dataframe(arrivals)
    return Samples(join_pool(Pool(), parquet.in_memory(table, SAMPLE_SCHEMA), 1), shown, to_dataframe(rejects))


def open_pool(
    project: str | Path, stream: str, round: int, which: str = "kept_pool", env: str | None = None
) -> Samples:
    """The samples of a finished round of a project: `pool` is what the round read, `kept_pool` what it left.

    `ValueError` when the round is not complete.
    """
    from adapt_infinity.session import open_round

    if which not in ("pool", "kept_pool"):
        raise ValueError(f"which must be pool or kept_pool, got {which!r}")
    catalog = open_round(Path(project), stream, round, env)
    rejects = catalog.load("rejects").to_table().to_pandas()
    return Samples(catalog.load(which), catalog.load("pictures"), rejects)


def load_model(checkpoint: str | Path, adapter: str | Path | None = None, *, seed: int = 0, **model: Any) -> Model:
    """A Hugging Face image-text-to-text checkpoint with a LoRA adapter.

    checkpoint: a folder. adapter: a folder in PEFT's layout; without one a fresh adapter is drawn by `seed`. In a fresh
    adapter B is zero, so no gradient reaches A and the features come from B alone.
    model: parameters of the model, such as `device`, `dtype` and `adapter_targets`.
    """
    params = from_mapping(ModelParams, model)
    base = Checkpoint(Path(checkpoint))
    if adapter is not None:
        return Model(base, read_adapter(Path(adapter)), params)
    return Model(base, new_adapter(load_vlm(base, params), params, seed), params)


def collect_features(model: Model, samples: Samples, *, folder: str | Path | None = None, **probe: Any) -> Features:
    """Read every sample once: its gradient feature, its embedding and all scores (docs/method.md, section 2).

    Result, with n rows in the order of the samples: `gradients` [n, dim] and `embeddings` [n, hidden], rows of length 1
    in half precision, mapped from files, and `scores`, a table with `sample_id` and one column per score.

    folder: where the rows are kept, so that samples which have been read by the same model are not read again; by
    default a temporary folder that is removed together with the result.
    probe: parameters of the features stage, such as `dim`, `layers`, `workers` and `token_budget`.
    """
    params = from_mapping(ProbeParams, probe)
    place = Path(tempfile.mkdtemp(prefix="adapt_infinity-") if folder is None else folder)
    target = place / "features"
    store = ProbeStore(place / "shards", (target,) if target.is_dir() else ())
    read = probe_pool(samples.pool, samples.pictures, model.base, model.adapter, store, model.params, params, round=1)
    fresh = place / "features.new"
    shutil.rmtree(fresh, ignore_errors=True)
    write_features(fresh, read)
    read.discard_shards()
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    found = read_features(target)
    if folder is None:
        weakref.finalize(found, shutil.rmtree, place, ignore_errors=True)
    return found


def find_pseudo_skills(features: Features, samples: Samples | None = None, **pseudo_skills: Any) -> pd.DataFrame:
    """Cluster the samples by spherical k-means (docs/method.md, section 3).

    Result: one row per sample with sample_id, cluster (numbered by size, 0 is the largest) and similarity (the cosine
    to the centroid). pseudo_skills: parameters of the stage, such as `k` and `space`. The space `questions` needs
    `samples`; without them it is a `ValueError`.
    """
    params = from_mapping(PseudoSkillParams, pseudo_skills)
    if samples is None and "questions" in params.views:
        raise ValueError("pseudo_skills.space=questions clusters the questions' words: pass the samples, too")
    pool = Pool() if samples is None else samples.pool
    clusters, _ = finding.find_pseudo_skills(features, pool, matching.start_clusters(), params)
    return clusters


def score_samples(features: Features, clusters: pd.DataFrame, **selector_experts: Any) -> pd.DataFrame:
    """One row per sample: the scores of the one reading, and those of the comparisons that `experts` names.

    selector_experts: parameters of the stage. Comparisons that need another reading (`learnability`, `influence`) are a
    `ValueError` here: they need a round's tables.
    """
    params = from_mapping(SelectorParams, selector_experts)
    previous_scores, previous_subset = scoring.start_record()
    no_reference = pd.DataFrame({"sample_id": [], "nll": []})
    no_targets = pd.DataFrame({"direction": []})
    return scoring.score_samples(features, clusters, previous_scores, previous_subset, no_reference, no_targets, params)


def choose_experts(clusters: pd.DataFrame, scores: pd.DataFrame, **selector_experts: Any) -> pd.DataFrame:
    """For each cluster the score that ranks its samples, and the runners-up (docs/method.md, section 4).

    Result: one row per cluster and expert; the column `chosen` is true for one of them per cluster. `ValueError` names
    a column that is missing.
    """
    params = from_mapping(SelectorParams, selector_experts)
    previous_scores, previous_subset = scoring.start_record()
    return choosing.choose_experts(clusters, scores, previous_scores, previous_subset, params, round=1)


def select_subset(
    samples: Samples,
    features: Features,
    clusters: pd.DataFrame,
    scores: pd.DataFrame,
    experts: pd.DataFrame,
    **subset: Any,
) -> pd.DataFrame:
    """Choose `budget` samples: equal shares over clusters, stratified by each cluster's expert (docs/method.md, 5).

    Result: one row per sample with sample_id, source, skill, cluster, expert, score, stratum and selected. subset:
    parameters of the stage, such as `budget`, `sampler`, `floors` and `caps`; a list `@file.txt` is looked for below
    the working directory.
    """
    params = from_mapping(SubsetParams, subset)
    requests = list_requests(samples.pool, Path.cwd(), params)
    return selecting.select_subset(index_pool(samples.pool), clusters, scores, features, experts, requests, params)


def choose_removals(
    samples: Samples,
    features: Features,
    clusters: pd.DataFrame,
    scores: pd.DataFrame,
    experts: pd.DataFrame,
    **pruning: Any,
) -> pd.DataFrame:
    """The samples to remove so that at most `pool_size` stay: the most redundant of each cluster (docs/method.md, 7).

    Result: one row per sample to remove with sample_id, cluster, duplicate_of, similarity and reason. `samples` stays
    as it is. pruning: parameters of the stage.
    """
    params = from_mapping(PruningParams, pruning)
    must_keep = must_keep_rows(samples.pool, params.must_keep, params.pool_size, Path.cwd())
    rows = index_pool(samples.pool)
    return choose_removals_by_cluster(rows, clusters, features.embeddings, scores, experts, must_keep, params)


def measure_scores(
    score_matrix: pd.DataFrame,
    first_round_of_dataset: Mapping[str, int] | None = None,
    first_round_of_skill: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Every measure of a score matrix: average, forgetting, transfer (docs/method.md, section 9).

    score_matrix: one row per round and benchmark with round (0 = before any training), dataset, skill, score (0 to 1)
    and items. The mappings give the first round that trained each dataset or skill; one that is left out counts as
    never trained. Result: view, measure, value, undefined (the reason why there is no value), formula, normaliser.
    """
    return measure(score_matrix, first_round_of_dataset or {}, first_round_of_skill or {})
