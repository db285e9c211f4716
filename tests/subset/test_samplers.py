"""Samplers: the contract of all, and the rule of each."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.subset import samplers
from adapt_infinity.subset.params import SubsetParams
from adapt_infinity.subset.samplers import Members, ccs
from tests.conftest import examples
from tests.subset.defaults import subset_params

NAMES = samplers.names()
SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0, -3.0]) | st.floats(-1e9, 1e9), max_size=80)


def params(sampler: str = "ccs", strata: int = 50, cut: float = 0.0, cut_tails: bool = False) -> SubsetParams:
    return subset_params(budget=1, sampler=sampler, strata=strata, cut=cut, cut_tails=cut_tails)


def vectors(ids: np.ndarray) -> np.ndarray:
    """One random direction per sample id."""
    rows = np.array([np.random.default_rng(sample_id).normal(size=5) for sample_id in ids]).reshape(len(ids), 5)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def sampled(
    name: str, scores: list[float], ids: list[int], budget: int, settings: SubsetParams, seed: int = 0
) -> tuple[dict[int, bool], dict[int, int]]:
    """Whether each sample is selected, and its stratum, by sample id."""
    sample = samplers.load(name)
    numbers = np.array(ids, dtype=np.int64)
    members = Members(numbers, np.array(scores, dtype=np.float64), lambda: vectors(numbers))
    selected, stratum = sample(members, budget, np.random.default_rng(seed), settings)
    return dict(zip(ids, selected.tolist(), strict=True)), dict(zip(ids, stratum.tolist(), strict=True))


def picked(
    name: str, scores: list[float], budget: int, settings: SubsetParams | None = None, seed: int = 0
) -> list[int]:
    """The selected ids, where the ids are 0, 1, …"""
    selected, _ = sampled(name, scores, list(range(len(scores))), budget, settings or params(name), seed)
    return [sample_id for sample_id, chosen in selected.items() if chosen]


@pytest.mark.parametrize("name", NAMES)
@given(SCORES, st.integers(0, 100), st.floats(0, 0.99), st.booleans(), st.integers(1, 60))
@examples(60)
def test_the_count_is_exact(name: str, scores: list[float], budget: int, cut: float, tails: bool, strata: int) -> None:
    assert len(picked(name, scores, budget, params(name, strata, cut, tails))) == min(budget, len(scores))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_draws_the_same_rows(name: str) -> None:
    scores = np.random.default_rng(0).normal(size=200).tolist()
    assert picked(name, scores, 50) == picked(name, scores, 50)


@pytest.mark.parametrize("name", ["ccs", "random"])
def test_another_seed_draws_other_rows(name: str) -> None:
    scores = np.random.default_rng(0).normal(size=200).tolist()
    assert picked(name, scores, 50, seed=0) != picked(name, scores, 50, seed=1)


@pytest.mark.parametrize("name", ["ccs", "random"])
def test_draws_are_uniform(name: str) -> None:
    """Rows with equal scores are drawn equally often: 3 of 10 rows, 600 times, are 180 ± 11 draws of each."""
    counts = np.zeros(10)
    for seed in range(600):
        counts[picked(name, [1.0] * 10, 3, seed=seed)] += 1
    assert (np.abs(counts - 180) < 50).all()


def test_top_bottom_and_middle_by_hand() -> None:
    scores = [3.0, 1.0, 2.0, 5.0, 4.0]
    assert picked("top", scores, 2) == [3, 4]
    assert picked("bottom", scores, 2) == [1, 2]
    assert picked("middle", scores, 3) == [0, 2, 4]
    assert picked("middle", scores, 2) == [0, 2]
    assert picked("top", [1.0, 1.0, 1.0], 2) == [0, 1]


def test_ccs_takes_rare_strata_whole() -> None:
    """90 easy rows, 2 hard ones and one between them: each stratum gives up to 4 rows, so the rare ones give all."""
    scores = [0.0] * 90 + [1.0, 1.0, 0.5]
    selected = picked("ccs", scores, 12, params(strata=3))
    assert selected[-3:] == [90, 91, 92]
    assert len(selected) == 12


def test_ccs_strata_by_hand() -> None:
    _, stratum = sampled("ccs", [0.0, 0.24, 0.26, 0.5, 1.0], [1, 2, 3, 4, 5], 2, params(strata=4))
    assert list(stratum.values()) == [0, 0, 1, 2, 3]


def test_ccs_fills_strata_from_the_smallest() -> None:
    """Strata of 1, 5, 10 and a budget of 9: 1, then 8 // 2 = 4, then the last 4."""
    scores = [0.0] * 1 + [0.5] * 5 + [1.0] * 10
    selected = np.array(picked("ccs", scores, 9, params(strata=3)))
    assert [(selected < 1).sum(), ((selected >= 1) & (selected < 6)).sum(), (selected >= 6).sum()] == [
        1,
        4,
        4,
    ]


def test_ccs_takes_cut_rows_last() -> None:
    """Of ten rows the hardest 30 % are cut: first the other 7 are taken, then the easiest cut one."""
    scores = [float(row) for row in range(10)]
    assert picked("ccs", scores, 7, params(cut=0.3)) == [0, 1, 2, 3, 4, 5, 6]
    assert picked("ccs", scores, 8, params(cut=0.3)) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert picked("ccs", scores, 10, params(cut=0.3)) == list(range(10))
    _, stratum = sampled("ccs", scores, list(range(10)), 7, params(cut=0.3))
    assert [sample_id for sample_id, number in stratum.items() if number == -1] == [7, 8, 9]


def test_ccs_takes_cut_tails_alternately() -> None:
    scores = [float(row) for row in range(40)]
    assert picked("ccs", scores, 36, params(cut_tails=True)) == list(range(2, 38))
    assert picked("ccs", scores, 37, params(cut_tails=True)) == list(range(1, 38))
    assert picked("ccs", scores, 38, params(cut_tails=True)) == list(range(1, 39))
    assert picked("ccs", scores, 39, params(cut_tails=True)) == list(range(39))


def test_a_cut_leaves_at_least_one_row() -> None:
    """Strata need at least one row."""
    assert ccs._kept_range(100, params(cut=0.99, cut_tails=True)) == (5, 6)
    assert ccs._kept_range(1, params(cut=0.99, cut_tails=True)) == (0, 1)


def selected_rows(name: str, rows: np.ndarray, budget: int) -> list[int]:
    """The rows that a sampler takes when it compares vectors."""
    members = Members(np.arange(len(rows)), np.zeros(len(rows)), lambda: rows)
    selected, _ = samplers.load(name)(members, budget, np.random.default_rng(0), params(name))
    return np.flatnonzero(selected).tolist()


def circle(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_k_center_by_hand() -> None:
    """First the most central row, then the one farthest from it, then the one farthest from both."""
    rows = circle(0, 10, 20, 40, 90)
    assert selected_rows("k_center", rows, 1) == [3]
    assert selected_rows("k_center", rows, 2) == [3, 4]
    assert selected_rows("k_center", rows, 3) == [0, 3, 4]


@given(st.integers(0, 10**6), st.integers(1, 3))
@examples(25)
def test_k_center_is_within_twice_the_best(seed: int, budget: int) -> None:
    rows = vectors(np.arange(seed, seed + 8))

    def largest_distance(taken: tuple[int, ...]) -> float:
        angles = np.arccos((rows @ rows[list(taken)].T).clip(-1, 1))
        return float(angles.min(axis=1).max())

    best = min(map(largest_distance, combinations(range(8), budget)))
    assert largest_distance(tuple(selected_rows("k_center", rows, budget))) <= 2 * best + 1e-3


def objective(rows: np.ndarray, taken: list[int]) -> float:
    return float((1 + rows.astype(np.float64) @ rows[taken].T).max(axis=1).sum())


@given(st.integers(0, 10**6), st.integers(1, 6))
@examples(25)
def test_lazy_facility_location_equals_the_greedy_one(seed: int, budget: int) -> None:
    """Each sample that a larger budget adds has the best gain, up to the rounding of gains."""
    rows = vectors(np.arange(seed, seed + 12))
    taken: list[int] = []
    for count in range(1, budget + 1):
        best = max(objective(rows, [*taken, row]) for row in set(range(12)) - set(taken))
        (added,) = set(selected_rows("facility_location", rows, count)) - set(taken)
        taken.append(added)
        assert objective(rows, taken) == pytest.approx(best, abs=1e-3)


def test_facility_location_takes_from_both_groups() -> None:
    rows = circle(*range(0, 10), *range(90, 94))
    assert [row >= 10 for row in selected_rows("facility_location", rows, 2)] == [False, True]


def test_duplicates_are_taken_last_in_the_order_of_ids() -> None:
    rows = circle(0, 0, 0, 60, 120)
    for name in ("k_center", "facility_location"):
        assert selected_rows(name, rows, 3) == [0, 3, 4], name
