"""The engine: it does what Lloyd's iteration does, in bounded memory."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from adapt_infinity.pseudo_skills import backends, kmeans
from adapt_infinity.pseudo_skills.kmeans import assign, means, spherical_kmeans
from adapt_infinity.pseudo_skills.seeding import first_centroids, most_needed
from adapt_infinity.pseudo_skills.unit_rows import PIECE, UnitRows, unit_rows, workers
from tests.pseudo_skills.planted import planted, searching


def plain_lloyd(rows: np.ndarray, centroids: np.ndarray, iterations: int) -> np.ndarray:
    """The textbook, without bounds: labels after so many moves."""
    for _ in range(iterations):
        labels = (rows @ centroids.T).argmax(axis=1)
        sums = np.stack([rows[labels == cluster].sum(axis=0) for cluster in range(len(centroids))])
        centroids = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return (rows @ centroids.T).argmax(axis=1)


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 12))
@settings(max_examples=20, deadline=None)
def test_bounds_change_nothing(seed: int, k: int, iterations: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(PIECE // 8, 6)).astype(np.float32)
    with searching(data) as (rows, search):
        start = rows.take(np.arange(k))
        expected = plain_lloyd(rows.take(slice(None)).double().numpy(), start.double().numpy(), iterations)
        partition = kmeans._unassigned(rows, start, search)
        for _ in range(iterations):
            kmeans._reassign(rows, partition, start, search)
            start = kmeans._move(rows, partition, start)
        kmeans._reassign(rows, partition, start, search)
    assert (partition.labels == expected).mean() >= 1 - 2 / len(data)  # a tie may fall either way
    assert partition.sizes.tolist() == np.bincount(partition.labels, minlength=k).tolist()


def test_late_iterations_read_few_rows() -> None:
    rows, _ = planted(n=2 * PIECE, skills=8)
    asked: list[int] = []

    def counting(centroids: torch.Tensor, device: torch.device) -> backends.Nearest:
        nearest = backends.load("torch")(centroids, device)

        def counted(block: torch.Tensor) -> backends.Found:
            asked.append(len(block))
            return nearest(block)

        return counted

    with searching(rows.astype(np.float32)) as (unit, search):
        search = kmeans.KMeansParams(**{**vars(search), "searcher": counting})
        start = first_centroids(unit.take(slice(None)), 8, np.random.default_rng(0))
        asked.clear()
        moves = kmeans._lloyd(unit, start, search)
    assert moves[1].sizes.all()
    assert sum(asked) < 2.5 * len(rows)


def test_swaps_find_rare_skills_beside_large_ones() -> None:
    """Sixty skills, the largest of 1,300 rows and the smallest of 16: k-means++ alone gives large ones several."""
    rng = np.random.default_rng(0)
    shares = np.maximum(1 / np.arange(1, 61), 0.012)
    skill = rng.choice(60, 6000, p=shares / shares.sum())
    data = (rng.normal(size=(60, 96))[skill] + rng.normal(size=(6000, 96))).astype(np.float32)
    with searching(data, restarts=1) as (rows, search):
        found = spherical_kmeans(rows, 60, 0, search)
        again = spherical_kmeans(rows, 60, 0, search)
    assert found.labels.tolist() == again.labels.tolist()
    assert adjusted_rand_score(skill, found.labels) >= 0.95
    assert np.bincount(found.labels[skill == np.bincount(skill).argmin()]).max() >= 0.9 * np.bincount(skill).min()


def test_a_centroid_and_its_heir_do_not_both_go() -> None:
    """Three at two places: one of the twins is spare, and none of the others."""
    rows = torch.eye(3)[[0, 0, 0, 1, 1, 2]] + 0.01
    assert most_needed(rows, torch.eye(3)[[0, 0, 1, 2]] + 0.01, 1).tolist() in ([0, 2, 3], [1, 2, 3])
    twins = torch.tensor([[1.0, 0.1, 0], [1, 0.1, 0], [0, 0, 1]])
    assert len({0, 1} & set(most_needed(twins, twins, 2).tolist())) == 1


def test_an_empty_cluster_moves_to_the_farthest_row() -> None:
    """Both centroids lie on e1, so the second has no row; e2 is the farthest."""
    with searching(np.eye(3, dtype=np.float32)[[0, 0, 1]]) as (rows, search):
        start = torch.eye(3)[[0, 0]]
        found = kmeans._settle(rows, start, kmeans._unassigned(rows, start, search), search)
        moved, _ = kmeans._lloyd(rows, start, search)
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
    monkeypatch.setattr(kmeans, "_swap", lambda sample, seeds, centroids, *_: centroids)
    rows, _ = planted(n=600, dim=16, skills=30)
    totals = []
    for restarts in (1, 2, 10):
        with searching(rows.astype(np.float32), restarts=restarts) as (unit, search):
            totals.append(float(spherical_kmeans(unit, 30, 0, search).similarity.sum()))
    assert totals == sorted(totals)
    assert totals[-1] > totals[0]


def test_mini_batches_come_near() -> None:
    """Within 1 % of Lloyd's inertia, and the same clusters."""
    rows, _ = planted(n=3000, skills=12)
    inertia = []
    for batch in (0, 256):
        with searching(rows.astype(np.float32), batch=batch) as (unit, search):
            found = spherical_kmeans(unit, 12, 0, search)
            inertia.append(float((2 - 2 * found.similarity).sum()))
    assert inertia[1] <= 1.01 * inertia[0]


def test_means_by_hand() -> None:
    with searching(np.array([[2.0, 0], [0, 1], [0, 3], [1, 1]], dtype=np.float32)) as (rows, search):
        directions, sizes = means(rows, np.array([0, 0, 1, -1]), 3, search)
        labels = assign(rows, torch.eye(2), search)
    assert directions.tolist() == [pytest.approx([0.5**0.5] * 2), [0, 1], [0, 0]]
    assert sizes.tolist() == [2, 1, 0]
    assert labels[:3].tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", backends.names())
def test_every_engine_bounds_what_it_finds(name: str) -> None:
    rng = np.random.default_rng(0)
    rows, centroids = (torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(n, 32)))) for n in (50, 7))
    label, at_least, at_most = backends.load(name)(centroids.float(), torch.device("cpu"))(rows.float())
    cosines, at = rows @ centroids.T, torch.arange(50)
    assert (label == cosines.argmax(dim=1)).all()
    assert (at_least <= cosines[at, label]).all()
    assert (at_least >= cosines[at, label] - 1e-5).all()
    others = cosines.clone()
    others[at, label] = -2
    assert (at_most >= others.amax(dim=1)).all()
    assert (at_most <= others.amax(dim=1) + 1e-5).all()


@pytest.mark.parametrize("name", backends.names())
def test_every_engine_knows_equals_and_a_single_one(name: str) -> None:
    label, _, at_most = backends.load(name)(torch.eye(2)[[0, 0, 1]], torch.device("cpu"))(torch.eye(2))
    assert label.tolist() in ([0, 2], [1, 2])
    assert at_most[0] >= 1
    alone, _, none = backends.load(name)(torch.eye(2)[:1], torch.device("cpu"))(torch.eye(2))
    assert alone.tolist() == [0, 0]
    assert (none < -1).all()


def test_at_most_a_block_is_read_at_a_time() -> None:
    """What is taken between two releases is never more than the block."""
    reads: list[int] = []

    class Watched(np.ndarray):
        def __getitem__(self, which: Any) -> Any:
            part = super().__getitem__(which)
            if np.ndim(part) == 2:
                reads.append(len(part))
            return np.asarray(part)

    array = np.random.default_rng(0).normal(size=(5 * PIECE, 4)).astype(np.float16).view(Watched)
    with workers(2, 2 * PIECE) as each:
        rows = unit_rows([array], np.arange(len(array)), ["rows"], each)
        assert max(reads) == PIECE
        held, most = 0, 0
        for count in each(rows, lambda here: len(rows.take(here))):
            held += count
            most = max(most, held)
            held = 0 if held == 2 * PIECE else held
    assert most == 2 * PIECE


PEAK = """
import sys
from pathlib import Path
import numpy as np, torch
from adapt_infinity.pseudo_skills import backends
from adapt_infinity.pseudo_skills.kmeans import KMeansParams, spherical_kmeans
from adapt_infinity.pseudo_skills.unit_rows import unit_rows, workers
rows = np.load(sys.argv[1], mmap_mode="r")
few = rows[:100]

def run(rows):
    with workers(1, 4096) as each:
        search = KMeansParams(each, backends.load("torch"), torch.device("cpu"), 2, 0.0, 1, 0)
        spherical_kmeans(unit_rows([rows], np.arange(len(rows)), ["rows"], each), 64, 0, search)
    status = Path("/proc/self/status").read_text()  # getrusage would tell of the parent, too
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

before = run(np.array(few))
print(run(rows) - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 320 MB is clustered in less than half of it, mapped pages counted."""
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


def test_rows_are_released(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((1000, 1024), dtype=np.float16))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    rows = UnitRows((mapped[10:],), (np.full(990, 32, dtype=np.float32),))
    assert rows.take(slice(None)).sum() == pytest.approx(990 * 32)
    assert _resident(tmp_path / "rows.npy") > 500
    rows.release()
    assert _resident(tmp_path / "rows.npy") == 0
    assert rows.take(slice(0, 1)).sum() == pytest.approx(32)


def _resident(path: Path) -> int:
    """Kilobytes of a mapped file that are in this process's memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith(str(path)))
    return int(next(line for line in lines[at:] if line.startswith("Rss:")).split()[1])
