"""Pseudo-skills: planted ones are found, labels are canonical, none is empty, threads change nothing."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt_infinity import clusters as room
from adapt_infinity.clusters import PseudoSkillParams, agreement, find_pseudo_skills, k_sweep


@dataclass(frozen=True)
class Probe:
    """What clustering reads of the features."""

    sample_ids: np.ndarray
    gradients: np.ndarray
    embeddings: np.ndarray
    scores: pd.DataFrame


def probe(rows: np.ndarray, dtype: str = "float32") -> Probe:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = (rows / np.where(lengths == 0, 1, lengths)).astype(dtype)
    ids = 3 * np.arange(len(rows)) + 100
    return Probe(ids, unit, unit, pd.DataFrame({"sample_id": ids, "el2n": np.linspace(0, 1, len(rows))}))


def pool(features: Probe, skills: np.ndarray) -> pd.DataFrame:
    names = np.array(["count", "colour", "place", "read", "count"])
    return pd.DataFrame(
        {
            "sample_id": features.sample_ids,
            "source": names[skills % 4],
            "skill": np.char.add("s", skills.astype(str)),
        }
    )


def planted(n: int = 1500, dim: int = 64, skills: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows around random directions, as long a step away from them as these are long; and whose they are."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(skills, dim)) / dim**0.5
    skill = rng.permutation(np.arange(n) % skills)
    return directions[skill] + rng.normal(size=(n, dim)) / dim**0.5, skill


def params(k: int, iterations: int = 20, restarts: int = 8, seed: int = 0) -> PseudoSkillParams:
    return PseudoSkillParams(k=k, iterations=iterations, restarts=restarts, seed=seed)


@pytest.fixture
def threads() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_skills_are_found(dtype: str, seed: int) -> None:
    rows, skill = planted(seed=seed)
    features = probe(rows, dtype)
    table, cards = find_pseudo_skills(features, pool(features, skill), params(12))
    found = agreement(table, pd.Series(skill))
    assert found["ari"] >= 0.95  # type: ignore[operator]
    assert found["nmi"] >= 0.95  # type: ignore[operator]
    assert cards["top_skill"].nunique() == 12
    assert (cards["note"] == "").all()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_threads_and_repeats_change_nothing(dtype: str) -> None:
    """Noise without clusters, where any difference in a sum would move a row."""
    features = probe(np.random.default_rng(0).normal(size=(3000, 48)), dtype)
    tables = []
    for count in (1, 2, 1):
        faiss.omp_set_num_threads(count)
        tables.append(
            find_pseudo_skills(features, pool(features, np.zeros(3000, dtype=int)), params(30, restarts=2))[0]
        )
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])


def test_a_memmap_and_its_copy_are_the_same(tmp_path: Path) -> None:
    rows, skill = planted(n=300, skills=5)
    features = probe(rows, "float16")
    features.gradients.tofile(tmp_path / "gradients")
    stored = np.memmap(tmp_path / "gradients", dtype=np.float16, mode="r", shape=features.gradients.shape)
    on_disk = Probe(features.sample_ids, stored, stored, features.scores)
    expected, _ = find_pseudo_skills(features, pool(features, skill), params(5))
    table, _ = find_pseudo_skills(on_disk, pool(features, skill), params(5))
    pd.testing.assert_frame_equal(table, expected)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, skill = planted(n=500, skills=5)
    features = probe(rows, "float16")
    expected, _ = find_pseudo_skills(features, pool(features, skill), params(5))
    monkeypatch.setattr(room, "BLOCK", 64)
    table, _ = find_pseudo_skills(features, pool(features, skill), params(5))
    assert table["cluster"].tolist() == expected["cluster"].tolist()


def test_labels_go_by_size_then_by_the_smallest_id() -> None:
    """Four directions of 2, 3, 2 and 1 rows."""
    features = probe(np.eye(4)[[2, 0, 1, 0, 2, 1, 0, 3]])
    table, cards = find_pseudo_skills(features, pool(features, np.zeros(8, dtype=int)), params(4))
    assert table["cluster"].tolist() == [1, 0, 2, 0, 1, 2, 0, 3]
    assert table["similarity"].tolist() == pytest.approx([1.0] * 8)
    assert table["cluster"].dtype == np.int32
    assert table["similarity"].dtype == np.float32
    assert cards["size"].tolist() == [3, 2, 2, 1]


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 40), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_no_cluster_is_empty(seed: int, n: int, k: int, distinct: int) -> None:
    """With copies among the rows there are min(k, distinct rows) clusters, numbered without a gap."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(distinct, 5))[rng.integers(0, distinct, n)]
    features = probe(rows)
    table, cards = find_pseudo_skills(features, pool(features, np.zeros(n, dtype=int)), params(k, restarts=1))
    expected = min(k, len(np.unique(rows, axis=0)))
    assert sorted(set(table["cluster"])) == list(range(expected))
    assert cards["size"].tolist() == sorted(table["cluster"].value_counts().tolist(), reverse=True)
    assert ((cards["note"] != "") == (expected < k)).all()


def test_an_empty_cluster_moves_to_the_farthest_row() -> None:
    """Both centroids lie on e1, so the second has no row; e2 is the farthest."""
    rows = np.eye(3, dtype=np.float32)[[0, 0, 1]]
    labels, similarity = room._repair(rows, np.eye(3, dtype=np.float32)[[0, 0]])
    assert labels.tolist() == [0, 0, 1]
    assert similarity.tolist() == [1, 1, 1]


def test_more_clusters_than_rows_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    features = probe(np.eye(3))
    table, cards = find_pseudo_skills(features, pool(features, np.arange(3)), params(10))
    assert table["cluster"].tolist() == [0, 1, 2]
    assert cards["note"].tolist() == ["pseudo_skills.k = 10, but the pool has 3 rows"] * 3
    assert "pseudo_skills.k = 10" in caplog.text


def test_a_row_without_gradient_names_its_sample() -> None:
    features = probe(np.array([[1.0, 0], [0, 0], [0, 1]]))
    with pytest.raises(ValueError, match=r"zeros.*\[103\]"):
        find_pseudo_skills(features, pool(features, np.arange(3)), params(2))


def test_a_row_that_is_not_finite_names_its_sample() -> None:
    features = probe(np.eye(3))
    features.gradients[2, 0] = np.nan
    with pytest.raises(ValueError, match=r"not finite.*\[106\]"):
        find_pseudo_skills(features, pool(features, np.arange(3)), params(2))


def test_an_empty_pool_is_an_error() -> None:
    features = probe(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="empty"):
        find_pseudo_skills(features, pool(features, np.arange(0)), params(2))


def test_cards_by_hand() -> None:
    features = probe(np.array([[1.0, 0], [1, 0.1], [1, -0.3], [0, 1]]))
    rows = pool(features, np.array([0, 1, 1, 2]))
    _, cards = find_pseudo_skills(features, rows, params(2))
    card = cards.iloc[0]
    assert card["cluster"] == 0
    assert card["size"] == 3
    assert card["top_sources"] == "colour 67 %, count 33 %"
    assert (card["top_skill"], card["top_skill_share"]) == ("s1", pytest.approx(2 / 3))
    assert card["mean_el2n"] == pytest.approx(1 / 3)
    assert card["nearest"] == [100, 103, 106]
    assert 0.9 < card["cohesion"] < 1
    assert cards.iloc[1]["nearest"] == [109]


def test_agreement_by_hand() -> None:
    table = pd.DataFrame({"cluster": [0, 0, 1, 1]})
    assert agreement(table, pd.Series(["a", "a", "b", "b"])) == {
        "nmi": pytest.approx(1.0),
        "ari": pytest.approx(1.0),
    }
    assert agreement(table, pd.Series(["a", "b", "a", "b"]))["ari"] < 0.1  # type: ignore[operator]
    assert agreement(table, pd.Series(["a"] * 4))["nmi"] == "undefined: 1 distinct labels"


def test_the_sweep_prefers_the_planted_number() -> None:
    rows, _ = planted(n=600, skills=6)
    table = k_sweep(probe(rows), [1, 3, 6, 12], seed=0, restarts=4)
    assert table["within"].is_monotonic_decreasing
    assert table["k"][table["silhouette"].argmax()] == 6
    assert pd.isna(table["silhouette"][0])
    assert table["note"][0] == "silhouette undefined: 1 clusters in 600 rows"


def test_within_by_hand() -> None:
    """Two unit rows at right angles to each other are each 2 - √2 from their common direction, squared."""
    table = k_sweep(probe(np.eye(2)), [1, 2, 3], seed=0)
    assert table["within"].tolist() == pytest.approx([2 * (2 - 2**0.5), 0, 0], abs=1e-6)
    assert table["clusters"].tolist() == [1, 2, 2]


def test_without_faiss_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    features = probe(np.eye(3))
    with pytest.raises(ImportError, match=r'pip install "adapt-infinity\[cpu\]"'):
        find_pseudo_skills(features, pool(features, np.arange(3)), params(2))


@pytest.mark.parametrize(("key", "value"), [("k", 0), ("iterations", 0), ("restarts", 0), ("seed", -1)])
def test_parameters_are_checked(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"pseudo_skills\.{key}.*{value}"):
        params(**{"k": 1, key: value})
