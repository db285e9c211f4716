"""Clustering: planted clusters are found, numbers are canonical, no cluster is empty, and only the rows matter."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.pool.pool import start_pool
from adapt_infinity.pseudo_skills.finding import agreement, cluster_rows, find_pseudo_skills
from adapt_infinity.pseudo_skills.matching import start_clusters
from adapt_infinity.pseudo_skills.unit_rows import PIECE_ROWS
from tests.conftest import examples
from tests.pseudo_skills.planted import clustered, features_of, params, planted

NOISE = np.random.default_rng(0).normal(
    size=(3 * PIECE_ROWS + 77, 24)
)  # without clusters, so any rounding difference would move a row


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_planted_skills_are_found(dtype: str, seed: int) -> None:
    rows, skill = planted(seed=seed)
    table, sweep = find_pseudo_skills(features_of(rows, dtype), start_pool(), start_clusters(), params())
    found = agreement(table, pd.Series(skill))
    assert found["ari"] >= 0.95  # type: ignore[operator]
    assert found["nmi"] >= 0.95  # type: ignore[operator]
    assert sweep["note"].tolist() == [""]


@pytest.fixture(scope="module")
def expected() -> dict[str, pd.DataFrame]:
    return {dtype: clustered(NOISE, dtype, k=12, restarts=1, iterations=6)[0] for dtype in ("float16", "float32")}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    ("threads", "block"), [(1, 1), (2, PIECE_ROWS), (4, 3 * PIECE_ROWS), (3, 10 * PIECE_ROWS), (0, 1)]
)
@pytest.mark.usefixtures("unchecked")
def test_threads_and_blocks_change_no_bit(
    expected: dict[str, pd.DataFrame], dtype: str, threads: int, block: int
) -> None:
    table, _ = clustered(NOISE, dtype, k=12, restarts=1, iterations=6, threads=threads, block=block)
    pd.testing.assert_frame_equal(table, expected[dtype], check_exact=True)


@pytest.mark.parametrize("changes", [{}, {"batch": 1000}, {"backend": "faiss"}])
@pytest.mark.usefixtures("unchecked")
def test_repeats_change_no_bit(changes: dict[str, Any]) -> None:
    one, two = (clustered(NOISE, k=8, restarts=1, iterations=6, threads=count, **changes)[0] for count in (1, 2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_torch_keeps_its_threads_even_after_an_error() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match="zeros"):
            clustered(np.zeros((3, 2)), k=1, threads=3)
        assert torch.get_num_threads() == 2
        clustered(np.eye(3), k=1, threads=3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@given(st.integers(0, 10**6))
@examples(5)
def test_the_order_of_rows_changes_no_bit(seed: int) -> None:
    features, order = features_of(NOISE[:300], "float16"), np.random.default_rng(seed).permutation(300)
    defaults = params(k=9, restarts=1)
    whole, _ = cluster_rows({"gradients": features.gradients}, features.sample_ids, defaults, start_clusters())
    mixed, _ = cluster_rows(
        {"gradients": features.gradients[order]}, features.sample_ids[order], defaults, start_clusters()
    )
    pd.testing.assert_frame_equal(mixed, whole.iloc[order].reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize("n", range(1, 9))
def test_neither_order_nor_threads_change_a_bit_of_few_rows(n: int) -> None:
    features, order = features_of(NOISE[:n], "float16"), np.random.default_rng(n).permutation(n)
    whole, _ = clustered(NOISE[:n], "float16", k=min(3, n), restarts=1, threads=1)
    threaded, _ = clustered(NOISE[:n], "float16", k=min(3, n), restarts=1, threads=2)
    pd.testing.assert_frame_equal(threaded, whole, check_exact=True)
    mixed, _ = cluster_rows(
        {"gradients": features.gradients[order]},
        features.sample_ids[order],
        params(k=min(3, n), restarts=1),
        start_clusters(),
    )
    pd.testing.assert_frame_equal(mixed, whole.iloc[order].reset_index(drop=True), check_exact=True)


@pytest.mark.usefixtures("unchecked")
def test_a_memmap_and_its_copy_are_the_same(tmp_path: Path) -> None:
    features = features_of(NOISE, "float16")
    np.save(tmp_path / "rows.npy", features.gradients)
    stored = np.load(tmp_path / "rows.npy", mmap_mode="r")
    copy, mapped = (
        cluster_rows(
            {"gradients": rows}, features.sample_ids, params(k=8, restarts=1, iterations=6, block=1), start_clusters()
        )[0]
        for rows in (features.gradients, stored)
    )
    pd.testing.assert_frame_equal(copy, mapped, check_exact=True)


def test_backends_agree_on_clear_clusters() -> None:
    rows, _ = planted()
    tables = [clustered(rows, backend=backend)[0] for backend in ("torch", "faiss")]
    assert tables[0]["cluster"].tolist() == tables[1]["cluster"].tolist()
    assert tables[0]["similarity"].tolist() == pytest.approx(tables[1]["similarity"].tolist(), abs=1e-6)


def test_clusters_are_numbered_by_size_then_by_the_smallest_id() -> None:
    """Four directions of 2, 3, 2 and 1 rows."""
    table, _ = clustered(np.eye(4)[[2, 0, 1, 0, 2, 1, 0, 3]], k=4)
    assert table["cluster"].tolist() == [1, 0, 2, 0, 1, 2, 0, 3]
    assert table["similarity"].tolist() == pytest.approx([1.0] * 8)
    assert table["cluster"].dtype == np.int32
    assert table["similarity"].dtype == np.float32


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 40), st.integers(1, 30), st.sampled_from([0, 7]))
@examples(25)
def test_no_cluster_is_empty(seed: int, n: int, k: int, distinct: int, batch: int) -> None:
    """If rows are duplicated there are min(k, distinct rows) clusters, numbered without a gap."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(distinct, 5))[rng.integers(0, distinct, n)]
    table, sweep = clustered(rows, k=k, restarts=1, batch=batch)
    expected = min(k, len(np.unique(rows, axis=0)))
    assert sorted(set(table["cluster"])) == list(range(expected))
    sizes = table["cluster"].value_counts().sort_index().tolist()
    assert sizes == sorted(sizes, reverse=True)
    assert (sweep["clusters"].item(), sweep["note"].item() != "") == (expected, expected < k)


def test_rows_that_are_all_equal_are_one_cluster(caplog: pytest.LogCaptureFixture) -> None:
    table, sweep = clustered(np.ones((50, 3)), k=4)
    assert set(table["cluster"]) == {0}
    assert sweep["note"].tolist() == ["pseudo_skills.k = 4, but the pool has only 1 distinct rows"]
    assert "pseudo_skills.k = 4" in caplog.text


def test_more_clusters_than_rows_is_noted() -> None:
    table, sweep = clustered(np.eye(3), k=10)
    assert table["cluster"].tolist() == [0, 1, 2]
    assert sweep["note"].tolist() == ["pseudo_skills.k = 10, but the pool has 3 rows"]
    assert clustered(np.eye(3)[:1], k=10)[0]["cluster"].tolist() == [0]


def test_opposite_rows_in_one_cluster_are_allowed() -> None:
    """Their mean is zero, so it has no direction."""
    table, _ = clustered(np.array([[1.0, 0], [-1, 0]]), k=1)
    assert table["cluster"].tolist() == [0, 0]
    assert np.isfinite(table["similarity"]).all()


def test_lengths_of_rows_do_not_matter() -> None:
    rows, _ = planted(n=300)
    features = features_of(rows)
    lengths = np.random.default_rng(0).choice([2.0**-20, 1, 2**40], size=(300, 1))
    scaled = {"gradients": (features.gradients * lengths).astype(np.float32)}
    table, _ = cluster_rows(scaled, features.sample_ids, params(), start_clusters())
    assert table["cluster"].tolist() == clustered(rows)[0]["cluster"].tolist()


@pytest.mark.parametrize(("value", "problem"), [(np.nan, "not finite"), (np.inf, "not finite"), (0, "all zeros")])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_row_without_a_direction_is_an_error_with_its_sample_id(value: float, problem: str, dtype: str) -> None:
    features = features_of(np.eye(3), dtype)
    features.gradients[2] = value
    with pytest.raises(ValueError, match=rf"gradients.*{problem}.*\[106\]"):
        find_pseudo_skills(features, start_pool(), start_clusters(), params())


def test_an_empty_pool_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        clustered(np.zeros((0, 4)))


def test_rows_of_another_type_are_an_error() -> None:
    with pytest.raises(ValueError, match="float64"):
        clustered(np.eye(3), "float64")


def test_agreement_by_hand() -> None:
    table = pd.DataFrame({"cluster": [0, 0, 1, 1]})
    assert agreement(table, pd.Series(["a", "a", "b", "b"])) == {
        "nmi": pytest.approx(1.0),
        "ari": pytest.approx(1.0),
    }
    assert agreement(table, pd.Series(["a", "b", "a", "b"]))["ari"] < 0.1  # type: ignore[operator]
    assert agreement(table, pd.Series(["a"] * 4))["nmi"] == "undefined: 1 distinct labels"
    with pytest.raises(ValueError, match="there are 3 labels for 4 clustered samples"):
        agreement(table, pd.Series(["a"] * 3))


def test_without_faiss_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    clustered(np.eye(3), k=2)
    with pytest.raises(ImportError, match=r'pip install "adapt-infinity\[cpu\]"'):
        clustered(np.eye(3), k=2, backend="faiss")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"pseudo_skills\.device is cuda:3, but torch sees 0 GPUs"):
        clustered(np.eye(3), k=2, device="cuda:3")


def test_faiss_without_a_gpu_refuses_one() -> None:
    from adapt_infinity.pseudo_skills import backends

    with pytest.raises(ValueError, match="this faiss has no GPU support"):
        backends.load("faiss")(torch.eye(2), torch.device("cuda"))


WRONG: list[tuple[str, Any]] = [
    ("k", 0),
    ("k", "many"),
    ("candidates", [4, 2]),
    ("candidates", [1]),
    ("sweep_rows", 1),
    ("space", "pictures"),
    ("space", ["gradients", "gradients"]),
    ("space", []),
    ("iterations", 0),
    ("tolerance", -1.0),
    ("tolerance", 1.0),
    ("restarts", 0),
    ("batch", -1),
    ("backend", "sklearn"),
    ("device", "gpu"),
    ("threads", -1),
    ("block", 0),
    ("label_rows", 0),
    ("seed", -1),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
@pytest.mark.usefixtures("unchecked")  # the signatures, which would refuse a wrong type first
def test_parameters_are_checked(key: str, value: Any) -> None:
    shown = value[-1] if isinstance(value, list) and value else value
    with pytest.raises(ValueError, match=rf"^pseudo_skills\.{key} must .*{shown if value else ''}") as error:
        params(**{key: value})
    assert "\n" not in str(error.value)
