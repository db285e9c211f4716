"""How many clusters there are, where nobody says: candidates are tried on a sample of the rows.

For each k:
    within       sum of squared distances to the own centroid, of all rows of the sample
    silhouette   mean over rows of (b − a) / max(a, b), cosine (Rousseeuw 1987)
    stability    mean adjusted Rand index between clusterings learnt from different halves of the sample, each then
                 applied to the whole of it (Ben-Hur, Elisseeff & Guyon 2002)

The rule: of the candidates whose stability is within `MARGIN` of the best, the one with the highest silhouette; of
equal ones the smallest. Where no candidates are given they go from 4 up by a factor of √2, as long as a cluster has on
average `LEAST` rows of the sample and not past `MOST`; then the numbers between the winner's neighbours are tried, too.
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

FIRST, MOST, LEAST = 4, 256, 16
MARGIN = 0.15
HALVES = 3
FINER = 8  # candidates between the winner's neighbours, at most
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
class Line:
    """One k; None: undefined, or not measured."""

    k: int
    clusters: int
    rows: int
    within: float
    silhouette: float | None
    stability: float | None
    chosen: bool = False
    note: str = ""


def sweep(rows: UnitRows, candidates: Sequence[int], sweep_rows: int, seed: int, search: KMeansParams) -> list[Line]:
    """A line for each candidate that the sample can fill, one of them chosen."""
    rng = np.random.default_rng([seed])
    sample = rows.subset(draw(len(rows), sweep_rows, rng))
    halves = [sample.subset(np.sort(rng.permutation(len(sample))[: -(-len(sample) // 2)])) for _ in range(HALVES)]

    def measured(ks: Iterable[int]) -> list[Line]:
        return [_measure(sample, halves, k, seed, search) for k in ks if k <= len(halves[0])]

    lines = measured(candidates or geometric(len(sample)))
    if not lines:
        raise ValueError(
            f"pseudo_skills.k is auto, but the pool's {len(rows)} rows are too few for any candidate "
            f"({', '.join(map(str, candidates or [FIRST]))}); give a number"
        )
    if not candidates:
        lines += measured(_between(lines, best(lines)))
    lines.sort(key=lambda line: line.k)
    return [replace(line, chosen=line.k == best(lines)) for line in lines]


def geometric(n: int) -> list[int]:
    """4, 6, 8, 11, 16, … for a sample of n rows."""
    ks = (round(FIRST * 2 ** (step / 2)) for step in range(64))
    return [k for k in ks if k <= max(FIRST, min(MOST, n // LEAST))]


def best(lines: Sequence[Line]) -> int:
    """The k that the rule picks."""
    steady = max(_number(line.stability) for line in lines) - MARGIN
    fit = [line for line in lines if _number(line.stability) >= steady]
    return max(fit, key=lambda line: (_number(line.silhouette), -line.k)).k


def given(rows: UnitRows, k: int, clustering: Clustering, seed: int, note: str) -> list[Line]:
    """The line of a k that was given: what costs nothing, over all rows; stability is not measured."""
    labels = clustering.labels
    silhouette = _silhouette(rows, labels, seed)
    within = _within(clustering)
    return [Line(k, len(np.unique(labels)), len(rows), within, silhouette, None, True, note)]


def table(lines: Sequence[Line]) -> pd.DataFrame:
    """The k_sweep table."""
    return pd.DataFrame([vars(line) for line in lines], columns=list(COLUMNS)).astype(COLUMNS)


def _measure(sample: UnitRows, halves: Sequence[UnitRows], k: int, seed: int, search: KMeansParams) -> Line:
    whole = spherical_kmeans(sample, k, seed, search)
    learnt = [spherical_kmeans(half, k, seed + place, search).centroids for place, half in enumerate(halves)]
    labels = [assign(sample, centroids, search) for centroids in learnt]
    stability = float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]))
    found, silhouette = len(np.unique(whole.labels)), _silhouette(sample, whole.labels, seed)
    note = "" if found == k else f"only {found} distinct rows"
    return Line(k, found, len(sample), _within(whole), silhouette, stability, note=note)


def _between(lines: Sequence[Line], chosen: int) -> list[int]:
    """Numbers on both sides of the chosen k, up to its neighbours, evenly."""
    ks = sorted(line.k for line in lines)
    at = ks.index(chosen)
    low, high = ks[max(0, at - 1)], ks[min(len(ks) - 1, at + 1)]
    inside = np.setdiff1d(np.arange(low + 1, high), ks)
    return inside[np.unique(np.linspace(0, len(inside) - 1, FINER).round().astype(int))].tolist() if len(inside) else []


def _within(clustering: Clustering) -> float:
    return float((2 - 2 * clustering.similarity.astype(np.float64)).sum())


def _silhouette(rows: UnitRows, labels: Int[np.ndarray, " n"], seed: int) -> float | None:
    """Of at most 2,000 rows; None where fewer than two clusters, or nothing but single rows, are among them."""
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
