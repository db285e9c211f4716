"""Bounds, blocks and threads change no decision: the result is that of the rules applied to all exact cosines."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.pruning import bound_cascade, rules
from adapt_infinity.pruning.bound_cascade import CASCADES, build_cascade, choose_device
from adapt_infinity.pruning.cosines import GRID, grid_rows, pair_cosines, products, rounded
from adapt_infinity.pruning.nearest import Neighbours, SearchCounts
from tests.conftest import examples

CPU = torch.device("cpu")
RULES, SCREENINGS = rules.names(), sorted(CASCADES)


@pytest.fixture(autouse=True, scope="module")
def few_directions() -> Iterator[None]:
    """Use so few directions that the rows of a test have a remainder, as the rows of large clusters have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bound_cascade, "DIRECTIONS", 2)
        yield


def on_grid(rows: np.ndarray) -> np.ndarray:
    all_rows = np.arange(len(rows))
    return grid_rows(rows, all_rows, all_rows)


def neighbours(rows: np.ndarray, name: str, block: int, shortlist_size: int) -> Neighbours:
    return Neighbours(rows, build_cascade(rows, name, CPU), block, shortlist_size, SearchCounts())


def all_cosines(rows: np.ndarray) -> np.ndarray:
    """All cosines from Python's integers, which do not round: not even double precision is trusted here."""
    steps = np.rint(rows * GRID).astype(np.int64).astype(object)
    return rounded((steps @ steps.T / int(GRID) ** 2).astype(np.float64)) if len(rows) else np.empty((0, 0))


def by_definition(
    rows: np.ndarray, rule: str, budget: int, protected: int
) -> tuple[list[bool], list[int], list[float]]:
    """The rule as its docstring defines it: every M is computed again at each step; of equally near rows, the
    first-ranked is the duplicate.
    """
    table = all_cosines(rows)
    before = np.where(np.tri(len(rows), k=-1, dtype=bool), table, -np.inf)
    kept = np.ones(len(rows), dtype=bool)
    while kept.sum() > max(budget, protected):
        highest = np.where(kept | (rule == "semdedup"), before, -np.inf).max(axis=1)
        highest[~kept] = -np.inf
        highest[:protected] = -np.inf
        leaving = np.flatnonzero(kept & (highest == highest.max()))
        kept[leaving[leaving >= protected][-1]] = False
    counted = before if rule == "semdedup" else np.where(kept, table, -np.inf)
    removed = counted[~kept]
    return kept.tolist(), removed.argmax(axis=1).tolist(), removed.max(axis=1).tolist()


def adversarial(seed: int, n: int, dim: int) -> np.ndarray:
    """Near-ties within the error of half precision, exact copies, rows of zeros and tiny rows."""
    rng = np.random.default_rng(seed)
    distance = rng.choice([1e-5, 1e-3, 0.3, 3])
    rows = rng.normal(size=(3, dim))[rng.integers(0, 3, n)] + distance * rng.normal(size=(n, dim))
    share = rng.choice([0, 0.1])  # of special rows; without any, chains of similar rows are longest
    rows[rng.random(n) < 2 * share] = rows[0]
    rows[rng.random(n) < share] *= 3  # copies of another length
    rows[rng.random(n) < share] = 0
    rows[rng.random(n) < share] *= 1e-30
    return rows


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SCREENINGS)
@given(
    st.integers(0, 10**6),
    st.integers(2, 60),
    st.sampled_from([1, 2, 5, 70]),
    st.data(),
    st.sampled_from([1, 7, 1000]),
    st.sampled_from([1, 3, 16]),
)
@examples(40)
def test_every_cascade_gives_the_result_of_the_rule(
    rule: str, name: str, seed: int, n: int, dim: int, data: st.DataObject, block: int, shortlist_size: int
) -> None:
    """The result does not depend on the block size or on the length of the shortlists."""
    budget, protected = data.draw(st.integers(1, n - 1)), data.draw(st.integers(0, n // 2))
    if protected > budget:
        protected = budget
    rows = on_grid(adversarial(seed, n, dim))
    kept, duplicate_of, cosine = rules.load(rule)(neighbours(rows, name, block, shortlist_size), budget, protected)
    found = kept.tolist(), duplicate_of.tolist(), cosine.tolist()
    assert found == by_definition(rows, rule, budget, protected)


@pytest.mark.parametrize("rule", RULES)
def test_a_cluster_of_many_blocks_has_the_same_result_under_every_cascade(rule: str) -> None:
    """Very close near-duplicates: half precision alone finds a wrong nearest row, verification finds the right one."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 48))[rng.integers(0, 60, 700)] + 0.02 * rng.normal(size=(700, 48))
    rows = on_grid(rows.astype(np.float16))
    found = {}
    for name in SCREENINGS:
        search = neighbours(rows, name, 128, 16)
        found[name] = [part.tolist() for part in rules.load(rule)(search, 300, 5)]
        assert name != "half" or search.counts.misordered > 0
    assert all(result == found["none"] for result in found.values())


@pytest.mark.parametrize("name", SCREENINGS)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([1, 3, 130, 400]))
@examples(25)
def test_no_cosine_is_above_its_bound(name: str, seed: int, n: int, dim: int) -> None:
    rows = on_grid(adversarial(seed, n, dim))
    all_rows = np.arange(n)
    exact = products(torch.from_numpy(rows), all_rows, all_rows, double=True, block=n)
    for level in build_cascade(rows, name, CPU):
        assert (exact <= level.upper_bounds(all_rows, all_rows, 7).double() + level.slack).all(), level.name


def test_the_projection_gives_a_tight_bound() -> None:
    """For rows that lie along few directions, the bound is hardly above the cosine."""
    rng = np.random.default_rng(0)
    rows = on_grid(rng.normal(size=(300, 2)) @ rng.normal(size=(2, 600)) + 0.001 * rng.normal(size=(300, 600)))
    all_rows = np.arange(300)
    level = build_cascade(rows, "projection", CPU)[0]
    exact = products(torch.from_numpy(rows), all_rows, all_rows, double=True, block=300)
    assert (level.upper_bounds(all_rows, all_rows, 300).double() + level.slack - exact).max() < 1e-3


@given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([1, 5, 300]))
@examples(40)
def test_cosines_are_exact(seed: int, n: int, dim: int) -> None:
    """Unlimited integers give the same as double precision, pair by pair and in products of any block size."""
    rows = on_grid(adversarial(seed, n, dim))
    all_rows = np.arange(n)
    expected = all_cosines(rows)
    for block in (*range(1, 9), 100):
        table = products(torch.from_numpy(rows), all_rows, all_rows, double=True, block=block)
        assert rounded(table.numpy()).tolist() == expected.tolist()
    left, right = np.divmod(np.arange(n * n), n)
    assert pair_cosines(rows, left, right).tolist() == expected.ravel().tolist()


def test_threads_change_nothing() -> None:
    """The products are large enough to be split over threads."""
    rng = np.random.default_rng(1)
    rows = on_grid(rng.normal(size=(900, 3))[rng.integers(0, 900, 900)] @ rng.normal(size=(3, 256)))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            kept, duplicate_of, cosine = rules.load("greedy")(neighbours(rows, "single", 300, 16), 400, 0)
            found.append((kept.tolist(), duplicate_of.tolist(), cosine.tolist()))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_rows_get_length_one_whatever_their_precision() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [6e-8, 0.0], [-65504.0, 0.0]])
    expected = np.array([[0.6, 0.8], [0, 0], [1, 0], [-1, 0]])
    for precision in (np.float16, np.float32, np.float64):
        unit = on_grid(rows.astype(precision))
        np.testing.assert_allclose(unit, expected, atol=2**-25)
        assert ((unit * GRID) % 1 == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(value: float) -> None:
    rows = np.ones((5, 3), dtype=np.float16)
    rows[3, 1] = value
    with pytest.raises(ValueError, match=r"embedding is not finite for 1 samples, first \[70\]"):
        grid_rows(rows, np.array([4, 3, 0]), np.array([60, 70, 80]))


def test_a_missing_gpu_is_an_error_that_names_it() -> None:
    assert choose_device("cpu") == CPU
    with pytest.raises(ValueError, match=r"pruning\.device is cuda:99, but torch sees"):
        choose_device("cuda:99")
