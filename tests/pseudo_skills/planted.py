"""Samples whose clusters are known: features, pools and parameters that the tests of this folder share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch

from adapt_infinity.pool.pool import Pool, join_pool, start_pool
from adapt_infinity.pseudo_skills import backends
from adapt_infinity.pseudo_skills.finding import cluster_rows
from adapt_infinity.pseudo_skills.kmeans import KMeansParams
from adapt_infinity.pseudo_skills.matching import start_clusters
from adapt_infinity.pseudo_skills.params import PseudoSkillParams
from adapt_infinity.pseudo_skills.unit_rows import UnitRows, piece_threads, unit_rows
from tests.conftest import unread
from tests.subset.defaults import StubFeatures

DEFAULTS: dict[str, Any] = {
    "k": 12,
    "candidates": [],
    "sweep_rows": 1024,
    "space": "gradients",
    "iterations": 20,
    "tolerance": 0.0,
    "restarts": 8,
    "batch": 0,
    "warm_start": False,
    "backend": "auto",
    "device": "cpu",
    "threads": 1,
    "block": 16_384,
    "label_rows": 16,
    "seed": 0,
}


def features_of(rows: np.ndarray, dtype: str = "float32") -> StubFeatures:
    """Features whose gradients and embeddings are these rows, scaled to length 1."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = (rows / np.where(lengths == 0, 1, lengths)).astype(dtype)
    ids = 3 * np.arange(len(rows)) + 100
    return StubFeatures(ids, unit, unit, pd.DataFrame({"sample_id": ids, "el2n": np.linspace(0, 1, len(rows))}))


def planted(
    n: int = 1500, dim: int = 64, skills: int = 12, seed: int = 0, noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows around one random direction per skill, with noise of `noise` times its length; and the skill of each row."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(skills, dim)) / dim**0.5
    skill = rng.permutation(np.arange(n) % skills)
    return directions[skill] + noise * rng.normal(size=(n, dim)) / dim**0.5, skill


def params(**changes: Any) -> PseudoSkillParams:
    return PseudoSkillParams(**{**DEFAULTS, **changes})


def clustered(rows: np.ndarray, dtype: str = "float32", **changes: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The clusters and k_sweep tables of the rows."""
    features = features_of(rows, dtype)
    return cluster_rows({"gradients": features.gradients}, features.sample_ids, params(**changes), start_clusters())


@contextmanager
def kmeans_inputs(rows: np.ndarray, **changes: Any) -> Iterator[tuple[UnitRows, KMeansParams]]:
    """The rows of an array and the k-means parameters, as `cluster_rows` makes them."""
    given = params(**changes)
    with piece_threads(given.threads, given.block) as map_pieces:
        kmeans_params = KMeansParams(
            map_pieces=map_pieces,
            searcher=backends.load(given.backend),
            device=torch.device("cpu"),
            iterations=given.iterations,
            tolerance=given.tolerance,
            restarts=given.restarts,
            batch=given.batch,
        )
        yield unit_rows([rows], np.arange(len(rows)), ["rows"], map_pieces), kmeans_params


def pool_of(questions: list[str], skills: list[str] | None = None, images: list[list[str]] | None = None) -> Pool:
    """A pool with one sample per question, each answered "yes"."""
    turns: list[Any] = [[{"role": "user", "text": text}, {"role": "assistant", "text": "yes"}] for text in questions]
    pictures: list[Any] = images or [[] for _ in questions]
    rows = pd.DataFrame(
        {
            "sample_id": np.arange(len(questions)),
            "round": 1,
            "source": "toy",
            "source_id": [str(number) for number in range(len(questions))],
            "skill": skills or "talk",
            "images": pictures,
            "turns": turns,
        }
    )
    return join_pool(start_pool(), unread(rows), 1) if questions else start_pool()
