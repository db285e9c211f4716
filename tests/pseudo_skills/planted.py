"""Samples whose clusters are known, as the probe and the pool would hand them over."""

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
from adapt_infinity.pseudo_skills.unit_rows import UnitRows, unit_rows, workers
from tests.conftest import unread
from tests.subset.usual import Read

USUAL: dict[str, Any] = {
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


def probe(rows: np.ndarray, dtype: str = "float32") -> Read:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = (rows / np.where(lengths == 0, 1, lengths)).astype(dtype)
    ids = 3 * np.arange(len(rows)) + 100
    return Read(ids, unit, unit, pd.DataFrame({"sample_id": ids, "el2n": np.linspace(0, 1, len(rows))}))


def planted(
    n: int = 1500, dim: int = 64, skills: int = 12, seed: int = 0, noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows around random directions, `noise` times as long a step away as these are long; and whose they are."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(skills, dim)) / dim**0.5
    skill = rng.permutation(np.arange(n) % skills)
    return directions[skill] + noise * rng.normal(size=(n, dim)) / dim**0.5, skill


def params(**changes: Any) -> PseudoSkillParams:
    return PseudoSkillParams(**{**USUAL, **changes})


def clustered(rows: np.ndarray, dtype: str = "float32", **changes: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The clusters and k_sweep tables of the rows."""
    features = probe(rows, dtype)
    return cluster_rows({"gradients": features.gradients}, features.sample_ids, params(**changes), start_clusters())


@contextmanager
def searching(rows: np.ndarray, **changes: Any) -> Iterator[tuple[UnitRows, KMeansParams]]:
    """The rows of an array, and the search that the usual parameters describe."""
    chosen = params(**changes)
    with workers(chosen.threads, chosen.block) as each:
        search = KMeansParams(
            each=each,
            searcher=backends.load(chosen.backend),
            device=torch.device("cpu"),
            iterations=chosen.iterations,
            tolerance=chosen.tolerance,
            restarts=chosen.restarts,
            batch=chosen.batch,
        )
        yield unit_rows([rows], np.arange(len(rows)), ["rows"], each), search


def pool_of(questions: list[str], skills: list[str] | None = None, images: list[list[str]] | None = None) -> Pool:
    """A pool whose samples ask these and are answered "yes"."""
    turns: list[Any] = [[{"role": "user", "text": asked}, {"role": "assistant", "text": "yes"}] for asked in questions]
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
