"""Spherical k-means gives the result of Lloyd's iteration, in bounded memory."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from adapt_infinity.pseudo_skills import backends, kmeans
from adapt_infinity.pseudo_skills.kmeans import assign, means, spherical_kmeans
from adapt_infinity.pseudo_skills.seeding import first_centroids, most_needed
from adapt_infinity.pseudo_skills.unit_rows import PIECE_ROWS, UnitRows, piece_threads, unit_rows
from tests.conftest import examples
from tests.pseudo_skills.planted import kmeans_inputs, planted


def plain_lloyd(rows: np.ndarray, centroids: np.ndarray, iterations: int) -> np.ndarray:
    """Lloyd's iteration without bounds: the labels after `iterations` moves."""
    for _ in range(iterations):
        labels = (rows @ centroids.T).argmax(axis=1)
        sums = np.stack([rows[labels == cluster].sum(axis=0) for cluster in range(len(centroids))])
        centroids = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return (rows @ centroids.T).argmax(axis=1)


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 12))
@examples(20)
def test_bounds_do_not_change_the_result(seed: int, k: int, iterations: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(PIECE_ROWS // 8, 6)).astype(np.float32)
    with kmeans_inputs(data) as (rows, kmeans_params):
        start = rows.take(np.arange(k))
        expected = plain_lloyd(rows.take(slice(None)).double().numpy(), start.double().numpy(), iterations)
        partition = kmeans._unassigned(rows, start, kmeans_params)
        for _ in range(iterations):
            kmeans._reassign(rows, partition, start, kmeans_params)
            start = kmeans._move(rows, partition, start)
        kmeans._reassign(rows, partition, start, kmeans_params)
    assert (partition.labels == expected).mean() >= 1 - 2 / len(data)  # ties may be broken either way
    assert partition.sizes.tolist() == np.bincount(partition.labels, minlength=k).tolist()


def test_late_iterations_read_few_rows() -> None:
    rows, _ = planted(n=2 * PIECE_ROWS, skills=8)
    compared: list[int] = []

    def counting(centroids: torch.Tensor, device: torch.device) -> backends.FindNearest:
        nearest = backends.load("torch")(centroids, device)

        def counted(block: torch.Tensor) -> backends.LabelsAndBounds:
            compared.append(len(block))
            return nearest(block)

        return counted

    with kmeans_inputs(rows.astype(np.float32)) as (unit, kmeans_params):
        kmeans_params = kmeans.KMeansParams(**{**vars(kmeans_params), "searcher": counting})
        start = first_centroids(unit.take(slice(None)), 8, np.random.default_rng(0))
        compared.clear()
        moves = kmeans._lloyd(unit, start, kmeans_params)
    assert moves[1].sizes.all()
    assert sum(compared) < 2.5 * len(rows)


def test_swaps_find_rare_skills_beside_large_ones() -> None:
    """Sixty skills, the largest of 1,300 rows and the smallest of 16: k-means++ alone misses small ones."""
    rng = np.random.default_rng(0)
    shares = np.maximum(1 / np.arange(1, 61), 0.012)
    skill = rng.choice(60, 6000, p=shares / shares.sum())
    data = (rng.normal(size=(60, 96))[skill] + rng.normal(size=(6000, 96))).astype(np.float32)
    with kmeans_inputs(data, restarts=1) as (rows, kmeans_params):
        found = spherical_kmeans(rows, 60, 0, kmeans_params)
        again = spherical_kmeans(rows, 60, 0, kmeans_params)
    assert found.labels.tolist() == again.labels.tolist()
    assert adjusted_rand_score(skill, found.labels) >= 0.95
    assert np.bincount(found.labels[skill == np.bincount(skill).argmin()]).max() >= 0.9 * np.bincount(skill).min()


def test_two_centroids_that_need_each_other_are_not_both_removed() -> None:
    """Of two equal centroids one can be removed; the other two are needed."""
    rows = torch.eye(3)[[0, 0, 0, 1, 1, 2]] + 0.01
    assert most_needed(rows, torch.eye(3)[[0, 0, 1, 2]] + 0.01, 1).tolist() in ([0, 2, 3], [1, 2, 3])
    equal_pair = torch.tensor([[1.0, 0.1, 0], [1, 0.1, 0], [0, 0, 1]])
    assert len({0, 1} & set(most_needed(equal_pair, equal_pair, 2).tolist())) == 1


def test_an_empty_cluster_moves_to_the_farthest_row() -> None:
    """Both centroids lie on e1, so the second has no row; e2 is the farthest."""
    with kmeans_inputs(np.eye(3, dtype=np.float32)[[0, 0, 1]]) as (rows, kmeans_params):
        start = torch.eye(3)[[0, 0]]
        found = kmeans._fill_empty_clusters(rows, start, kmeans._unassigned(rows, start, kmeans_params), kmeans_params)
        moved, _ = kmeans._lloyd(rows, start, kmeans_params)
    assert found.labels.tolist() == [0, 0, 1]
    assert found.similarity.tolist() == [1, 1, 1]
    assert moved.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_the_first_centroids_are_far_apart() -> None:
    """Three directions, of very different sizes: each gets a centroid."""
    rows = torch.eye(3)[[0] * 500 + [1] * 20 + [2]]
    picked = first_centroids(rows, 3, np.random.default_rng(0))
    assert sorted(picked.argmax(dim=1).tolist()) == [0, 1, 2]
    kept = first_centroids(rows, 3, np.random.default_rng(0), given=torch.eye(3)[[1]])
    assert kept[0].tolist() == [0, 1, 0]
    assert sorted(kept.argmax(dim=1).tolist()) == [0, 1, 2]


def test_the_best_of_several_starts_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "_improve_by_swaps", lambda sample, seeds, centroids, *_: centroids)
    rows, _ = planted(n=600, dim=16, skills=30)
    totals = []
    for restarts in (1, 2, 10):
        with kmeans_inputs(rows.astype(np.float32), restarts=restarts) as (unit, kmeans_params):
            totals.append(float(spherical_kmeans(unit, 30, 0, kmeans_params).similarity.sum()))
    assert totals == sorted(totals)
    assert totals[-1] > totals[0]


def test_mini_batches_are_almost_as_good() -> None:
    """Within 1 % of Lloyd's inertia, and the same clusters."""
    rows, _ = planted(n=3000, skills=12)
    inertia = []
    for batch in (0, 256):
        with kmeans_inputs(rows.astype(np.float32), batch=batch) as (unit, kmeans_params):
            found = spherical_kmeans(unit, 12, 0, kmeans_params)
            inertia.append(float((2 - 2 * found.similarity).sum()))
    assert inertia[1] <= 1.01 * inertia[0]


def test_means_by_hand() -> None:
    with kmeans_inputs(np.array([[2.0, 0], [0, 1], [0, 3], [1, 1]], dtype=np.float32)) as (rows, kmeans_params):
        directions, sizes = means(rows, np.array([0, 0, 1, -1]), 3, kmeans_params)
        labels = assign(rows, torch.eye(2), kmeans_params)
    assert directions.tolist() == [pytest.approx([0.5**0.5] * 2), [0, 1], [0, 0]]
    assert sizes.tolist() == [2, 1, 0]
    assert labels[:3].tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", backends.names())
def test_the_bounds_of_every_backend_hold(name: str) -> None:
    rng = np.random.default_rng(0)
    rows, centroids = (torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(n, 32)))) for n in (50, 7))
    label, own_bound, others_bound = backends.load(name)(centroids.float(), torch.device("cpu"))(rows.float())
    cosines, row = rows @ centroids.T, torch.arange(50)
    assert (label == cosines.argmax(dim=1)).all()
    assert (own_bound <= cosines[row, label]).all()
    assert (own_bound >= cosines[row, label] - 1e-5).all()
    others = cosines.clone()
    others[row, label] = -2
    assert (others_bound >= others.amax(dim=1)).all()
    assert (others_bound <= others.amax(dim=1) + 1e-5).all()


@pytest.mark.parametrize("name", backends.names())
def test_every_backend_handles_equal_centroids_and_a_single_one(name: str) -> None:
    label, _, others_bound = backends.load(name)(torch.eye(2)[[0, 0, 1]], torch.device("cpu"))(torch.eye(2))
    assert label.tolist() in ([0, 2], [1, 2])
    assert others_bound[0] >= 1
    alone, _, none = backends.load(name)(torch.eye(2)[:1], torch.device("cpu"))(torch.eye(2))
    assert alone.tolist() == [0, 0]
    assert (none < -1).all()


def test_at_most_a_block_is_read_at_a_time() -> None:
    """Between two releases of mapped pages, never more than a block of rows is read."""
    reads: list[int] = []

    class Watched(np.ndarray):
        def __getitem__(self, index: Any) -> Any:
            part = super().__getitem__(index)
            if np.ndim(part) == 2:
                reads.append(len(part))
            return np.asarray(part)

    array = np.random.default_rng(0).normal(size=(5 * PIECE_ROWS, 4)).astype(np.float16).view(Watched)
    with piece_threads(2, 2 * PIECE_ROWS) as map_pieces:
        rows = unit_rows([array], np.arange(len(array)), ["rows"], map_pieces)
        assert max(reads) == PIECE_ROWS
        held, most = 0, 0
        for count in map_pieces(rows, lambda piece: len(rows.take(piece))):
            held += count
            most = max(most, held)
            held = 0 if held == 2 * PIECE_ROWS else held
    assert most == 2 * PIECE_ROWS


PEAK = """
import sys
from pathlib import Path
import numpy as np, torch
from adapt_infinity.pseudo_skills import backends
from adapt_infinity.pseudo_skills.kmeans import KMeansParams, spherical_kmeans
from adapt_infinity.pseudo_skills.unit_rows import unit_rows, piece_threads
rows = np.load(sys.argv[1], mmap_mode="r")
few = rows[:100]

def run(rows):
    with piece_threads(1, 4096) as map_pieces:
        kmeans_params = KMeansParams(map_pieces, backends.load("torch"), torch.device("cpu"), 2, 0.0, 1, 0)
        spherical_kmeans(unit_rows([rows], np.arange(len(rows)), ["rows"], map_pieces), 64, 0, kmeans_params)
    status = Path("/proc/self/status").read_text()  # getrusage would include the parent process, too
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

before = run(np.array(few))
print(run(rows) - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Clustering a file of 320 MB needs less memory than half of it, mapped pages included."""
    noise = np.random.default_rng(0).normal(size=(4096, 1024)).astype(np.float16)
    stored = np.lib.format.open_memmap(tmp_path / "rows.npy", mode="w+", dtype=np.float16, shape=(40 * 4096, 1024))
    for start in range(0, len(stored), 4096):
        stored[start : start + 4096] = noise
    stored.flush()
    size = stored.nbytes // 2**20
    del stored
    command = [sys.executable, "-c", PEAK, str(tmp_path / "rows.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < size / 2


def test_mapped_pages_are_released(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((1000, 1024), dtype=np.float16))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    rows = UnitRows((mapped[10:],), (np.full(990, 32, dtype=np.float32),))
    assert rows.take(slice(None)).sum() == pytest.approx(990 * 32)
    assert _resident(tmp_path / "rows.npy") > 500
    rows.release()
    assert _resident(tmp_path / "rows.npy") == 0
    assert rows.take(slice(0, 1)).sum() == pytest.approx(32)


def _resident(path: Path) -> int:
    """Kilobytes of a mapped file that are resident in this process."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith(str(path)))
    return int(next(line for line in lines[at:] if line.startswith("Rss:")).split()[1])
