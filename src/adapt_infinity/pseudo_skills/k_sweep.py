"""The number of clusters, where `pseudo_skills.k` is auto: candidates are compared on a sample of the rows.

Measured for each candidate k:
    within       sum over the sample of the squared distance to the own centroid
    silhouette   mean over rows of (b − a) / max(a, b), with cosine distances (Rousseeuw 1987)
    stability    mean adjusted Rand index of three clusterings, each computed on another half of the sample and then
                 applied to the whole sample (Ben-Hur, Elisseeff & Guyon 2002)

Rule: among the candidates whose stability is at most `STABILITY_MARGIN` below the best, the one with the highest
silhouette; of equal ones the smallest. Where no candidates are given, they start at 4 and grow by a factor of √2 as
long as clusters have `ROWS_PER_CLUSTER` rows on average, up to `LARGEST_K`; then numbers between the best one and its
neighbours are tried, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.metrics import adjusted_rand_score, silhouette_score

from adapt_infinity.pseudo_skills.kmeans import Clustering, KMeansParams, assign, spherical_kmeans
from adapt_infinity.pseudo_skills.seeding import draw
from adapt_infinity.pseudo_skills.unit_rows import UnitRows

FIRST_K, LARGEST_K, ROWS_PER_CLUSTER = 4, 256, 16
STABILITY_MARGIN = 0.15
HALVES = 3
FINER_CANDIDATES = 8  # at most so many candidates on both sides of the best one
SILHOUETTE_ROWS = 2_000
COLUMNS = {
    "k": "int64",
    "clusters": "int64",
    "rows": "int64",
    "within": "float64",
    "silhouette": "Float64",
    "stability": "Float64",
    "chosen": "bool",
    "note": "str",
}


@dataclass(frozen=True)
class SweepResult:
    """What was measured for one k; None: undefined, or not measured."""

    k: int
    clusters: int
    rows: int
    within: float
    silhouette: float | None
    stability: float | None
    chosen: bool = False
    note: str = ""


def sweep(
    rows: UnitRows, candidates: Sequence[int], sweep_rows: int, seed: int, kmeans_params: KMeansParams
) -> list[SweepResult]:
    """Compare the candidates on a sample of `sweep_rows` rows; one result per candidate, ascending, one of them chosen.

    candidates: the values of k to try; empty = those of the module's docstring. Values above half of the sample are
    left out; `ValueError` if none is left.
    """
    rng = np.random.default_rng([seed])
    sample = rows.subset(draw(len(rows), sweep_rows, rng))
    halves = [sample.subset(np.sort(rng.permutation(len(sample))[: -(-len(sample) // 2)])) for _ in range(HALVES)]

    def measured(ks: Iterable[int]) -> list[SweepResult]:
        return [_measure(sample, halves, k, seed, kmeans_params) for k in ks if k <= len(halves[0])]

    results = measured(candidates or geometric(len(sample)))
    if not results:
        raise ValueError(
            f"pseudo_skills.k is auto, but the pool's {len(rows)} rows are too few for any candidate "
            f"({', '.join(map(str, candidates or [FIRST_K]))}); give a number"
        )
    if not candidates:
        results += measured(_between(results, best_k(results)))
    results.sort(key=lambda result: result.k)
    return [replace(result, chosen=result.k == best_k(results)) for result in results]


def geometric(n: int) -> list[int]:
    """Candidates for a sample of n rows: 4, 6, 8, 11, 16, …"""
    ks = (round(FIRST_K * 2 ** (step / 2)) for step in range(64))
    return [k for k in ks if k <= max(FIRST_K, min(LARGEST_K, n // ROWS_PER_CLUSTER))]


def best_k(results: Sequence[SweepResult]) -> int:
    """The k that the rule in the module's docstring chooses."""
    least = max(_number(result.stability) for result in results) - STABILITY_MARGIN
    stable = [result for result in results if _number(result.stability) >= least]
    return max(stable, key=lambda result: (_number(result.silhouette), -result.k)).k


def describe_given_k(rows: UnitRows, k: int, clustering: Clustering, seed: int, note: str) -> list[SweepResult]:
    """The one result of a k that was given, over all rows; the stability, which is costly, is not measured."""
    labels = clustering.labels
    silhouette = _silhouette(rows, labels, seed)
    within = _within(clustering)
    return [SweepResult(k, len(np.unique(labels)), len(rows), within, silhouette, None, True, note)]


def table(results: Sequence[SweepResult]) -> pd.DataFrame:
    """The results as a table with the columns `COLUMNS`."""
    return pd.DataFrame([vars(result) for result in results], columns=list(COLUMNS)).astype(COLUMNS)


def _measure(
    sample: UnitRows, halves: Sequence[UnitRows], k: int, seed: int, kmeans_params: KMeansParams
) -> SweepResult:
    whole = spherical_kmeans(sample, k, seed, kmeans_params)
    of_halves = [
        spherical_kmeans(half, k, seed + number, kmeans_params).centroids for number, half in enumerate(halves)
    ]
    labels = [assign(sample, centroids, kmeans_params) for centroids in of_halves]
    stability = float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]))
    found, silhouette = len(np.unique(whole.labels)), _silhouette(sample, whole.labels, seed)
    note = "" if found == k else f"only {found} distinct rows"
    return SweepResult(k, found, len(sample), _within(whole), silhouette, stability, note=note)


def _between(results: Sequence[SweepResult], chosen: int) -> list[int]:
    """Evenly spaced numbers between the chosen k and its two neighbours."""
    ks = sorted(result.k for result in results)
    at = ks.index(chosen)
    low, high = ks[max(0, at - 1)], ks[min(len(ks) - 1, at + 1)]
    inside = np.setdiff1d(np.arange(low + 1, high), ks)
    return (
        inside[np.unique(np.linspace(0, len(inside) - 1, FINER_CANDIDATES).round().astype(int))].tolist()
        if len(inside)
        else []
    )


def _within(clustering: Clustering) -> float:
    return float((2 - 2 * clustering.similarity.astype(np.float64)).sum())


def _silhouette(rows: UnitRows, labels: Int[np.ndarray, " n"], seed: int) -> float | None:
    """The mean silhouette of at most `SILHOUETTE_ROWS` rows; None if these have one cluster, or each row its own."""
    drawn = draw(len(rows), SILHOUETTE_ROWS, np.random.default_rng([seed]))
    unit = rows.take(drawn)
    rows.release()
    found = len(np.unique(labels[drawn]))
    if not 2 <= found < len(drawn):
        return None
    distance: Float[np.ndarray, "m m"] = (1 - unit @ unit.T).clamp_min(0).fill_diagonal_(0).double().numpy()
    return float(silhouette_score(distance, labels[drawn], metric="precomputed"))


def _number(value: float | None) -> float:
    return -np.inf if value is None else value
