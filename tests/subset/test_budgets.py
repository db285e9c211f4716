"""Water-filling: sums are exact, shares do not exceed groups, and small groups are taken whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.subset.budgets import at_least, equal_shares, shuffled, take, weighted_shares

SIZES = st.lists(st.integers(0, 50) | st.integers(0, 10**12), max_size=20).map(
    lambda sizes: np.array(sizes, dtype=np.int64)
)
BUDGETS = st.integers(0, 200) | st.integers(0, 10**13)
WEIGHTS = st.floats(0, 1e6) | st.sampled_from([0.0, 1e-300, 5e-324, 1e300])


def one_by_one(sizes: np.ndarray, budget: int) -> list[int]:
    """The definition (docs/method.md, section 5): from the smallest group on, min(size, remaining // groups left)."""
    shares, remaining = [0] * len(sizes), min(budget, int(sizes.sum()))
    for left, group in zip(range(len(sizes), 0, -1), np.lexsort((-np.arange(len(sizes)), sizes)), strict=True):
        shares[group] = min(int(sizes[group]), remaining // left)
        remaining -= shares[group]
    return shares


def test_by_hand() -> None:
    """10 over groups of 1, 9, 4: the first is taken whole, the others share 9, and the odd row goes to the largest."""
    assert equal_shares(np.array([1, 9, 4]), 10).tolist() == [1, 5, 4]
    assert equal_shares(np.array([3, 3, 3]), 4).tolist() == [2, 1, 1]
    assert equal_shares(np.array([0, 2]), 0).tolist() == [0, 0]
    assert equal_shares(np.array([0, 2]), 7).tolist() == [0, 2]
    assert equal_shares(np.array([], dtype=np.int64), 7).tolist() == []


@given(SIZES, BUDGETS)
def test_equal_shares_agree_with_the_definition(sizes: np.ndarray, budget: int) -> None:
    shares = equal_shares(sizes, budget)
    assert shares.tolist() == one_by_one(sizes, budget)
    assert shares.sum() == min(budget, sizes.sum())
    assert (shares <= sizes).all()
    short = shares < sizes
    if short.any():  # groups that are not taken whole have the largest share, except for the remainder
        assert shares[short].min() >= shares.max() - 1


@pytest.mark.filterwarnings("error")
@given(st.data(), SIZES, BUDGETS)
def test_weighted_shares_are_exact_and_bounded(data: st.DataObject, sizes: np.ndarray, budget: int) -> None:
    weights = np.array(data.draw(st.lists(WEIGHTS, min_size=len(sizes), max_size=len(sizes))), dtype=np.float64)
    shares = weighted_shares(sizes, weights, budget)
    assert shares.sum() == min(budget, sizes.sum())
    assert (shares <= sizes).all()
    assert (shares >= 0).all()


@given(SIZES, BUDGETS, st.sampled_from([0.0, 0.1, 1.0, 3e7]))
def test_equal_weights_are_equal_shares(sizes: np.ndarray, budget: int, weight: float) -> None:
    assert weighted_shares(sizes, np.full(len(sizes), weight), budget).tolist() == equal_shares(sizes, budget).tolist()


def test_weighted_by_hand() -> None:
    """100 in proportion 1 : 2 : 7 is 10, 20, 70; a surplus is divided over the others; weight 0 comes last."""
    assert weighted_shares(np.array([90, 90, 90]), np.array([1.0, 2.0, 7.0]), 100).tolist() == [10, 20, 70]
    assert weighted_shares(np.array([90, 90, 10]), np.array([1.0, 2.0, 7.0]), 100).tolist() == [30, 60, 10]
    assert weighted_shares(np.array([5, 5, 9]), np.array([1.0, 0.0, 0.0]), 8).tolist() == [5, 1, 2]


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_a_wrong_weight_is_an_error(weight: float) -> None:
    with pytest.raises(ValueError, match="weights"):
        weighted_shares(np.array([1, 2]), np.array([1.0, weight]), 2)


def test_a_negative_budget_is_an_error() -> None:
    with pytest.raises(ValueError, match="-1"):
        equal_shares(np.array([1]), -1)


def test_take_by_hand() -> None:
    """The queue is 3 2 1 0: of group 0 (rows 0, 2, 3) the first two are 3 and 2; group 2 has a share of 0."""
    taken = take(np.array([0, 1, 0, 0, 2]), np.array([2, 1, 0]), np.array([3, 2, 1, 0, 4]))
    assert taken.tolist() == [False, True, True, True, False]


@given(st.permutations(range(12)))
def test_a_shuffle_depends_on_ids_only(order: list[int]) -> None:
    ids = np.arange(12) * 5
    listed = ids[order]
    expected = ids[shuffled(ids, np.random.default_rng(3))]
    assert listed[shuffled(listed, np.random.default_rng(3))].tolist() == expected.tolist()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8), st.integers(0, 200))
def test_least_shares_are_given_and_the_sum_is_exact(rows: list[tuple[int, int]], budget: int) -> None:
    sizes = np.array([max(row) for row in rows], dtype=np.int64)
    least = np.array([min(row) for row in rows], dtype=np.int64)
    budget = max(budget, int(least.sum()))
    shares = at_least(lambda some, left: equal_shares(sizes[some], left), least, budget)
    assert shares.sum() == min(budget, sizes.sum())
    assert ((least <= shares) & (shares <= sizes)).all()
    free = shares > least
    if free.any() and budget < sizes.sum():
        level = shares[free & (shares < sizes)]
        assert len(level) == 0 or level.max() - level.min() <= 1
